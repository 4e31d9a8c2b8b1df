import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createCpuMeter } from '../../sandbox/launch/cpu-meter.ts';

let proc = '';
beforeEach(() => {
  proc = mkdtempSync(join(tmpdir(), 'prx-cpu-meter-'));
});
afterEach(() => {
  rmSync(proc, { recursive: true, force: true });
});

/** By pid: ticks of its own, ticks of those it waited for, when it began. */
type Process = readonly [pid: number, own: number, waited: number, started?: number];

/** What the meter says behind each look at such a tree. */
function readAll(looks: readonly (readonly Process[])[]): (number | undefined)[] {
  const meter = createCpuMeter();
  return looks.map((processes) => {
    rmSync(proc, { recursive: true, force: true });
    for (const [pid, own, waited, started = pid] of processes) {
      mkdirSync(join(proc, String(pid)), { recursive: true });
      const fields = [...Array<number>(10).fill(0), own, 0, waited, 0, 0, 0, 0, 0, started];
      writeFileSync(join(proc, String(pid), 'stat'), `${pid} (a ) b) S ${fields.join(' ')}\n`);
    }
    return meter.read({ proc, memoryFolders: [] });
  });
}

test.each<[string, (readonly Process[])[], (number | undefined)[]]>([
  ['a tree that is gone', [[]], [undefined]],
  [
    'one that was waited for',
    [
      [
        [1, 1, 0],
        [2, 5, 0],
      ],
      [[1, 1, 8]],
    ],
    [60, 90],
  ],
  [
    'one that nobody waited for',
    [
      [
        [1, 1, 0],
        [2, 5, 0],
      ],
      [[1, 1, 0]],
    ],
    [60, 60],
  ],
  [
    'its pid, used again',
    [
      [
        [1, 0, 0],
        [2, 5, 0, 7],
      ],
      [
        [1, 0, 0],
        [2, 3, 0, 8],
      ],
    ],
    [50, 80],
  ],
  [
    'waited for between two looks',
    [
      [
        [1, 0, 0],
        [2, 5, 0],
      ],
      [[1, 0, 0]],
      [[1, 0, 6]],
    ],
    [50, 50, 60],
  ],
  [
    'a parent that ends with what it waited for',
    [
      [
        [1, 0, 0],
        [2, 1, 0],
        [3, 4, 0],
      ],
      [
        [1, 0, 0],
        [2, 1, 5],
      ],
      [[1, 0, 6]],
    ],
    [50, 60, 60],
  ],
])('%s', (_, looks, told) => {
  expect(readAll(looks)).toEqual(told);
});
