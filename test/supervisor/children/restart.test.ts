/** Restart decisions: OTP's nine cells, the window, the back-off; and the cause of a death. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { classify, type ExitCause } from '../../../supervisor/children/child.ts';
import {
  backoffMs,
  decideRestart,
  isNormalExit,
  type RestartPolicy,
  type RestartType,
} from '../../../supervisor/children/restart.ts';

const intensity = { intensity: 3, periodMs: 60_000 };
const HALF = 0.5;

function judge(policy: RestartPolicy, cause: ExitCause, earlier: number[], nowMs: number) {
  const history = { counted: earlier, restarts: earlier };
  return decideRestart({ policy, cause, ...history, nowMs, random: HALF });
}

describe('the decision', () => {
  // OTP: exit normal, shutdown, abnormal × permanent, transient, temporary. `stopped` is ours: a
  // death we ordered is never answered by a restart.
  test.each<[ExitCause, RestartType, 'restart' | 'stop']>([
    ['completed', 'permanent', 'restart'],
    ['completed', 'transient', 'stop'],
    ['completed', 'temporary', 'stop'],
    ['stopped', 'permanent', 'stop'],
    ['stopped', 'transient', 'stop'],
    ['stopped', 'temporary', 'stop'],
    ['crashed', 'permanent', 'restart'],
    ['crashed', 'transient', 'restart'],
    ['crashed', 'temporary', 'stop'],
  ])('%s × %s → %s (FAULTS 2)', (cause, type, kind) => {
    const decision = judge({ type, ...intensity }, cause, [], 0);
    expect(decision).toEqual(kind === 'restart' ? { kind, attempt: 1, delayMs: 0 } : { kind });
  });

  test.each<[string, number | undefined, NodeJS.Signals | undefined, readonly string[]]>([
    ['exit 0', 0, undefined, ['permanent']],
    ['exit 1', 1, undefined, ['permanent', 'transient']],
    ['SIGTERM', undefined, 'SIGTERM', ['permanent', 'transient']],
    ['SIGKILL', undefined, 'SIGKILL', ['permanent', 'transient']],
    ['SIGABRT', undefined, 'SIGABRT', ['permanent', 'transient']],
    ['SIGSEGV', undefined, 'SIGSEGV', ['permanent', 'transient']],
  ])('%s restarts by type as OTP has it (FAULTS 2)', (_, code, signal, restarted) => {
    const types: readonly RestartType[] = ['permanent', 'transient', 'temporary'];
    const cause = classify(code, signal, '');
    const kinds = types.map((type) => judge({ type, ...intensity }, cause, [], 0).kind);
    expect(types.filter((_type, at) => kinds[at] === 'restart')).toEqual(restarted);
  });

  test.each<ExitCause>(['memory', 'timeout', 'unresponsive', 'protocol'])(
    '%s is a failure like a crash',
    (cause) => {
      expect(isNormalExit(cause)).toBe(false);
      const policy = { type: 'transient' as const, ...intensity };
      expect(judge(policy, cause, [], 0).kind).toBe('restart');
    },
  );
});

describe('the window', () => {
  const policy = { type: 'transient' as const, ...intensity };
  const decide = (history: number[], nowMs: number) => judge(policy, 'crashed', history, nowMs);

  test('one crash in 59 s, for ten minutes: never parked (FAULTS 5)', () => {
    const history: number[] = [];
    for (let nowMs = 0; nowMs <= 600_000; nowMs += 59_000) {
      expect(decide(history, nowMs).kind).toBe('restart');
      history.push(nowMs);
    }
  });

  test('six crashes in ten seconds: parked at the fourth, naming count, window and cause (FAULTS 5)', () => {
    const kinds = [0, 1, 2, 3, 4, 5].map((count) => {
      const history = Array.from({ length: count }, (_, index) => index * 2000);
      return decide(history, 10_000);
    });
    expect(kinds.map(({ kind }) => kind)).toEqual([
      ...['restart', 'restart', 'restart'],
      ...['fail', 'fail', 'fail'],
    ]);
    expect(kinds[3]).toEqual({
      kind: 'fail',
      reason: 'the worker died 4 times within 60 s (last cause: crashed)',
    });
  });

  test('just inside, at and beyond the window', () => {
    const three = (atMs: number): number[] => [atMs, atMs, atMs];
    expect(decide(three(0), 59_999).kind).toBe('fail');
    expect(decide(three(0), 60_000)).toEqual({ kind: 'restart', attempt: 1, delayMs: 0 });
    expect(decide(three(0), 60_001).kind).toBe('restart');
  });

  test('after a healthy window the next crash restarts at the first delay (FAULTS 6)', () => {
    expect(decide([0, 1, 2], 70_000)).toEqual({ kind: 'restart', attempt: 1, delayMs: 0 });
  });

  test('intensity 0: the first death parks', () => {
    const none = { type: 'permanent' as const, intensity: 0, periodMs: 60_000 };
    expect(judge(none, 'crashed', [], 0).kind).toBe('fail');
  });
});

test('restarts after which something was done cost back-off, not budget', () => {
  const policy = { type: 'transient' as const, ...intensity };
  const restarts = [1, 2, 3, 4, 5];
  const death = { policy, cause: 'crashed' as const, counted: [], restarts, random: HALF };
  expect(decideRestart({ ...death, nowMs: 10 })).toEqual({
    ...{ kind: 'restart', attempt: 6, delayMs: 4000 },
  });
});

describe('the back-off', () => {
  test('is at once, then doubles from 250 ms to 30 s', () => {
    const delays = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 60].map((count) => backoffMs(count, HALF));
    expect(delays).toEqual([
      ...[0, 250, 500, 1000, 2000, 4000],
      ...[8000, 16_000, 30_000, 30_000, 30_000],
    ]);
  });

  test('is spread by at most 20 % (FAULTS 3)', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (count, random) => {
          const plain = backoffMs(count, HALF);
          const delay = backoffMs(count, random);
          expect(delay).toBeGreaterThanOrEqual(Math.floor(plain * 0.8));
          expect(delay).toBeLessThanOrEqual(Math.ceil(plain * 1.2));
        },
      ),
    );
  });
});

describe('the cause of a death nobody asked for', () => {
  const oom = 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory';
  test.each([
    [0, undefined, '', 'completed'],
    [1, undefined, '', 'crashed'],
    [undefined, 'SIGKILL', '', 'crashed'],
    [undefined, 'SIGTERM', '', 'crashed'],
    [undefined, 'SIGSEGV', oom, 'crashed'],
    [undefined, 'SIGABRT', '', 'crashed'],
    [undefined, 'SIGABRT', oom, 'memory'],
    [undefined, 'SIGTRAP', oom, 'memory'],
    [134, undefined, oom, 'memory'],
    [133, undefined, oom, 'memory'],
    [1, undefined, oom, 'crashed'],
  ] as const)('code %s, signal %s → %s (FAULTS 2, 46)', (code, signal, stderr, cause) => {
    expect(classify(code, signal, stderr)).toBe(cause);
  });
});
