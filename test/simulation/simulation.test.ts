/** A few simulated runs, and those that once failed. Thousands: `npm run simulate`. */
import { describe, expect, test } from '@jest/globals';
import type { RunReport } from './run.ts';
import { listStrikes, runSeed } from './run.ts';
import type { World } from './world.ts';

/** Seeds that showed a fault which is mended since: what it was. Each has a test of its own as
 *  well, which needs no luck: driver-regressions and inputs in test/supervisor/sessions, reserve in
 *  test/supervisor/effects. */
const regressions: readonly (readonly [string, string])[] = [
  ['h-271', 'a tombstone on its way to the disk made the driver spin, and the supervisor hang'],
  ['r-945', 'the same, another way'],
  ['ddb3b2ed-2714', 'an input steered a step whose request had failed for good, and was lost'],
  ['658c8020-177', 'its last restart used up, a session hibernated and began to count anew'],
  ['6c47d2fc-1857', 'an input whose setting aside a kill cut off ended as interrupted by nobody'],
  ['1605b5b5-5820', 'one that failed while the disk was full slept instead, and counted anew'],
  ['3947690a-6286', 'a retry was reserved behind the tombstone that was written as its wait ended'],
  ['m-1369', 'a worker that died while it started was counted as two deaths'],
];

const fixed = Array.from({ length: 12 }, (_, index) => `fixed-${index}`);

describe('[promise:simulation] a simulated run', () => {
  test.each(fixed)('SEED=%s keeps every promise (FAULTS 69)', async (seed) => {
    expect(toVerdict(await runSeed(seed))).toEqual({ seed, violations: [] });
  });

  test.each(regressions)('SEED=%s: no more: %s', async (seed) => {
    expect(toVerdict(await runSeed(seed))).toEqual({ seed, violations: [] });
  });

  test.each(['kill supervisor', 'lose power'] as const)(
    '%s at every instant of a session keeps every promise (FAULTS 61)',
    async (fault) => {
      const strikes = await listStrikes('one-16', fault);
      const broken: unknown[] = [];
      for (const strike of strikes.filter(({ promises }) => promises === 0)) {
        const { violations } = await runSeed('one-16', { strike });
        if (violations.length > 0) broken.push({ strike, violations });
      }
      expect(broken).toEqual([]);
      expect(strikes.length).toBeGreaterThan(300);
    },
  );

  test('is the same from the same seed, and another one from another', async () => {
    const hashes: string[] = [];
    for (const seed of ['fixed-3', 'fixed-3', 'fixed-4']) hashes.push((await runSeed(seed)).hash);
    expect(hashes[0]).toBe(hashes[1]);
    expect(hashes[0]).not.toBe(hashes[2]);
  });

  test('has all that is drawn for it: in some of a few, each of it happens', async () => {
    const happened = new Set<string>();
    for (const seed of fixed) for (const [what] of (await runSeed(seed)).counts) happened.add(what);
    const wanted = ['approvals', 'compactions', 'forks', 'removals', 'tool calls run'];
    expect(wanted.filter((what) => !happened.has(what))).toEqual([]);
  });

  test('gets work done', async () => {
    const { counts } = await runSeed('fixed-0');
    expect(counts.get('turns completed')).toBeGreaterThanOrEqual(4);
  });
});

const toVerdict = ({ seed, violations }: RunReport) => ({ seed, violations });

/** [a broken part of the world, the checks of which at least one finds it, in some seed] */
const spoils: readonly (readonly [string, (world: World) => void, readonly string[]])[] = [
  [
    'a disk that forgets idempotency keys',
    ({ disk }) => {
      const { commit } = disk;
      disk.commit = (request, timeMs) => {
        disk.claims.clear();
        return commit(request, timeMs);
      };
    },
    ['inputs exactly once'],
  ],
  [
    'a disk that says it has synced, and has not',
    ({ disk }) => {
      disk.sync = () => undefined;
    },
    ['durable before done', 'durable before visible'],
  ],
  [
    'spools that are lost with their writer',
    ({ disk }) => {
      disk.readSpool = (_path, offset) => ({ records: [], nextOffset: offset, tail: 'clean' });
    },
    ['attempts'],
  ],
  [
    'a journal that skips a number now and then',
    ({ disk }) => {
      const { commit } = disk;
      disk.commit = (request, timeMs) => {
        if (request.events[0]?.type !== 'model.delta') return commit(request, timeMs);
        commit(request, timeMs);
        return commit(request, timeMs);
      };
    },
    ['attempts', 'streams', 'no crash', 'liveness'],
  ],
];

const storm = {
  kinds: ['kill worker', 'kill gateway', 'kill supervisor', 'kill host'],
  everyMs: 300,
  durationMs: 10_000,
} as const;

describe('[promise:simulation] the checkers find', () => {
  test.each(spoils)('%s', async (_name, spoil, checks) => {
    const found = new Set<string>();
    for (let run = 0; run < 12; run += 1) {
      const report = await runSeed(`spoilt-${run}`, { plan: storm, spoil });
      for (const { check } of report.violations) found.add(check);
      if (checks.some((check) => found.has(check))) break;
    }
    expect(checks.filter((check) => found.has(check))).not.toEqual([]);
  });
});
