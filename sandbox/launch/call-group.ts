/** Control groups for calls: the kernel keeps a whole tree within its memory, where we may make a
 *  group (root on v1; on v2 where the supervisor's own group was divided). A group serves one call
 *  after another; its host's groups stand in one folder named after the host, and whoever starts
 *  next removes those of hosts that are gone. Without: the tree is measured (footprint.ts). */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { findIdentity } from '../../base/process.ts';

export interface CallGroup {
  /** Takes a process, and all that it will ever start. False: the kernel refused. It lets the
   *  writer wait for 10 to 40 ms (measured), and who starts a process meanwhile waits too: not for
   *  calls that come one after another. */
  join(pid: number): Promise<boolean>;
  /** Since it was taken, the kernel killed in it for want of memory. */
  wasOutOfMemory(): boolean;
  peakBytes(): number | undefined;
  /** Ready for another call. */
  release(): void;
}

export interface CallGroups {
  readonly version: 'v1' | 'v2';
  /** Undefined: one could not be made. */
  take(): CallGroup | undefined;
  close(): void;
}

export interface GroupMachine {
  /** Where control groups are mounted: /sys/fs/cgroup. */
  readonly root: string;
  /** The text of /proc/self/cgroup. */
  readonly own: string;
  /** Names our folder. */
  readonly host: { readonly pid: number; readonly startTicks: number };
  isAlive(host: { readonly pid: number; readonly startTicks: number }): boolean;
}

interface Kind {
  readonly version: 'v1' | 'v2';
  readonly base: string;
  /** Written in this order; the first must be there. */
  readonly limits: readonly (readonly [file: string, value: string])[];
  readonly events: string;
  readonly peak: string;
}

const PREFIX = 'prx-tools-';
/** The leaf in which a supervisor was started that may divide the group above it (v2); as the unit
 *  that we write names it. */
const SUPERVISOR_LEAF = 'supervisor';

/** Undefined: no group that we may divide, or no limit is wanted. */
export function openCallGroups(machine: GroupMachine, limitBytes: number): CallGroups | undefined {
  const kind = findKind(machine, limitBytes);
  if (kind === undefined) return undefined;
  const { pid, startTicks } = machine.host;
  const folder = join(kind.base, `${PREFIX}${pid}-${startTicks}`);
  try {
    sweep(kind.base, machine);
    if (limitBytes === 0) return undefined;
    mkdirSync(folder, { recursive: true });
    if (kind.version === 'v2') writeFileSync(join(folder, 'cgroup.subtree_control'), '+memory');
    const probe = makeGroup(folder, 0, kind);
    removeQuietly(probe);
  } catch {
    // Not ours to divide: the tree is measured instead.
    removeQuietly(folder);
    return undefined;
  }
  return createGroups(folder, kind);
}

/** What stands in the way of the folders of dead hosts is nothing: their processes died first. */
function sweep(base: string, { isAlive }: GroupMachine): void {
  for (const name of readdirSync(base)) {
    const [, pid, startTicks] = /^prx-tools-(\d+)-(\d+)$/.exec(name) ?? [];
    if (pid === undefined || startTicks === undefined) continue;
    if (isAlive({ pid: Number(pid), startTicks: Number(startTicks) })) continue;
    removeTree(join(base, name));
  }
}

function findKind({ root, own }: GroupMachine, limitBytes: number): Kind | undefined {
  const unified = /^0::(\/.*)$/m.exec(own)?.[1];
  const limit = String(limitBytes);
  if (unified !== undefined && basename(unified) === SUPERVISOR_LEAF) {
    const base = join(root, dirname(unified));
    const control = join(base, 'cgroup.subtree_control');
    if (existsSync(control) && readFileSync(control, 'utf8').includes('memory')) {
      const limits = [
        ['memory.max', limit],
        ['memory.oom.group', '1'],
        ['memory.swap.max', '0'],
      ] as const;
      return { version: 'v2', base, limits, events: 'memory.events', peak: 'memory.peak' };
    }
  }
  const path = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m.exec(own)?.[1];
  if (path === undefined || path.includes('..')) return undefined;
  const base = join(root, 'memory', path);
  if (!existsSync(join(base, 'memory.limit_in_bytes'))) return undefined;
  const limits = [
    ['memory.limit_in_bytes', limit],
    ['memory.memsw.limit_in_bytes', limit],
  ] as const;
  const peak = 'memory.max_usage_in_bytes';
  return { version: 'v1', base, limits, events: 'memory.oom_control', peak };
}

function createGroups(folder: string, kind: Kind): CallGroups {
  const free: string[] = [];
  let count = 0;
  return {
    version: kind.version,
    take() {
      try {
        count += 1;
        const path = free.pop() ?? makeGroup(folder, count, kind);
        return createGroup(path, kind, () => free.push(path));
      } catch {
        // The kernel has no more of them: this call is measured instead.
        return undefined;
      }
    },
    close: () => removeTree(folder),
  };
}

function makeGroup(folder: string, index: number, kind: Kind): string {
  const path = join(folder, String(index));
  mkdirSync(path);
  kind.limits.forEach(([file, value], i) => {
    // The later ones are there only with swap, or on newer kernels.
    if (i === 0 || existsSync(join(path, file))) writeFileSync(join(path, file), value);
  });
  return path;
}

function createGroup(path: string, kind: Kind, giveBack: () => void): CallGroup {
  const killsBefore = readKills(path, kind.events);
  let open = true;
  write(path, kind.peak, '0');
  return {
    join: async (pid) => {
      try {
        await writeFile(join(path, 'cgroup.procs'), String(pid));
        return true;
      } catch {
        // It is gone, or the kernel refused.
        return false;
      }
    },
    wasOutOfMemory: () => readKills(path, kind.events) > killsBefore,
    peakBytes() {
      const bytes = Number(read(path, kind.peak));
      return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
    },
    release() {
      if (!open) return;
      open = false;
      giveBack();
    },
  };
}

function readKills(path: string, file: string): number {
  return Number(/^oom_kill (\d+)/m.exec(read(path, file))?.[1] ?? 0);
}

function read(path: string, file: string): string {
  try {
    return readFileSync(join(path, file), 'utf8');
  } catch {
    // An older kernel has no such file; or the group is gone.
    return '';
  }
}

function write(path: string, file: string, text: string): void {
  try {
    writeFileSync(join(path, file), text);
  } catch {
    // This kernel does not let it be reset.
  }
}

function removeTree(folder: string): void {
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) removeQuietly(join(folder, entry.name));
    }
  } catch {
    // Gone already.
  }
  removeQuietly(folder);
}

function removeQuietly(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Still in use, or gone: the next start looks again.
  }
}

/** The groups of this machine for this process. */
export function openRealCallGroups(limitBytes: number): CallGroups | undefined {
  const host = findIdentity(process.pid);
  if (host === undefined || !existsSync('/proc/self/cgroup')) return undefined;
  return openCallGroups(
    {
      root: '/sys/fs/cgroup',
      own: readFileSync('/proc/self/cgroup', 'utf8'),
      host,
      isAlive: ({ pid, startTicks }) => findIdentity(pid)?.startTicks === startTicks,
    },
    limitBytes,
  );
}
