/** start --detach with a supervisor that is not ready when it first answers. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { runCli } from './run-cli.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-start-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const fixture = join(import.meta.dirname, 'fixtures/early-socket.mjs');

function start(starts: string, ...more: string[]) {
  const node = join(folder, 'node');
  writeFileSync(node, `#!/bin/sh\nexec '${process.execPath}' '${fixture}'\n`);
  chmodSync(node, 0o755);
  const env = { STARTS: starts };
  return runCli({ stateDir: folder }, ['start', '--detach', ...more], { node, env });
}

test('[command:start] --detach waits for the line that has the URL, not for the first answer', async () => {
  const { exit, out } = await start('well');
  expect([exit, out]).toEqual([0, 'ready: url http://127.0.0.1:1\n']);
});

test('[command:start] --detach does not call one ready that ends a moment later', async () => {
  const { exit, out, err } = await start('badly');
  expect([exit, out, err]).toEqual([78, '', expect.stringContaining('port in use')]);
});

test('[command:start] --detach --json tells why it did not start as any other error', async () => {
  const { exit, out, err } = await start('badly', '--json');
  expect([exit, out]).toEqual([78, '']);
  const log = join(folder, 'supervisor.log');
  expect(JSON.parse(err)).toEqual({
    error: {
      ...{ code: 'LISTEN_REFUSED', exit: 78, message: 'port in use' },
      data: { exit_code: 78, log },
    },
  });
});
