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

/** @param lists  the kernel lists children, by each thread */
function createProc(entries: readonly Entry[], lists = false): string {
  const proc = mkdtempSync(join(tmpdir(), 'prx-proc-'));
  folders.push(proc);
  mkdirSync(join(proc, 'self'));
  for (const { pid } of lists ? entries : []) {
    const children = entries.filter(({ parent }) => parent === pid);
    // The first by the main thread, the others by a second one.
    for (const [thread, part] of [children.slice(0, 1), children.slice(1)].entries()) {
      const folder = join(proc, String(pid), 'task', String(pid + thread * 1000));
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'children'), part.map((child) => `${child.pid} `).join(''));
    }
  }
  for (const { pid, parent, rssMb, pssMb } of entries) {
    const folder = join(proc, String(pid));
    mkdirSync(folder, { recursive: true });
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
    const entries = [
      { pid: 10, parent: 1, rssMb: 40 },
      { pid: 11, parent: 10, rssMb: 2 },
      { pid: 14, parent: 10, rssMb: 3 },
      { pid: 12, parent: 14, rssMb: 3000 },
      { pid: 13, parent: 1, rssMb: 500 },
    ];
    // By the parents that all processes name, and by the kernel's lists.
    for (const lists of [false, true]) {
      const found = scanTrees(createProc(entries, lists), [10], Number.POSITIVE_INFINITY);
      expect(found).toEqual(new Map([[10, 3045 * MIB]]));
    }
  });

  test('is not looked for among all processes where the kernel lists children', () => {
    const proc = createProc([{ pid: 10, parent: 1, rssMb: 40 }], true);
    // Names its parent, and is in nobody's list.
    mkdirSync(join(proc, '11'));
    writeFileSync(join(proc, '11', 'stat'), '11 (x) S 10 1 1');
    writeFileSync(join(proc, '11', 'status'), 'VmRSS:\t  4096 kB\n');
    expect(scanTrees(proc, [10], 1)).toEqual(new Map([[10, 40 * MIB]]));
  });

  test('of which one process alone is too large is not measured by shares: they cost time', () => {
    const proc = createProc([
      { pid: 10, parent: 1, rssMb: 60, pssMb: 1 },
      { pid: 11, parent: 10, rssMb: 50, pssMb: 1 },
    ]);
    expect(scanTrees(proc, [10], 59 * MIB).get(10)).toBe(110 * MIB);
    expect(scanTrees(proc, [10], 60 * MIB).get(10)).toBe(2 * MIB);
  });

  test('nor one whose other processes are too small to make the difference', () => {
    const proc = createProc([
      { pid: 10, parent: 1, rssMb: 98, pssMb: 1 },
      { pid: 11, parent: 10, rssMb: 5, pssMb: 1 },
    ]);
    expect(scanTrees(proc, [10], 100 * MIB).get(10)).toBe(103 * MIB);
    expect(scanTrees(proc, [10], 99 * MIB).get(10)).toBe(2 * MIB);
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
    expect(scanTrees(proc, [10], 45 * MIB).get(10)).toBe(50 * MIB);
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
