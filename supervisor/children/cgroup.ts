/** The kernel's own limits, where we may set them: a control group for each worker and each sandbox
 *  host, v2 (delegated, and the supervisor started in a leaf) or v1. A worker's has a hard limit of
 *  memory; a host's has a backstop behind its own watch, where the kernel ends one of its tools.
 *  Each has an equal share of the processor, however many processes it holds, so that no session
 *  starves another; where the kernel can, workers take what supervisor and gateway leave, and hosts
 *  what the workers leave.
 *  Only in a group in which nobody but us lives: limits, moves and kills must not
 *  reach a stranger. All of it is file operations below a path that is handed in. What a worker
 *  used before it was moved stays charged to the supervisor's group. */
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

export interface Cgroups {
  readonly version: 'v1' | 'v2';
  readonly controllers: readonly Controller[];
  /** A group for one child and all it starts from now on. Undefined where it could not be made: the
   *  other watchers enforce. The kernel lets whoever moves a process wait for 4 to 22 ms (20 moves
   *  on v1): it is not our event loop that waits. */
  enclose(what: EnclosureSpec): Promise<Enclosure | undefined>;
  /** Removes the groups of the dead; their names. One that still holds a process is left: whoever
   *  ends the process comes first. */
  sweep(): readonly string[];
}

export type Controller = 'memory' | 'pids' | 'cpu';

export interface EnclosureSpec {
  readonly kind: 'worker' | 'host';
  /** Gives the group its name. */
  readonly pid: number;
  /** Absent: no limits but the share of the processor. A worker that reaches it ends as a whole,
   *  and has a limit of processes too. */
  readonly memoryBytes?: number;
}

export interface Enclosure {
  /** What the child started while it was on its way in. A process that is gone is left out. */
  admit(pids: readonly number[]): Promise<void>;
  /** The kernel killed in here because the limit was reached; also told when it was removed. */
  wasOutOfMemory(): boolean;
  /** After the exit of the child: ends what it left running in there. */
  remove(): void;
}

export interface CgroupMachine {
  /** Where control groups are mounted: /sys/fs/cgroup. */
  readonly root: string;
  /** The text of /proc/self/cgroup. */
  readonly own: string;
  isOurs(pid: number): boolean;
  /** SIGKILL; for kernels whose groups cannot be killed as a whole. */
  kill(pid: number): void;
}

/** As the unit that we write names it. */
const SUPERVISOR_LEAF = 'supervisor';
/** Between our group and those of the children, where the kernel can let it wait for ours. */
const SESSIONS = 'prx-sessions';
const LEAF_NAME = /^prx-(worker|host)-\d+$/;
/** Threads count: a worker has about ten. */
const PIDS_MAX = 128;
/** The kernel's defaults, written down all the same: equal is the point. */
const WEIGHT_V2 = 100;
const SHARES_V1 = 1024;
const IDLE = 'cpu.idle';
/** Supervisor and gateway serve every session. (In v1 they stay in the group itself, where each of
 *  their threads counts as much as a whole group below.) */
const SUPERVISOR_WEIGHT_V2 = 400;

/** Undefined: no group that we may divide. Whatever fails here costs the kernel's limits, nothing
 *  else. */
export function openCgroups(machine: CgroupMachine): Cgroups | undefined {
  try {
    return openV2(machine) ?? openV1(machine);
  } catch {
    // Not writable, not delegated, gone meanwhile: the monitor and the scan enforce.
    return undefined;
  }
}

/** One tree of groups: the only one in v2, one for each controller in v1. */
interface Tree {
  readonly folder: string;
  /** Of the group around the children's; absent: theirs stand in the folder itself. */
  readonly sessions?: Limits;
  readonly controllers: readonly Controller[];
  /** Where the kernel counts its kills. */
  readonly events: string;
  toLimits(what: EnclosureSpec): Limits;
}

type Limits = readonly (readonly [file: string, value: number | string])[];

/** A group that hands out controllers may hold no process itself, so we must have been started in
 *  one below it: what DelegateSubgroup=supervisor does. Had we moved there ourselves, no later
 *  supervisor could be started in the upper group while an effect of ours still runs. */
