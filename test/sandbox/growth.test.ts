/** What a call added to the disk, by the counters of a file system that others use as well. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { watchGrowth } from '../../sandbox/launch/growth.ts';

const MIB = 2 ** 20;
let own = '';
let other = '';

beforeEach(() => {
  // In memory: its counters are exact, and few others use it.
  own = mkdtempSync('/dev/shm/prx-growth-');
  other = mkdtempSync('/dev/shm/prx-growth-');
});
afterEach(() => {
  for (const folder of [own, other]) rmSync(folder, { recursive: true, force: true });
});

const fill = (folder: string, name: string, mib: number): void =>
  writeFileSync(join(folder, name), Buffer.alloc(mib * MIB));
const nothingOpen = { folders: [], countHeld: () => 0 };

test('what others give back hides nothing of it (regression)', () => {
  fill(other, 'theirs', 6);
  const watch = watchGrowth([own], { bytesMax: 4 * MIB, filesMax: 1e9 }, Date.now() - 10);
  expect(watch.isSuspicious()).toBe(false);
  rmSync(join(other, 'theirs'));
  expect(watch.isSuspicious()).toBe(false);
  fill(own, 'ours', 5);
  expect(watch.isSuspicious()).toBe(true);
  expect(watch.count(nothingOpen).bytes).toBe(5 * MIB);
});

test('nor behind a count, which somebody else was the reason for (regression)', () => {
  const watch = watchGrowth([own], { bytesMax: 4 * MIB, filesMax: 1e9 }, Date.now() - 10);
  fill(other, 'theirs', 6);
  expect(watch.isSuspicious()).toBe(true);
  expect(watch.count(nothingOpen).bytes).toBe(0);
  rmSync(join(other, 'theirs'));
  expect(watch.isSuspicious()).toBe(false);
  fill(own, 'ours', 5);
  expect(watch.isSuspicious()).toBe(true);
});
