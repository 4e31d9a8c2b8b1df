/** Control groups, on a made-up tree: no kernel takes part, so what is shown is what we write. The
 *  kernel's own (v1) are in cgroup-real.test.ts. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { openCgroups } from '../../../supervisor/children/cgroup.ts';

const folders: string[] = [];
const killed: number[] = [];
const ports = {
  isOurs: (pid: number): boolean => pid < 100,
  kill: (pid: number) => void killed.push(pid),
};
const MIB = 2 ** 20;

afterEach(() => {
  killed.splice(0);
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function readAll(folder: string): Record<string, string> {
  const names = readdirSync(folder);
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

function createRoot(group: string, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'prx-cgroup-'));
  folders.push(root);
  mkdirSync(join(root, group), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, group, name), text);
  return root;
}

const v2 = { 'cgroup.controllers': 'cpu memory pids\n', 'cgroup.procs': '' };
const own2 = '0::/unit.service/supervisor\n';

/** A unit with DelegateSubgroup=supervisor. */
function createUnit(files: Readonly<Record<string, string>> = v2): string {
  const root = createRoot('unit.service', files);
  mkdirSync(join(root, 'unit.service', 'supervisor'));
  writeFileSync(join(root, 'unit.service', 'supervisor', 'cgroup.procs'), '10\n11\n');
  return root;
}

describe('v2, delegated', () => {
  test('each worker has a group beside ours, with its limits', async () => {
    const root = createUnit();
    const group = join(root, 'unit.service');
    const cgroups = openCgroups({ root, own: own2, ...ports });
    expect(cgroups?.version).toBe('v2');
    expect(cgroups?.controllers).toEqual(['memory', 'pids', 'cpu']);
    expect(readFileSync(join(group, 'cgroup.subtree_control'), 'utf8')).toBe('+cpu');
    expect(readFileSync(join(group, 'supervisor', 'cpu.weight'), 'utf8')).toBe('400');

    const spec = { kind: 'worker', pid: 20, memoryBytes: 512 * MIB } as const;
    const enclosure = await cgroups?.enclose(spec);
    const leaf = join(group, 'prx-worker-20');
    expect(readAll(leaf)).toEqual({
      'memory.max': String(512 * MIB),
      'memory.oom.group': '1',
      'pids.max': '128',
      'cpu.weight': '100',
      'cgroup.procs': '20',
    });
    expect(enclosure?.wasOutOfMemory()).toBe(false);
    writeFileSync(join(leaf, 'memory.events'), 'low 0\noom 1\noom_kill 1\n');
    expect(enclosure?.wasOutOfMemory()).toBe(true);
    enclosure?.remove();
    rmSync(join(leaf, 'memory.events'));
    expect(enclosure?.wasOutOfMemory()).toBe(true);
  });

  test('what a child started on its way in is let in, and who is inside is not moved again', async () => {
    const root = createUnit();
    const cgroups = openCgroups({ root, own: own2, ...ports });
    const enclosure = await cgroups?.enclose({ kind: 'worker', pid: 20 });
    const inside = join(root, 'unit.service', 'prx-worker-20', 'cgroup.procs');
    await enclosure?.admit([20, 21]);
    expect(readFileSync(inside, 'utf8')).toBe('21');
  });

  test('a sandbox host has the same share of the processor, and no limit of memory', async () => {
    const root = createUnit();
    await openCgroups({ root, own: own2, ...ports })?.enclose({ kind: 'host', pid: 30 });
    const written = readAll(join(root, 'unit.service', 'prx-host-30'));
    expect(written).toEqual({ 'cpu.weight': '100', 'cgroup.procs': '30' });
  });

  test('where the kernel can, sessions take what the supervisor leaves of the processor, and their hosts what workers leave', async () => {
    const root = createUnit({ ...v2, 'cpu.idle': '0\n' });
    const cgroups = openCgroups({ root, own: own2, ...ports });
    await cgroups?.enclose({ kind: 'host', pid: 30 });
    await cgroups?.enclose({ kind: 'worker', pid: 40 });
    const sessions = join(root, 'unit.service', 'prx-sessions');
    expect(readFileSync(join(sessions, 'cpu.idle'), 'utf8')).toBe('1');
    const control = readFileSync(join(sessions, 'cgroup.subtree_control'), 'utf8');
    expect(control).toBe('+memory +pids +cpu');
    const host = readAll(join(sessions, 'prx-host-30'));
    expect(host).toEqual({ 'cpu.idle': '1', 'cgroup.procs': '30' });
    expect(readAll(join(sessions, 'prx-worker-40'))).toMatchObject({ 'cpu.weight': '100' });
  });

  test('a host’s limit takes one process, not the group, and leaves the count of processes', async () => {
    const root = createUnit();
    const spec = { kind: 'host', pid: 30, memoryBytes: 512 * MIB } as const;
    await openCgroups({ root, own: own2, ...ports })?.enclose(spec);
    expect(readAll(join(root, 'unit.service', 'prx-host-30'))).toEqual({
      ...{ 'memory.max': String(512 * MIB), 'cpu.weight': '100', 'cgroup.procs': '30' },
    });
  });

  test('without the processor controller the rest is set all the same', () => {
    const files = { ...v2, 'cgroup.controllers': 'memory pids\n' };
    const root = createUnit(files);
    const cgroups = openCgroups({ root, own: own2, ...ports });
    expect(cgroups?.controllers).toEqual(['memory', 'pids']);
    const control = join(root, 'unit.service', 'cgroup.subtree_control');
    expect(readFileSync(control, 'utf8')).toBe('+memory +pids');
  });

  test('at its exit, what a child left running in its group is killed as a whole', async () => {
    const root = createUnit();
    const cgroups = openCgroups({ root, own: own2, ...ports });
    const enclosure = await cgroups?.enclose({ kind: 'worker', pid: 20, memoryBytes: MIB });
    const leaf = join(root, 'unit.service', 'prx-worker-20');
    writeFileSync(join(leaf, 'cgroup.kill'), '');
    enclosure?.remove();
    expect(readFileSync(join(leaf, 'cgroup.kill'), 'utf8')).toBe('1');
    expect(killed).toEqual([]);
  });

  test('empty groups of an earlier supervisor go, at the start and at each sweep', () => {
    const root = createUnit();
    const dead = (name: string) => {
      mkdirSync(join(root, 'unit.service', name));
      return () => existsSync(join(root, 'unit.service', name));
    };
    const [worker, host, stranger] = [dead('prx-worker-99'), dead('prx-host-98'), dead('prx-x')];
    const cgroups = openCgroups({ root, own: own2, ...ports });
    expect([worker(), host(), stranger()]).toEqual([false, false, true]);
    const later = dead('prx-worker-97');
    expect(cgroups?.sweep()).toEqual(['prx-worker-97']);
    expect([later(), stranger()]).toEqual([false, true]);
  });

  test('the group around those of the sessions goes with the last of them', () => {
    const root = createUnit({ ...v2, 'cpu.idle': '0\n' });
    const sessions = join(root, 'unit.service', 'prx-sessions');
    mkdirSync(join(sessions, 'prx-host-98'), { recursive: true });
    mkdirSync(join(sessions, 'prx-worker-99'));
    openCgroups({ root, own: own2, ...ports });
    expect(existsSync(sessions)).toBe(false);
  });

  test.each([
    ['in the root group', v2, '0::/\n'],
    ['in a group below the root group', v2, '0::/supervisor\n'],
    ['in the delegated group itself', v2, '0::/unit.service\n'],
    ['beside a stranger', { ...v2, 'cgroup.procs': '4000\n' }, own2],
    ['without the controller', { ...v2, 'cgroup.controllers': 'cpu pids\n' }, own2],
    ['where there is no such group', v2, '0::/elsewhere/supervisor\n'],
    ['by a path that leads out', v2, '0::/../unit.service/supervisor\n'],
  ])('%s nothing is touched', (_, files, own) => {
    const root = createUnit(files);
    const before = readdirSync(root, { recursive: true }).sort();
    expect(openCgroups({ root, own, ...ports })).toBeUndefined();
    expect(readdirSync(root, { recursive: true }).sort()).toEqual(before);
  });
});

