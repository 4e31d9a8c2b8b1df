/** When a call is looked at, and what is read then: pure, and on a tree that is made up. */
import { expect, test } from '@jest/globals';
import type { CommandTree } from '../../sandbox/launch/command-tree.ts';
import { type Breach, decideRestMs, watchTree } from '../../sandbox/watch.ts';
import { createSteppedClock } from '../supervisor/stepped-clock.ts';

const MIB = 2 ** 20;
const MAX = 512 * MIB;

test.each([
  // Used, of, a look took, the next is that much later.
  ['far away, by what can grow meanwhile', 0, MAX, 1, 67],
  ['far away, a slow look has a tenth of the time', 0, MAX, 8, 72],
  ['at half of it still', MAX / 2, MAX, 10, 90],
  ['at three quarters, a third', (MAX * 3) / 4, MAX, 10, 23],
  ['just under, a half', MAX - 1, MAX, 22, 22],
  ['at it', MAX, MAX, 22, 22],
  ['over it: shared pages that count twice', MAX * 2, MAX, 22, 22],
  ['never more often than this', MAX, MAX, 1, 10],
  ['never less often', 0, MAX, 500, 100],
  ['nor near', MAX, MAX, 500, 100],
  ['no limit', 10 * MAX, 0, 1, 100],
])('%s', (_, bytes, maxBytes, lookMs, restMs) => {
  expect(Math.round(decideRestMs({ bytes, maxBytes }, lookMs))).toBe(restMs);
});

interface Use {
  quickBytes: number;
  exactBytes: number;
  hideableBytes: number;
  machineBytes: number;
  cpuMs: number;
  cpuReadCount: number;
}

/** A tree of many processes: to hold it still and to look exactly takes 22 ms. */
function watchMadeUp(limits: { readonly memoryBytes: number; readonly cpuMs: number }) {
  const clock = createSteppedClock();
  const use: Use = {
    ...{ quickBytes: 0, exactBytes: 0, hideableBytes: 0, machineBytes: 64 * MAX },
    ...{ cpuMs: 0, cpuReadCount: 0 },
  };
  const breaches: (Breach | undefined)[] = [];
  const tree: CommandTree = {
    measure(precision) {
      if (precision === 'quick') return use.quickBytes;
      clock.skip(22);
      return use.exactBytes;
    },
    measureHideable: (enough) => Math.min(enough, use.hideableBytes),
    machineBytes: () => use.machineBytes,
    readCpuMs() {
      use.cpuReadCount += 1;
      return use.cpuMs;
    },
    wasOutOfMemory: () => false,
    peakBytes: () => undefined,
    openFileFolders: () => [],
    countHeldFiles: () => 0,
    signal: () => undefined,
    freeze: () => () => undefined,
  };
  const watch = watchTree({
    ...{ clock, tree, limits: { ...limits, diskBytes: 0, files: 0, roots: [] } },
    onBreach: () => void breaches.push(watch.finish().breach),
  });
  return { clock, use, breaches };
}

test('just under its limit a tree is looked at again soon, however slow that is (regression)', () => {
  const { clock, use, breaches } = watchMadeUp({ memoryBytes: MAX, cpuMs: 0 });
  use.quickBytes = MAX + 30 * MIB;
  use.exactBytes = MAX - 3 * MIB;
  clock.advance(10);
  expect(breaches).toEqual([]);
  use.exactBytes = MAX + MIB;
  // The look ended at 32 ms; with one share for all looks the next came at 132.
  clock.advance(50);
  expect(breaches).toEqual([{ limit: 'memory_limit_mb', value: 513, max: 512 }]);
});

test.each([
  // Hideable, the machine has so much less, seen of it, is.
  ['what it can hold and the machine misses is its own', MAX, MAX + MIB, 2 * MIB, 513],
  ['pages that count for each who has them hide nothing', MAX, 2 * MAX, 3 * MAX, 514],
  ['a neighbour takes what it cannot hold', MAX / 2, 9 * MAX, 2 * MIB, undefined],
  ['nobody misses what it could hold', 9 * MAX, MAX, 2 * MIB, undefined],
])('memory that no process shows: %s', (_, hideableBytes, lost, quickBytes, value) => {
  const { clock, use, breaches } = watchMadeUp({ memoryBytes: MAX, cpuMs: 0 });
  Object.assign(use, { hideableBytes, quickBytes, exactBytes: 2 * MIB });
  use.machineBytes -= lost;
  clock.advance(300);
  expect(breaches).toEqual(
    value === undefined ? [] : [{ limit: 'memory_limit_mb', value, max: 512 }],
  );
});

test('what a neighbour gives back does not hide what a call takes (regression)', () => {
  const { clock, use, breaches } = watchMadeUp({ memoryBytes: MAX, cpuMs: 0 });
  use.machineBytes += 4 * MAX;
  clock.advance(100);
  use.hideableBytes = 2 * MAX;
  use.machineBytes -= 2 * MAX;
  clock.advance(100);
  expect(breaches).toEqual([{ limit: 'memory_limit_mb', value: 1024, max: 512 }]);
});

test('processor time is read every tenth of a second, not at each look', () => {
  const { clock, use, breaches } = watchMadeUp({ memoryBytes: MAX, cpuMs: 1000 });
  use.quickBytes = MAX;
  clock.advance(95);
  expect(use.cpuReadCount).toBe(0);
  clock.advance(405);
  expect(use.cpuReadCount).toBe(5);
  use.cpuMs = 1001;
  clock.advance(100);
  expect(breaches).toEqual([{ limit: 'max_cpu_secs', value: 1, max: 1 }]);
});

test('processor time without a limit is not read', () => {
  const { clock, use } = watchMadeUp({ memoryBytes: MAX, cpuMs: 0 });
  clock.advance(1000);
  expect(use.cpuReadCount).toBe(0);
});
