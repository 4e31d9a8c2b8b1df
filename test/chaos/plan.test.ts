/** The plan and the scripts of a chaos run come from its seed alone; and the rest of what it knows
 *  before it begins. */
import { describe, expect, test } from '@jest/globals';
import { createSeededRandom } from '../../base/random.ts';
import { drawInt, drawWeighted } from '../../chaos/choice.ts';
import { createPlan, faultKinds, minimumOf } from '../../chaos/plan.ts';
import { classify } from '../../chaos/processes.ts';
import { findTooLittle, type Report, renderReport, type Work } from '../../chaos/report.ts';
import { createEchoScript, createTurnScript, parseTurnScript } from '../../chaos/script.ts';

describe('a seeded random', () => {
  const draw = (seed: string, count: number): number[] => {
    const random = createSeededRandom(seed);
    return Array.from({ length: count }, () => random.next());
  };

  test('gives the same numbers for the same text, and others for another', () => {
    expect(draw('1/load', 5)).toEqual(draw('1/load', 5));
    expect(draw('1/load', 5)).not.toEqual(draw('2/load', 5));
    expect(draw('1/load', 5)).not.toEqual(draw('1/plan', 5));
  });

  test('is spread evenly over [0, 1)', () => {
    const counts = new Array<number>(10).fill(0);
    for (const value of draw('spread', 20_000)) {
      expect(value).toBeGreaterThanOrEqual(0);
      expect(value).toBeLessThan(1);
      const slot = Math.floor(value * 10);
      counts[slot] = (counts[slot] ?? 0) + 1;
    }
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
  });

  test('makes ids of the usual shape', () => {
    const random = createSeededRandom('ids');
    expect(random.hex(8)).toMatch(/^[0-9a-f]{16}$/);
    expect(random.uuid()).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
  });

  test('choices stay within their bounds', () => {
    const random = createSeededRandom('choices');
    const ints = Array.from({ length: 200 }, () => drawInt(random, 3, 5));
    expect([...new Set(ints)].sort()).toEqual([3, 4, 5]);
    const keys = Array.from({ length: 200 }, () => drawWeighted(random, { a: 1, b: 9, never: 0 }));
    expect(new Set(keys)).toEqual(new Set(['a', 'b']));
  });
});

describe('a plan', () => {
  test('is the same for the same seed and length', () => {
    expect(createPlan('7', 60_000)).toEqual(createPlan('7', 60_000));
    expect(createPlan('7', 60_000)).not.toEqual(createPlan('8', 60_000));
  });

  test.each([5, 10, 60, 300])(
    'of %i s holds more of every kind than a run must reach',
    (seconds) => {
      const faults = createPlan('7', seconds * 1000).flatMap((lane) => lane.faults);
      for (const kind of faultKinds) {
        const planned = faults.filter((fault) => fault.kind === kind).length;
        expect(planned).toBeGreaterThanOrEqual(Math.max(1, minimumOf(kind, seconds * 1000)));
      }
    },
  );

  test('of five minutes must reach 50 kills of each kind and 20 of each other fault', () => {
    expect(minimumOf('kill call', 300_000)).toBe(50);
    expect(minimumOf('freeze host', 300_000)).toBe(20);
  });

  test('is in order and within its time', () => {
    for (const { faults } of createPlan('7', 30_000)) {
      const times = faults.map((fault) => fault.atMs);
      expect(times).toEqual(times.toSorted((one, other) => one - other));
      for (const atMs of times) expect(atMs).toBeLessThanOrEqual(30_000);
    }
  });
});

