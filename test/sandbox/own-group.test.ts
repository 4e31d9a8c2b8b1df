/** The group that a supervisor made for a host, on a made-up tree: asked for what the kernel killed
 *  in it; any other group is somebody else's, and not asked. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { findOwnGroup } from '../../sandbox/launch/own-group.ts';

let root: string;
afterEach(() => rmSync(root, { recursive: true, force: true }));

function createGroup(path: string, file: string): string {
  root = mkdtempSync(join(tmpdir(), 'prx-own-group-'));
  mkdirSync(join(root, path), { recursive: true });
  return join(root, path, file);
}

test.each([
  ['v2', 'unit/prx-host-7', 'memory.events', '0::/unit/prx-host-7\n'],
  [
    'v1, beside an empty v2',
    'memory/unit/prx-host-7',
    'memory.oom_control',
    '4:cpu,memory:/unit/prx-host-7\n0::/\n',
  ],
])('%s: its kills are counted, until it is taken away', (_, path, name, own) => {
  const file = createGroup(path, name);
  writeFileSync(file, 'oom_kill_disable 0\nunder_oom 0\noom_kill 3\n');
  const group = findOwnGroup({ root, own });
  expect(group?.countKills()).toBe(3);
  rmSync(join(root, path), { recursive: true });
  expect(group?.countKills()).toBe(0);
});

test.each([
  ['of the supervisor', 'unit/supervisor', '0::/unit/supervisor\n'],
  ['of a worker', 'unit/prx-worker-7', '0::/unit/prx-worker-7\n'],
  ['that is the root', '.', '0::/\n'],
  ['that leads out', 'prx-host-7', '0::/x/../prx-host-7\n'],
  ['without memory control', 'unit', '0::/unit/prx-host-7\n'],
  ['there is none', 'unit', ''],
])('one %s is not asked', (_, path, own) => {
  writeFileSync(createGroup(path, 'memory.events'), 'oom_kill 3\n');
  expect(findOwnGroup({ root, own })).toBeUndefined();
});