function openV2(machine: CgroupMachine): Cgroups | undefined {
  const leaf = findGroup(machine, /^0::(\/.*)$/m, machine.root);
  if (leaf === undefined || basename(leaf) !== SUPERVISOR_LEAF) return undefined;
  const folder = dirname(leaf);
  if (folder === machine.root || listPids(folder).length > 0) return undefined;
  const offered = read(folder, 'cgroup.controllers').split(/\s/);
  if (!offered.includes('memory')) return undefined;
  write(folder, 'cgroup.subtree_control', '+memory +pids');
  const hasCpu = offered.includes('cpu') && tryWrite(folder, 'cgroup.subtree_control', '+cpu');
  if (hasCpu) tryWrite(leaf, 'cpu.weight', String(SUPERVISOR_WEIGHT_V2));
  const sessions = [
    ['cgroup.subtree_control', '+memory +pids +cpu'],
    [IDLE, 1],
  ] as const;
  const tree: Tree = {
    folder,
    ...(hasCpu && hasIdle(folder) ? { sessions } : {}),
    controllers: hasCpu ? ['memory', 'pids', 'cpu'] : ['memory', 'pids'],
    events: 'memory.events',
    toLimits: ({ kind, memoryBytes: bytes }) => [
      ...(bytes === undefined
        ? []
        : ([
            ['memory.max', bytes],
            ['memory.swap.max', 0],
          ] as const)),
      ...(bytes === undefined || kind === 'host'
        ? []
        : ([
            ['memory.oom.group', 1],
            ['pids.max', PIDS_MAX],
          ] as const)),
      ...(hasCpu ? toShare(kind, folder, ['cpu.weight', WEIGHT_V2]) : []),
    ],
  };
  return createCgroups('v2', [tree], machine);
}

function openV1(machine: CgroupMachine): Cgroups | undefined {
  const trees = [
    openTreeV1(machine, 'memory', ({ memoryBytes: bytes }) =>
      // With swap second: it must never be below the other.
      bytes === undefined
        ? []
        : [
            ['memory.limit_in_bytes', bytes],
            ['memory.memsw.limit_in_bytes', bytes],
          ],
    ),
    openTreeV1(machine, 'pids', ({ kind, memoryBytes }) =>
      kind === 'host' || memoryBytes === undefined ? [] : [['pids.max', PIDS_MAX]],
    ),
    openTreeV1(machine, 'cpu', ({ kind }, folder) =>
      toShare(kind, folder, ['cpu.shares', SHARES_V1]),
    ),
  ].filter((tree) => tree !== undefined);
  return trees.length === 0 ? undefined : createCgroups('v1', trees, machine);
}

/** Controllers that are mounted together have a tree together, and a folder for each name. */
function openTreeV1(
  machine: CgroupMachine,
  controller: Controller,
  toLimits: (what: EnclosureSpec, folder: string) => Limits,
): Tree | undefined {
  const pattern = new RegExp(`^\\d+:(?:[^:]*,)?${controller}(?:,[^:]*)?:(/.+)$`, 'm');
  const folder = findGroup(machine, pattern, join(machine.root, controller));
  if (folder === undefined || !listPids(folder).every(machine.isOurs)) return undefined;
  const isOfProcessor = /[:,]cpu[,:]/.test(pattern.exec(machine.own)?.[0] ?? '');
  return {
    ...{ folder, controllers: [controller], events: 'memory.oom_control' },
    ...(isOfProcessor && hasIdle(folder) ? { sessions: [[IDLE, 1]] } : {}),
    toLimits: (what) => toLimits(what, folder),
  };
}

/** What a session does may wait for whoever serves all sessions, and what its tools do for every
 *  worker, but not the other way round: the kernel (5.15 and later) lets such a group run when no
 *  other beside it wants to, and stops it at once when one does. A share alone lets a token wait
 *  for the next tick at each of its hops. So all groups of sessions stand in one that waits for
 *  supervisor and gateway, and in there those of the hosts wait for those of the workers. */
function toShare(kind: EnclosureSpec['kind'], folder: string, equal: Limits[number]): Limits {
  return kind === 'host' && hasIdle(folder) ? [[IDLE, 1]] : [equal];
}

const hasIdle = (folder: string): boolean => existsSync(join(folder, IDLE));

/** The root group belongs to everybody. */
function findGroup({ own }: CgroupMachine, pattern: RegExp, mount: string): string | undefined {
  const path = pattern.exec(own)?.[1];
  if (path === undefined || path === '/' || path.includes('..')) return undefined;
  const group = join(mount, path);
  return existsSync(join(group, 'cgroup.procs')) ? group : undefined;
}

