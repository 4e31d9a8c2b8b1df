/** Folders on the way to something of ours. */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { makeFolder } from '../../base/make-folder.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-folder-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

const modeOf = (path: string): number => statSync(path).mode & 0o777;

test('makes what is missing, for its owner only, and leaves what is there', () => {
  makeFolder(join(dir, 'a', 'b', 'c'));
  expect(['a', 'a/b', 'a/b/c'].map((each) => modeOf(join(dir, each)))).toEqual([
    0o700, 0o700, 0o700,
  ]);
  mkdirSync(join(dir, 'open'), { mode: 0o755 });
  makeFolder(join(dir, 'open'));
  expect(modeOf(join(dir, 'open'))).toBe(0o755);
});

test('says what stands in its way, also where the kernel makes none (regression)', () => {
  writeFileSync(join(dir, 'file'), '');
  expect(() => makeFolder(join(dir, 'file', 'below'))).toThrow(/ENOTDIR/);
  for (const path of ['/proc/prx', '/proc/prx/below']) {
    expect(() => makeFolder(path)).toThrow(/ENOENT/);
  }
});
