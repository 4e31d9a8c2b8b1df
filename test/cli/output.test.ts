/** The CLI's own process where its output cannot be written. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readVersion } from '../../cli/program.ts';

const main = join(import.meta.dirname, '../../cli/main.ts');
let home = '';
/** A disk without room. */
let full = -1;

beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'prx-output-'));
  full = openSync('/dev/full', 'w');
});
afterAll(() => {
  closeSync(full);
  rmSync(home, { recursive: true });
});

function run(argv: readonly string[], stdout: 'pipe' | number, stderr: 'pipe' | number) {
  return spawnSync(process.execPath, [main, ...argv], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: home },
    stdio: ['ignore', stdout, stderr],
  }) as SpawnSyncReturns<string | null>;
}

test.each([[['--version']], [['config', 'show', '--json']], [['journal', '--help']]])(
  '%j on a full disk is not done: exit 1, and why',
  (argv) => {
    const { status, stderr } = run(argv, full, 'pipe');
    expect([status, stderr]).toEqual([1, 'error: cannot write output: ENOSPC\n']);
  },
);

test('what was asked for is had though nothing can be said beside it', () => {
  const { status, stdout } = run(['config', 'show'], 'pipe', full);
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^KEY .*log\.level/s)]);
  expect(run(['--version'], 'pipe', full).stdout).toBe(`${readVersion()}\n`);
});
