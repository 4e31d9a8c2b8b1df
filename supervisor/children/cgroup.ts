/** The kernel's own memory limit for workers, where we may set one: a control group per worker
 *  below the supervisor's, v2 (delegated: the supervisor moves into a leaf, because inner
 *  groups may hold no process) or v1. Only in a group in which nobody but us lives: limits and
 *  moves must not reach a stranger. Everything here is a file operation below a path that is handed
 *  in. What a worker used before it was moved stays charged to the supervisor's group. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export interface Cgroups {
  readonly version: 'v1' | 'v2';
  /** A group for one worker. Undefined where it could not be made: the other watchers enforce. */
  enclose(pids: readonly number[], memoryBytes: number): Enclosure | undefined;
}

export interface Enclosure {
  /** The kernel killed in here because the limit was reached. */
  wasOutOfMemory(): boolean;
  /** After the last exit. */
  remove(): void;
}

export interface CgroupMachine {
  /** Where control groups are mounted: /sys/fs/cgroup. */
  readonly root: string;
  /** The text of /proc/self/cgroup. */
  readonly own: string;
  isOurs(pid: number): boolean;
}

const SUPERVISOR_LEAF = 'prx-supervisor';
const WORKER_PREFIX = 'prx-worker-';
/** Threads count: a worker has about ten. */
const PIDS_MAX = 128;

/** Undefined: no group that we may divide. Whatever fails here costs the kernel's limit, nothing
 *  else. */
export function openCgroups(machine: CgroupMachine): Cgroups | undefined {
  try {
    return openV2(machine) ?? openV1(machine);
  } catch {
    // Not writable, not delegated, gone meanwhile: the monitor and the scan enforce.
    return undefined;
  }
}

function openV2(machine: CgroupMachine): Cgroups | undefined {
  const group = findGroup(machine, /^0::(\/.*)$/m, machine.root);
  if (group === undefined) return undefined;
  if (!read(group, 'cgroup.controllers').split(/\s/).includes('memory')) return undefined;
  const pids = listPids(group);
  if (!pids.every(machine.isOurs)) return undefined;
  const leaf = join(group, SUPERVISOR_LEAF);
  mkdirSync(leaf, { recursive: true });
  for (const pid of pids) write(leaf, 'cgroup.procs', String(pid));
  write(group, 'cgroup.subtree_control', '+memory +pids');
  removeEmpty(group);
  return {
    version: 'v2',
    enclose: (own, bytes) =>
      enclose(group, own, {
        limits: { 'memory.max': bytes, 'memory.oom.group': 1, 'pids.max': PIDS_MAX },
        events: 'memory.events',
      }),
  };
}

function openV1(machine: CgroupMachine): Cgroups | undefined {
  const pattern = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.+)$/m;
  const group = findGroup(machine, pattern, join(machine.root, 'memory'));
  if (group === undefined || !listPids(group).every(machine.isOurs)) return undefined;
  removeEmpty(group);
  return {
    version: 'v1',
    enclose: (own, bytes) =>
      enclose(group, own, {
        limits: { 'memory.limit_in_bytes': bytes },
        events: 'memory.oom_control',
      }),
  };
}

/** The root group belongs to everybody. */
function findGroup({ own }: CgroupMachine, pattern: RegExp, mount: string): string | undefined {
  const path = pattern.exec(own)?.[1];
  if (path === undefined || path === '/' || path.includes('..')) return undefined;
  const group = join(mount, path);
  return existsSync(join(group, 'cgroup.procs')) ? group : undefined;
}

interface Kind {
  readonly limits: Readonly<Record<string, number>>;
  readonly events: string;
}

function enclose(group: string, pids: readonly number[], kind: Kind): Enclosure | undefined {
  const leaf = join(group, `${WORKER_PREFIX}${pids[0]}`);
  try {
    mkdirSync(leaf, { recursive: true });
    for (const [file, value] of Object.entries(kind.limits)) write(leaf, file, String(value));
    for (const pid of pids) write(leaf, 'cgroup.procs', String(pid));
  } catch {
    // It died meanwhile, or the kernel refused: there is no half of a limit.
    removeQuietly(leaf);
    return undefined;
  }
  return {
    wasOutOfMemory() {
      try {
        return /^oom_kill [1-9]/m.test(read(leaf, kind.events));
      } catch {
        // The group is gone.
        return false;
      }
    },
    remove: () => removeQuietly(leaf),
  };
}

/** Of an earlier supervisor: a group with processes in it cannot be removed, and is not. */
function removeEmpty(group: string): void {
  for (const name of readdirSync(group)) {
    if (name.startsWith(WORKER_PREFIX)) removeQuietly(join(group, name));
  }
}

function removeQuietly(leaf: string): void {
  try {
    rmdirSync(leaf);
  } catch {
    // Still in use, or gone: the next start looks again.
  }
}

const read = (group: string, file: string): string => readFileSync(join(group, file), 'utf8');

const write = (group: string, file: string, text: string): void =>
  writeFileSync(join(group, file), text);

function listPids(group: string): readonly number[] {
  return read(group, 'cgroup.procs').split('\n').filter(Boolean).map(Number);
}
