/** What a call added to the disk, by the counters of a file system that others use as well: a real
 *  folder, with counters of our own. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type GrowthWatch, watchGrowth } from '../../sandbox/launch/growth.ts';

const MIB = 2 ** 20;
let folder = '';
let free = { bytes: 0, files: 0 };
let watch: GrowthWatch;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-growth-'));
  free = { bytes: 100 * MIB, files: 1000 };
  watch = watchGrowth({
    roots: [folder],
    limits: { bytesMax: 4 * MIB, filesMax: 10 },
    startedMs: Date.now() - 1000,
    readFree: () => free,
  });
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Of others; negative: they give it back. */
const use = (mib: number, files = 0): void => {
  free = { bytes: free.bytes - mib * MIB, files: free.files - files };
};
const write = (mib: number): void => {
  writeFileSync(join(folder, 'ours'), Buffer.alloc(mib * MIB));
  use(mib, 1);
};
const nothingOpen = { folders: [], countHeld: () => 0 };

test('what others use is not this call’s', () => {
  use(6);
  expect(watch.isSuspicious()).toBe(true);
  expect(watch.count(nothingOpen)).toMatchObject({ bytes: 0, files: 0 });
});

test('what others give back hides nothing of it (regression)', () => {
  use(-6);
  expect(watch.isSuspicious()).toBe(false);
  write(5);
  expect(watch.isSuspicious()).toBe(true);
  expect(watch.count(nothingOpen).bytes).toBeGreaterThanOrEqual(5 * MIB);
});

test('nor of files (regression)', () => {
  use(0, -20);
  expect(watch.isSuspicious()).toBe(false);
  use(0, 11);
  expect(watch.isSuspicious()).toBe(true);
});

test('nor behind a count (regression)', () => {
  use(6);
  watch.count(nothingOpen);
  use(-6);
  expect(watch.isSuspicious()).toBe(false);
  write(5);
  expect(watch.isSuspicious()).toBe(true);
});

test('nor of what cannot be measured (regression)', () => {
  use(-6);
  expect(watch.isSuspicious()).toBe(false);
  use(5);
  expect(watch.isSuspicious()).toBe(true);
  expect(watch.count({ folders: [], countHeld: () => 2 }).bytes).toBe(5 * MIB);
});

test('which counts since the call began, whatever was counted between', () => {
  const held = { folders: [], countHeld: () => 2 };
  use(3);
  expect(watch.count(held).bytes).toBe(0);
  use(3);
  expect(watch.count(held).bytes).toBe(6 * MIB);
});