describe('v1', () => {
  const own = '5:pids:/\n4:cpu,memory:/unit\n0::/\n';

  test('each worker has a group with its limit; without a group kill each is killed', async () => {
    const root = createRoot('memory/unit', { 'cgroup.procs': '10\n' });
    const cgroups = openCgroups({ root, own, ...ports });
    expect(cgroups?.version).toBe('v1');
    const enclosure = await cgroups?.enclose({ kind: 'worker', pid: 20, memoryBytes: MIB });
    const leaf = join(root, 'memory', 'unit', 'prx-worker-20');
    expect(readFileSync(join(leaf, 'memory.limit_in_bytes'), 'utf8')).toBe(String(MIB));
    writeFileSync(join(leaf, 'memory.oom_control'), 'oom_kill_disable 0\noom_kill 2\n');
    expect(enclosure?.wasOutOfMemory()).toBe(true);
    expect(cgroups?.controllers).toEqual(['memory']);
    enclosure?.remove();
    expect(killed).toEqual([20]);
  });

  test('a sandbox host takes what the others leave of the processor', async () => {
    const root = createRoot('cpu/unit', { 'cgroup.procs': '10\n', 'cpu.idle': '0\n' });
    await openCgroups({ root, own, ...ports })?.enclose({ kind: 'host', pid: 30 });
    const sessions = join(root, 'cpu', 'unit', 'prx-sessions');
    expect(readAll(join(sessions, 'prx-host-30'))).toEqual({
      ...{ 'cpu.idle': '1', 'cgroup.procs': '30' },
    });
    expect(readFileSync(join(sessions, 'cpu.idle'), 'utf8')).toBe('1');
  });

  test('controllers that are mounted together have one group for each child', async () => {
    const root = createRoot('memory/unit', { 'cgroup.procs': '10\n', 'cpu.idle': '0\n' });
    symlinkSync('memory', join(root, 'cpu'));
    await openCgroups({ root, own, ...ports })?.enclose({
      kind: 'host',
      pid: 30,
      memoryBytes: MIB,
    });
    expect(readAll(join(root, 'memory', 'unit', 'prx-sessions', 'prx-host-30'))).toEqual({
      'memory.limit_in_bytes': String(MIB),
      ...{ 'cpu.idle': '1', 'cgroup.procs': '30' },
    });
    expect(existsSync(join(root, 'memory', 'unit', 'prx-host-30'))).toBe(false);
  });

  test('beside a stranger nothing is touched', () => {
    const root = createRoot('memory/unit', { 'cgroup.procs': '4000\n' });
    expect(openCgroups({ root, own, ...ports })).toBeUndefined();
  });
});