describe('a script', () => {
  const make = (seed: string) =>
    createTurnScript({ key: 'k', random: createSeededRandom(seed), sleepMark: '300.1' });

  test('is the same for the same seed, ends with words, and survives the prompt', () => {
    expect(make('1')).toEqual(make('1'));
    for (let seed = 0; seed < 100; seed += 1) {
      const script = make(String(seed));
      expect(script.steps.at(-1)?.calls).toEqual([]);
      expect(script.steps.at(-1)?.say).not.toBe('');
      expect(parseTurnScript(JSON.stringify(script))).toEqual(script);
      const tokens = script.steps.flatMap((step) => step.calls.flatMap((call) => call.token ?? []));
      expect(new Set(tokens).size).toBe(tokens.length);
    }
  });

  test('is not seen where there is none', () => {
    expect(parseTurnScript('hello')).toBeUndefined();
    expect(parseTurnScript('{"chaos"')).toBeUndefined();
    expect(parseTurnScript('{"chaos": 1}')).toBeUndefined();
    expect(parseTurnScript(JSON.stringify(createEchoScript('e')))?.chaos).toBe('e');
  });
});

test('too little work is named, a full measure is not', () => {
  const full = Object.fromEntries(faultKinds.map((kind) => [kind, 50]));
  const work = { turns_completed: 500, tool_calls_ok: 500 } as Work;
  expect(findTooLittle(300, full, work, true)).toEqual([]);
  const short = findTooLittle(300, { ...full, 'kill call': 49, 'fill disk': 19 }, work, true);
  expect(short).toEqual(['kill call: 49 of at least 50', 'fill disk: 19 of at least 20']);
  expect(findTooLittle(300, { ...full, 'fill disk': 0 }, work, false)).toEqual([]);
  const idle = { turns_completed: 499, tool_calls_ok: 0 } as Work;
  expect(findTooLittle(300, full, idle, true)).toEqual([
    'turns: 499 of at least 500',
    'tool calls: 0 of at least 500',
  ]);
});

test.each<readonly [string, Partial<Report>, string]>([
  ['held', { ok: true }, 'every invariant held'],
  ['did too little', { too_little: ['turns: 1 of at least 5'] }, 'no invariant was violated, but'],
  ['failed', { violations: [{ check: 'journal', message: 'm' }] }, 'FAILED: 1 violations; again'],
])('the last line says whether a run %s (regression)', (_, changes, words) => {
  const none = { faults: {}, work: {} as Work, tool_statuses: {}, too_little: [], skipped: [] };
  const provider = { rate_limit: 0, overload: 0, cut: 0, stall: 0 };
  const run = { seed: '1', seconds: 3, ok: false, violations: [], fault_log: [] };
  const text = renderReport({ ...none, ...run, provider_faults: provider, ...changes });
  expect(text.split('\n').at(-1)).toContain(words);
});

test('only processes of the scratch folder, and what descends from them, are candidates', () => {
  const entry = (pid: number, parent: number, command: string) => ({ pid, parent, command });
  const found = classify(
    [
      entry(1, 0, 'init'),
      entry(10, 1, 'node /s/dist/supervisor.js {}'),
      entry(11, 10, 'unshare node /s/dist/worker.js'),
      entry(12, 11, 'node /s/dist/worker.js'),
      entry(13, 10, 'node /s/dist/gateway.js'),
      entry(14, 1, 'node /s/dist/sandbox.js'),
      entry(15, 14, 'bwrap --args 3'),
      entry(16, 15, 'node /s/dist/worker.js'),
      entry(17, 1, 'sleep 300.9'),
      entry(18, 10, 'node /s/dist/sandbox.js --probe'),
      entry(19, 18, 'bwrap'),
      entry(20, 1, 'node /other/dist/worker.js'),
      entry(21, 20, 'sh'),
    ],
    '/s',
    '300.9',
  );
  expect(found.map(([{ pid }, kind]) => [pid, kind])).toEqual([
    [10, 'supervisor'],
    [11, 'worker'],
    [12, 'worker'],
    [13, 'gateway'],
    [14, 'host'],
    [15, 'call'],
    [16, 'call'],
    [17, 'call'],
    [18, 'probe'],
    [19, 'probe'],
  ]);
});
