/** The memory watch: two sources, either of which enforces; late ones; what it keeps. */
import { describe, expect, test } from '@jest/globals';
import { silentLogger } from '../../../base/logger.ts';
import {
  type MemoryOwner,
  type ReadRss,
  startMemoryWatch,
} from '../../../supervisor/children/memory.ts';
import type { ScanTrees } from '../../../supervisor/children/tree.ts';
import type { Worker } from '../../../supervisor/children/workers.ts';
import { createSteppedClock } from '../stepped-clock.ts';

const LIMIT = 1e9;
const FAR_MS = 500; // what toIntervalMs makes of the whole limit

interface Heard {
  readonly level: string;
  readonly source: string;
  readonly bytes: number;
}

function createWatch(readRss: ReadRss, scan?: ScanTrees) {
  const clock = createSteppedClock();
  const heard: Heard[] = [];
  const killed: string[] = [];
  const worker = {
    ...{ pid: 7, rootPid: 6, startedAtMs: 0, isAlive: () => killed.length === 0 },
    kill: (cause: string) => void killed.push(cause),
  } as unknown as Worker; // the watch uses nothing else of it
  const owner: MemoryOwner = {
    logger: silentLogger,
    worker: () => worker,
    onMemory: (level, { source, bytes }) => void heard.push({ level, source, bytes }),
  };
  const watch = startMemoryWatch({
    ...{ clock, logger: silentLogger, readRss, scanTrees: scan, limitBytes: () => LIMIT },
    workers: () => (killed.length === 0 ? [worker] : []),
    residents: () => [owner],
  });
  return { clock, heard, killed, watch };
}

const reads =
  (...values: readonly number[]): ReadRss =>
  async () => {
    const bytes = values.length > 1 ? (values as number[]).shift() : values[0];
    return bytes === undefined ? new Map() : new Map([[7, bytes]]);
  };

describe('over the limit', () => {
  test('by the monitor: killed at the first sample, and the event names it (FAULTS 48)', async () => {
    const { clock, heard, killed } = createWatch(reads(LIMIT + 1));
    clock.advance(FAR_MS);
    await clock.armed(50);
    expect(killed).toEqual(['memory']);
    expect(heard).toEqual([{ level: 'hard', source: 'monitor', bytes: LIMIT + 1 }]);
  });

  test('by the scan alone, far from the limit by itself: within two seconds (FAULTS 26, 44)', async () => {
    const scan: ScanTrees = (roots) => new Map(roots.map((pid) => [pid, LIMIT + 5]));
    const { clock, heard, killed } = createWatch(reads(0), scan);
    for (let look = 0; look < 3; look += 1) {
      clock.advance(FAR_MS);
      await clock.armed(FAR_MS);
    }
    expect(killed).toEqual([]);
    clock.advance(FAR_MS);
    await clock.armed(50);
    expect(killed).toEqual(['memory']);
    expect(heard).toEqual([{ level: 'hard', source: 'scan', bytes: LIMIT + 5 }]);
  });

  test('by the scan alone (a grandchild): near the limit it is asked too (FAULTS 44)', async () => {
    const scan: ScanTrees = (roots) => new Map(roots.map((pid) => [pid, LIMIT + 5]));
    const { clock, heard, killed } = createWatch(reads(LIMIT * 0.7), scan);
    clock.advance(FAR_MS);
    await clock.armed(50);
    expect(killed).toEqual(['memory']);
    expect(heard).toEqual([{ level: 'hard', source: 'scan', bytes: LIMIT + 5 }]);
  });

  test('far from it nobody scans', async () => {
    const scan: ScanTrees = () => {
      throw new Error('not needed');
    };
    const { clock, killed } = createWatch(reads(LIMIT * 0.1), scan);
    clock.advance(FAR_MS);
    await clock.armed(450);
    expect(killed).toEqual([]);
  });
});

describe('a monitor that is blind', () => {
  const scan: ScanTrees = (roots) => new Map(roots.map((pid) => [pid, LIMIT + 1]));

  test('because it does not answer: the scan enforces within the same look (FAULTS 49)', async () => {
    const { clock, killed } = createWatch(() => new Promise(() => undefined), scan);
    clock.advance(FAR_MS);
    await clock.armed(100);
    clock.advance(100);
    await clock.armed(50);
    expect(killed).toEqual(['memory']);
  });

  test('and is asked again only when it answered', async () => {
    let asked = 0;
    const never: ReadRss = () => {
      asked += 1;
      return new Promise(() => undefined);
    };
    const low: ScanTrees = (roots) => new Map(roots.map((pid) => [pid, 1]));
    const { clock } = createWatch(never, low);
    clock.advance(FAR_MS);
    await clock.armed(100);
    clock.advance(100);
    for (let look = 0; look < 5; look += 1) {
      await clock.armed(FAR_MS);
      clock.advance(FAR_MS);
    }
    expect(asked).toBe(1);
  });

  test.each([
    ['because it died', async () => Promise.reject(new Error('gone'))],
    ['to this process', async () => new Map()],
  ] as const)('%s', async (_, readRss) => {
    const { clock, heard } = createWatch(readRss, scan);
    clock.advance(FAR_MS);
    await clock.armed(50);
    expect(heard).toMatchObject([{ source: 'scan' }]);
  });
});

test('many trees are scanned a few at a time, so that nobody waits for all of them', async () => {
  const clock = createSteppedClock();
  const scanned: number[][] = [];
  const killed: number[] = [];
  const workers = [1, 2, 3, 4, 5].map(
    (pid) =>
      ({
        ...{ pid, rootPid: 10 * pid, startedAtMs: 0, isAlive: () => true },
        kill: () => void killed.push(pid),
      }) as unknown as Worker, // the watch uses nothing else of it
  );
  const scanTrees: ScanTrees = (roots) => {
    scanned.push([...roots]);
    return new Map(roots.map((pid) => [pid, LIMIT + 1]));
  };
  startMemoryWatch({
    ...{ clock, logger: silentLogger, scanTrees, limitBytes: () => LIMIT },
    readRss: () => Promise.reject(new Error('gone')),
    ...{ workers: () => workers, residents: () => [] },
  });
  clock.advance(FAR_MS);
  for (const trees of [
    [10, 20],
    [30, 40],
  ]) {
    await clock.armed(0);
    expect(scanned.splice(0)).toEqual([trees]);
    clock.advance(0);
  }
  await clock.armed(50);
  expect(scanned).toEqual([[50]]);
  expect(killed).toEqual([1, 2, 3, 4, 5]);
});

test('under pressure: one warning, then it counts as pressed; the curve is bounded', async () => {
  const { clock, heard, watch } = createWatch(reads(LIMIT * 0.9));
  clock.advance(FAR_MS);
  for (let look = 0; look < 40; look += 1) {
    await clock.armed(50);
    clock.advance(50);
  }
  await clock.armed(50);
  expect(heard).toEqual([{ level: 'soft', source: 'monitor', bytes: LIMIT * 0.9 }]);
  expect(watch.isPressed(7)).toBe(true);
  expect(watch.recordOf(7)?.peakBytes).toBe(LIMIT * 0.9);
  expect(watch.recordOf(7)?.curve).toHaveLength(32);
  expect(watch.recordOf(7)?.curve.at(-1)).toEqual({ ago_ms: 0, rss_bytes: LIMIT * 0.9 });
  watch.stop();
  expect(clock.waiting()).toBe(0);
});
