/** One parked sandbox over real pipes, without a sandbox behind them: what it says when nobody
 *  comes. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { View } from '../../sandbox/launch/arguments.ts';
import type { Cell } from '../../sandbox/launch/cell.ts';
import { parkSandbox } from '../../sandbox/launch/one-shot.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'prx-one-shot-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const view: View = {
  workspace: { path: '/work', source: '/work', kind: 'folder' },
  ...{ workspaceAccess: 'write', env: {}, tmpBytes: 0, isFiltered: false },
  network: 'none',
  ...{
    readOnly: [],
    writable: [],
    hidden: [],
    protected: [],
    pinned: [],
    system: [],
    settings: [],
    runtime: [],
  },
};

/** A cell whose sandbox is killed before it opens its pipes. */
function createStillbornCell(overdue: Promise<void>): Cell {
  const [slotPath, pipesPath] = [join(dir, 'slot'), join(dir, 'pipes')];
  for (const path of [slotPath, pipesPath]) mkdirSync(path);
  const names = ['in', 'out', 'err', 'status'];
  execFileSync(
    'mkfifo',
    names.map((name) => join(pipesPath, name)),
  );
  return {
    identity: { uid: 0, gid: 0, drops: false },
    report: { unmapped: [], missing: [], failure: undefined },
    isAlive: () => true,
    ended: new Promise(() => undefined),
    bear: async () => ({ slot: 1, slotPath, pipesPath, overdue }),
    bury: () => undefined,
    findHostPid: () => undefined,
    endStrays: () => undefined,
    close: async () => undefined,
  };
}

test('one that was killed before it opened its pipes ends unstarted, and is not waited for (regression)', async () => {
  let pass: () => void = () => undefined;
  const overdue = new Promise<void>((resolve) => {
    pass = resolve;
  });
  const sandbox = await parkSandbox({ cell: createStillbornCell(overdue), view, hasInput: false });
  const command = sandbox.release('echo never');
  pass();
  expect(await command.ended).toEqual({ kind: 'unstarted' });
});
