/** Control groups, on a made-up tree: no kernel takes part, so what is shown is what we write. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { openCgroups } from '../../../supervisor/children/cgroup.ts';

const folders: string[] = [];
const isOurs = (pid: number): boolean => pid < 100;
const MIB = 2 ** 20;

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function createRoot(group: string, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'prx-cgroup-'));
  folders.push(root);
  mkdirSync(join(root, group), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, group, name), text);
  return root;
}

const v2 = { 'cgroup.controllers': 'cpu memory pids\n', 'cgroup.procs': '10\n11\n' };
const own2 = '0::/unit.service\n';

describe('v2, delegated', () => {
  test('we move into a leaf, and each worker has one with its limits', () => {
    const root = createRoot('unit.service', v2);
    const group = join(root, 'unit.service');
    const cgroups = openCgroups({ root, own: own2, isOurs });
    expect(cgroups?.version).toBe('v2');
    expect(readFileSync(join(group, 'cgroup.subtree_control'), 'utf8')).toBe('+memory +pids');
    expect(readFileSync(join(group, 'prx-supervisor', 'cgroup.procs'), 'utf8')).toBe('11');

    const enclosure = cgroups?.enclose([20, 21], 512 * MIB);
    const leaf = join(group, 'prx-worker-20');
    const written = readdirSync(leaf).map((name) => [name, readFileSync(join(leaf, name), 'utf8')]);
    expect(Object.fromEntries(written)).toEqual({
      'memory.max': String(512 * MIB),
      'memory.oom.group': '1',
      'pids.max': '128',
      'cgroup.procs': '21',
    });
    expect(enclosure?.wasOutOfMemory()).toBe(false);
    writeFileSync(join(leaf, 'memory.events'), 'low 0\noom 1\noom_kill 1\n');
    expect(enclosure?.wasOutOfMemory()).toBe(true);
  });

  test('empty groups of an earlier supervisor go', () => {
    const root = createRoot('unit.service', v2);
    mkdirSync(join(root, 'unit.service', 'prx-worker-99'));
    openCgroups({ root, own: own2, isOurs });
    expect(existsSync(join(root, 'unit.service', 'prx-worker-99'))).toBe(false);
  });

  test.each([
    ['in the root group', v2, '0::/\n'],
    ['beside a stranger', { ...v2, 'cgroup.procs': '10\n4000\n' }, own2],
    ['without the controller', { ...v2, 'cgroup.controllers': 'cpu pids\n' }, own2],
    ['where there is no such group', v2, '0::/elsewhere\n'],
    ['by a path that leads out', v2, '0::/../unit.service\n'],
  ])('%s nothing is touched', (_, files, own) => {
    const root = createRoot('unit.service', files);
    expect(openCgroups({ root, own, isOurs })).toBeUndefined();
    expect(readdirSync(join(root, 'unit.service')).sort()).toEqual(Object.keys(files).sort());
  });
});

describe('v1', () => {
  const own = '5:pids:/\n4:cpu,memory:/unit\n0::/\n';

  test('each worker has a group with its limit', () => {
    const root = createRoot('memory/unit', { 'cgroup.procs': '10\n' });
    const cgroups = openCgroups({ root, own, isOurs });
    expect(cgroups?.version).toBe('v1');
    const enclosure = cgroups?.enclose([20], MIB);
    const leaf = join(root, 'memory', 'unit', 'prx-worker-20');
    expect(readFileSync(join(leaf, 'memory.limit_in_bytes'), 'utf8')).toBe(String(MIB));
    writeFileSync(join(leaf, 'memory.oom_control'), 'oom_kill_disable 0\noom_kill 2\n');
    expect(enclosure?.wasOutOfMemory()).toBe(true);
  });

  test('beside a stranger nothing is touched', () => {
    const root = createRoot('memory/unit', { 'cgroup.procs': '4000\n' });
    expect(openCgroups({ root, own, isOurs })).toBeUndefined();
  });
});
