/** The CLI's own process where its output cannot be written. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { FakeApi } from './fake-api.ts';

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

test.each([[['--version']], [['config', 'show', '--json']], [['journal', '--help']]])(
  '%j on a full disk is not done: exit 1, and why',
  (argv) => {
    const { status, stderr } = spawnSync(process.execPath, [main, ...argv], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], HOME: home },
      stdio: ['ignore', full, 'pipe'],
    });
    expect([status, stderr]).toEqual([1, 'error: cannot write output: ENOSPC\n']);
  },
);

test('what was asked for is done to its end though nothing can be said beside it', async () => {
  const api = await new FakeApi().listen();
  try {
    const child = spawn(process.execPath, [main, 'new'], {
      env: { PATH: process.env['PATH'], HOME: home, PRX_STATE_DIR: api.stateDir },
      stdio: ['ignore', 'pipe', full],
    });
    const [out, [exit]] = await Promise.all([
      text(child.stdout ?? Readable.from([])),
      once(child, 'exit'),
    ]);
    expect([out, exit]).toEqual([expect.stringMatching(/^s_[0-9a-f]+\n$/), 0]);
  } finally {
    await api.close();
  }
});
