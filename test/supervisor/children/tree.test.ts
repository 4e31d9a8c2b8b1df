/** The memory of process trees, read from a made-up /proc; and from the real one. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { scanRealTrees, scanTrees } from '../../../supervisor/children/tree.ts';

const MIB = 2 ** 20;
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

interface Entry {
  readonly pid: number;
  readonly parent: number;
  readonly rssMb?: number;
  readonly pssMb?: number;
}

function createProc(entries: readonly Entry[]): string {
  const proc = mkdtempSync(join(tmpdir(), 'prx-proc-'));
  folders.push(proc);
  mkdirSync(join(proc, 'self'));
  for (const { pid, parent, rssMb, pssMb } of entries) {
    const folder = join(proc, String(pid));
    mkdirSync(folder);
    writeFileSync(join(folder, 'stat'), `${pid} (odd) name) S ${parent} 1 1`);
    if (rssMb !== undefined) {
      writeFileSync(
        join(folder, 'status'),
        `Name:\tx\nVmRSS:\t  ${rssMb * 1024} kB\nThreads:\t1\n`,
      );
    }
    if (pssMb !== undefined) {
      writeFileSync(join(folder, 'smaps_rollup'), `x\nRss: 1 kB\nPss:    ${pssMb * 1024} kB\n`);
    }
  }
  return proc;
}

describe('a tree', () => {
  test('counts a bomb in a grandchild (FAULTS 44)', () => {
    const proc = createProc([
      { pid: 10, parent: 1, rssMb: 40 },
      { pid: 11, parent: 10, rssMb: 2 },
      { pid: 12, parent: 11, rssMb: 3000 },
      { pid: 13, parent: 1, rssMb: 500 },
    ]);
    expect(scanTrees(proc, [10], Number.POSITIVE_INFINITY)).toEqual(new Map([[10, 3042 * MIB]]));
  });

  test('that seems too large is measured by its shares (FAULTS 47)', () => {
    const entries = Array.from({ length: 10 }, (_, at) => {
      return { pid: 10 + at, parent: at === 0 ? 1 : 10, rssMb: 45, pssMb: 9 };
    });
    const proc = createProc(entries);
    expect(scanTrees(proc, [10], 451 * MIB).get(10)).toBe(450 * MIB);
    expect(scanTrees(proc, [10], 449 * MIB).get(10)).toBe(90 * MIB);
  });

  test('whose shares cannot be read counts as all that is resident', () => {
    const proc = createProc([
      { pid: 10, parent: 1, rssMb: 40, pssMb: 10 },
      { pid: 11, parent: 10, rssMb: 40 },
    ]);
    expect(scanTrees(proc, [10], 1).get(10)).toBe(50 * MIB);
  });

  test('of which nothing is known is not there', () => {
    const proc = createProc([{ pid: 10, parent: 1 }]);
    expect([...scanTrees(proc, [10, 99], 1).keys()]).toEqual([]);
  });
});

test('this process is found in the real one', () => {
  const found = scanRealTrees([process.pid], Number.POSITIVE_INFINITY);
  expect(found.get(process.pid)).toBeGreaterThan(10 * MIB);
});