function createCgroups(
  version: Cgroups['version'],
  trees: readonly Tree[],
  machine: CgroupMachine,
): Cgroups {
  const live = new Set<string>();

  function sweep(): readonly string[] {
    // An earlier version had them all in the folder.
    const found = trees.flatMap(({ folder }) =>
      [folder, join(folder, SESSIONS)].flatMap((around) =>
        listLeaves(around).filter((name) => !live.has(name) && removeQuietly(join(around, name))),
      ),
    );
    removeSessions();
    return [...new Set(found)];
  }

  /** Where nothing is left in them. */
  function removeSessions(): void {
    for (const { folder, sessions } of trees) {
      if (sessions !== undefined) removeQuietly(join(folder, SESSIONS));
    }
  }

  /** One move at a time: they wait for each other in the kernel, each with a thread of the few that
   *  the journal's syncs run on, too. */
  let moving: Promise<unknown> = Promise.resolve();

  function move(leaves: readonly string[], pids: readonly number[]): Promise<void> {
    const moved = moving.then(async () => {
      for (const leaf of leaves) {
        for (const pid of pids) await writeFile(join(leaf, 'cgroup.procs'), String(pid));
      }
    });
    moving = moved.catch(() => undefined); // Whoever asked for it hears of it.
    return moved;
  }

  async function enclose(what: EnclosureSpec): Promise<Enclosure | undefined> {
    const { kind, pid } = what;
    const name = `prx-${kind}-${pid}`;
    const groups = trees.map((tree) => ({ tree, leaf: join(toAround(tree), name) }));
    const removeAll = (): void => {
      for (const { leaf } of groups) removeQuietly(leaf);
      removeSessions();
    };
    try {
      for (const { tree, leaf } of groups) {
        const around = dirname(leaf);
        if (tree.sessions !== undefined && !existsSync(around)) make(around, tree.sessions);
        make(leaf, tree.toLimits(what));
      }
      live.add(name);
      await move(
        groups.map(({ leaf }) => leaf),
        [pid],
      );
    } catch {
      // It died meanwhile, or the kernel refused: there is no half of a limit.
      live.delete(name);
      removeAll();
      return undefined;
    }
    const hasKilled = (): boolean =>
      groups.some(({ tree: { controllers, events }, leaf }) =>
        controllers.includes('memory') ? readKills(leaf, events) : false,
      );
    let killed: boolean | undefined;
    return {
      async admit(wanted) {
        for (const { leaf } of groups) {
          const missing = wanted.filter((pid) => !listPidsQuietly(leaf).includes(pid));
          for (const pid of missing) await move([leaf], [pid]).catch(() => undefined); // Gone.
        }
      },
      wasOutOfMemory: () => killed ?? hasKilled(),
      remove() {
        if (!live.delete(name)) return;
        killed = hasKilled();
        for (const { leaf } of groups) killAll(leaf, machine);
        removeAll();
      },
    };
  }

  // Of an earlier supervisor.
  sweep();
  return { version, controllers: trees.flatMap((tree) => tree.controllers), enclose, sweep };
}

/** The group in which those of the children stand. */
function toAround({ folder, sessions }: Tree): string {
  return sessions === undefined ? folder : join(folder, SESSIONS);
}

/** One of that name may be left from another life of the pid. */
function make(leaf: string, limits: Limits): void {
  removeQuietly(leaf);
  mkdirSync(leaf, { recursive: true });
  for (const [file, value] of limits) {
    // Swap is counted only where the kernel was told to.
    const isSwap = /swap|memsw/.test(file);
    if (!isSwap || existsSync(join(leaf, file))) write(leaf, file, String(value));
  }
}

function readKills(leaf: string, events: string): boolean {
  try {
    return /^oom_kill [1-9]/m.test(read(leaf, events));
  } catch {
    // The group is gone.
    return false;
  }
}

/** Only what descends from our child can be in there. */
function killAll(leaf: string, machine: CgroupMachine): void {
  try {
    const left = listPids(leaf);
    if (left.length === 0) return;
    if (existsSync(join(leaf, 'cgroup.kill'))) write(leaf, 'cgroup.kill', '1');
    else for (const pid of left) machine.kill(pid);
  } catch {
    // The group is gone, and what was in it.
  }
}

function listLeaves(folder: string): readonly string[] {
  try {
    return readdirSync(folder).filter((name) => LEAF_NAME.test(name));
  } catch {
    // Our own group was taken away: there is nothing of ours in it.
    return [];
  }
}

/** A group with processes in it cannot be removed, and is not. */
function removeQuietly(leaf: string): boolean {
  try {
    rmdirSync(leaf);
    return true;
  } catch {
    // Still in use, or gone: the next sweep looks again.
    return false;
  }
}

const read = (group: string, file: string): string => readFileSync(join(group, file), 'utf8');

const write = (group: string, file: string, text: string): void =>
  writeFileSync(join(group, file), text);

function tryWrite(group: string, file: string, text: string): boolean {
  try {
    write(group, file, text);
    return true;
  } catch {
    // A controller that may not be had here: the others are.
    return false;
  }
}

function listPidsQuietly(group: string): readonly number[] {
  try {
    return listPids(group);
  } catch {
    // The group is gone: nobody is in it.
    return [];
  }
}

function listPids(group: string): readonly number[] {
  return read(group, 'cgroup.procs').split('\n').filter(Boolean).map(Number);
}
