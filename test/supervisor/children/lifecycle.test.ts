/** The restart budget: what a death costs, and whom it is blamed on. */
import { describe, expect, test } from '@jest/globals';
import { toTimestamp } from '../../../base/clock.ts';
import type { TurnDeath } from '../../../store/contract.ts';
import type { ExitCause } from '../../../supervisor/children/child.ts';
import { createRestartBudget, type RestartBudget } from '../../../supervisor/children/lifecycle.ts';
import { createSteppedClock, type SteppedClock } from '../stepped-clock.ts';

function createBudget(
  intensity: number,
  earlier: readonly TurnDeath[] = [],
): { clock: SteppedClock; budget: RestartBudget } {
  const clock = createSteppedClock();
  const policy = { type: 'transient' as const, intensity, periodMs: 60_000 };
  const random = { next: () => 0.5 };
  return { clock, budget: createRestartBudget({ clock, random, policy: () => policy, earlier }) };
}

const fruitless = { turn: 1, progress: false };
const kindsOf = (budget: RestartBudget, causes: readonly ExitCause[]): string[] =>
  causes.map((cause) => budget.onDeath(cause, fruitless).kind);
const crashes = (count: number): ExitCause[] => Array.from({ length: count }, () => 'crashed');

describe('deaths in a turn', () => {
  test('in a row and for nothing are blamed on its input', () => {
    const { budget } = createBudget(2);
    expect(kindsOf(budget, crashes(2))).toEqual(['restart', 'restart']);
    expect(budget.onDeath('crashed', fruitless)).toEqual({
      kind: 'poison',
      turn: 1,
      reason: 'the worker died 3 times within 60 s (last cause: crashed)',
    });
  });

  test('once in 59 s for ten minutes, the window being 60 s: never (FAULTS 5)', () => {
    const { clock, budget } = createBudget(1);
    for (let passedMs = 0; passedMs <= 600_000; passedMs += 59_000) {
      // One earlier death is within the window: a budget of 1 would not do for two.
      if (passedMs % 118_000 === 0) {
        expect(budget.onDeath('crashed', fruitless).kind).toBe('restart');
      }
      clock.advance(59_000);
    }
  });

  test('of a generation that committed something cost nothing', () => {
    const { budget } = createBudget(1);
    for (let count = 0; count < 20; count += 1) {
      expect(budget.onDeath('crashed', { turn: 1, progress: true }).kind).toBe('restart');
    }
    expect(kindsOf(budget, crashes(2))).toEqual(['restart', 'poison']);
  });

  test('are forgotten when something is committed meanwhile', () => {
    const { budget } = createBudget(2);
    expect(kindsOf(budget, crashes(2))).toEqual(['restart', 'restart']);
    budget.onProgress();
    expect(kindsOf(budget, crashes(3))).toEqual(['restart', 'restart', 'poison']);
  });

  test('out of memory, twice at one place: poison, whatever the budget (FAULTS 50)', () => {
    const { budget } = createBudget(100);
    expect(kindsOf(budget, ['memory', 'crashed', 'memory', 'memory'])).toEqual([
      ...['restart', 'restart', 'restart', 'poison'],
    ]);
  });

  test('ordered ones do not count', () => {
    const { budget } = createBudget(1);
    expect(kindsOf(budget, ['stopped', 'stopped', 'crashed'])).toEqual(['stop', 'stop', 'restart']);
  });
});

describe('deaths under an earlier supervisor', () => {
  const diedOf = (...causes: ExitCause[]): TurnDeath[] =>
    causes.map((cause) => ({ at: toTimestamp(0), cause }));

  test.each<[string, TurnDeath[], string | undefined]>([
    ['none', [], undefined],
    ['as many as are allowed', diedOf('crashed', 'crashed'), undefined],
    ['one more', diedOf('crashed', 'crashed', 'timeout'), 'the worker died 3 times within 60 s'],
    ['memory, twice in a row', diedOf('memory', 'memory'), 'the worker ran out of memory 2 times'],
    ['memory, and something else', diedOf('memory', 'crashed'), undefined],
  ])('say by themselves whether the input is to be set aside: %s', (_, earlier, expected) => {
    const reason = createBudget(2, earlier).budget.findPoison();
    expect(reason?.slice(0, expected?.length)).toBe(expected);
  });

  const diedAgo = (clock: SteppedClock, agoMs: number): TurnDeath => ({
    at: toTimestamp(clock.wallMs() - agoMs),
    cause: 'crashed',
  });
  const start = createSteppedClock();

  test('count on within the window', () => {
    const { budget } = createBudget(2, [diedAgo(start, 50_000), diedAgo(start, 10_000)]);
    expect(budget.onDeath('crashed', fruitless).kind).toBe('poison');
  });

  test('and not beyond it', () => {
    const { budget } = createBudget(2, [diedAgo(start, 60_000), diedAgo(start, 10_000)]);
    expect(budget.onDeath('crashed', fruitless).kind).toBe('restart');
  });

  test('by a clock that stood in the future are as of now (FAULTS 21)', () => {
    const { clock, budget } = createBudget(1, [diedAgo(start, -3_600_000)]);
    clock.advance(60_000);
    expect(budget.onDeath('crashed', fruitless).kind).toBe('restart');
  });
});

test('deaths outside of a turn are blamed on the worker, apart from those in one', () => {
  const { budget } = createBudget(2);
  expect(kindsOf(budget, crashes(2))).toEqual(['restart', 'restart']);
  const outside = [1, 2, 3].map(() => budget.onDeath('crashed', undefined).kind);
  expect(outside).toEqual(['restart', 'restart', 'fail']);
  budget.forgive();
  expect(budget.onDeath('crashed', undefined)).toEqual({
    ...{ kind: 'restart', attempt: 1, delayMs: 0 },
  });
});
