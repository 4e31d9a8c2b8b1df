/** What a tree of processes uses at this moment: memory of all of it together. Read through a /proc
 *  that shows just this tree, so a process cannot leave the count by leaving its parent. */
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { systemCode } from '../../base/errors.ts';

export interface TreeView {
  /** A folder with a folder per process: the /proc of the sandbox. */
  readonly proc: string;
  /** Undefined: all that `proc` shows. */
  readonly listPids?: () => readonly number[];
  /** File systems in memory that only this tree writes to. */
  readonly memoryFolders: readonly string[];
}

/** What the kernel keeps for a file in memory besides its content. */
const INODE_BYTES = 1024;
const KIB = 1024;

/** @param precision  `quick`: shared pages count once for each process that has them, so it is
 *  never less than what is used; `exact`: they are divided, which costs a walk of all pages.
 *  @returns undefined when the tree is gone. */
export function readMemory(view: TreeView, precision: 'quick' | 'exact'): number | undefined {
  const ofProcesses = sumOver(view, (path) => readProcess(path, precision) * KIB);
  if (ofProcesses === undefined) return undefined;
  return view.memoryFolders.reduce((sum, folder) => sum + readUsed(folder), ofProcesses);
}

/** KiB; with the tables of its pages, which may be larger than they. */
function readProcess(path: string, precision: 'quick' | 'exact'): number {
  if (precision === 'quick') {
    return readFields(`${path}/status`, ['RssAnon', 'RssShmem', 'VmSwap', 'VmPTE']);
  }
  // Only root may look closely at a process that made itself unreadable.
  if (readText(`${path}/smaps_rollup`) === '') return readProcess(path, 'quick');
  const pages = readFields(`${path}/smaps_rollup`, ['Pss_Anon', 'Pss_Shmem', 'SwapPss']);
  return pages + readFields(`${path}/status`, ['VmPTE']);
}

/** A process that lives, and made itself unreadable (prctl, or a program without the right to read
 *  it): where we are not root, what it holds cannot be looked at. */
function isUnreadable(path: string): boolean {
  try {
    // Of another user's namespace the maps can be read all the same, and the descriptors not.
    readdirSync(`${path}/fd`);
    closeSync(openSync(`${path}/maps`, 'r'));
    return false;
  } catch (error) {
    // One that ended and was not waited for is as closed, and holds nothing.
    return systemCode(error) === 'EACCES' && readFields(`${path}/status`, ['VmSize']) > 0;
  }
}

/** What the machine could give to anybody now, bytes; undefined: the kernel does not say. */
export function readAvailable(): number | undefined {
  const kib = readFields('/proc/meminfo', ['MemAvailable']);
  return kib === 0 ? undefined : kib * KIB;
}

/** A queue may hold twice net.core.wmem_default (208 KiB, and seccomp.ts keeps it so), and the
 *  kernel's own with it. */
const SOCKET_BYTES = 512 * 1024;
/** Those of TCP grow by themselves, to 4 MiB and more; of each byte in them the kernel keeps up to
 *  another one. */
const QUEUED_FACTOR = 2;
const PIPE_BYTES = 64 * 1024;
/** What the kernel keeps at most behind one descriptor of these: 16,384 events that were not read,
 *  each with a name; an entry for each file that a process may have open; a rule for each port. */
const KEPT_BYTES: ReadonlyMap<string, number> = new Map([
  ['anon_inode:inotify', 16_384 * 576],
  ['anon_inode:[eventpoll]', 1024 * 256],
  ['anon_inode:[landlock-ruleset]', 65_536 * 64],
]);
/** What the kernel keeps for one mapping. */
const MAPPING_BYTES = 256;
/** Shared memory without a file; it is kept when its pages leave every process's tables. */
const SHARED_MEMORY = '/dev/zero (deleted)';

/** The most that a tree can hold where no size of a process shows it: in the queues of sockets,
 *  pipes and watches, in shared memory that is mapped and was dropped from the tables, in mappings
 *  themselves. Not what it does hold, which nobody says.
 *  @param enough  more than this is not counted. */
export function readHideable(view: TreeView, enough: number): number {
  const seen = new Map<string, number>();
  let sum = 0;
  const add = (id: string, bytes: number): void => {
    const more = bytes - (seen.get(id) ?? 0);
    if (more <= 0) return;
    seen.set(id, bytes);
    sum += more;
  };
  const pids = listTreePids(view);
  const queued = readQueues(`${view.proc}/${pids[0]}/net`);
  add(UNHELD, queued.get(UNHELD) ?? 0);
  for (const pid of pids) {
    const path = `${view.proc}/${pid}`;
    if (isUnreadable(path)) return enough;
    for (const fd of listNames(`${path}/fd`)) {
      if (sum >= enough) return enough;
      const target = readLink(`${path}/fd/${fd}`);
      if (target.startsWith('socket:')) add(target, SOCKET_BYTES + (queued.get(target) ?? 0));
      else if (target.startsWith('pipe:')) add(target, PIPE_BYTES);
      // It has no name of its own: shared by two processes it counts twice.
      else add(`${path}/fd/${fd}`, KEPT_BYTES.get(target) ?? 0);
    }
    const maps = readText(`${path}/maps`);
    add(path, countLines(maps) * MAPPING_BYTES);
    if (maps.includes(SHARED_MEMORY)) for (const [id, bytes] of readShared(maps)) add(id, bytes);
  }
  return Math.min(sum, enough);
}

/** Of TCP connections that were closed, or not yet taken: no descriptor leads to them. */
const UNHELD = 'socket:[0]';
const QUEUES = / ([0-9A-F]{8}):([0-9A-F]{8}) \w+:\w+ \w+ +\d+ +\d+ (\d+) /g;

/** What the queues of TCP take, by the names that descriptors have under /proc. */
function readQueues(net: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const text of ['tcp', 'tcp6'].map((name) => readText(`${net}/${name}`))) {
    for (const [, sent = '0', received = '0', inode] of text.matchAll(QUEUES)) {
      const bytes = (Number.parseInt(sent, 16) + Number.parseInt(received, 16)) * QUEUED_FACTOR;
      const name = `socket:[${inode}]`;
      if (bytes > 0) found.set(name, (found.get(name) ?? 0) + bytes);
    }
  }
  return found;
}

/** A mapped file that was removed; not what the kernel shows as one. */
const REMOVED = / ([0-9a-f]+:[0-9a-f]+) (\d+) +\/(?!dev\/zero|memfd:|SYSV).* \(deleted\)$/gm;

/** Mapped files that were removed, and descriptors on their way through a socket: they take room on
 *  the disk, and nobody says how much. Of a process that cannot be looked at, not even how many. */
export function countHeldFiles(view: TreeView): number {
  const inMemory = new Set(view.memoryFolders.map(readDevice));
  const mapped = new Set<string>();
  let sent = 0;
  for (const pid of listTreePids(view)) {
    const path = `${view.proc}/${pid}`;
    if (isUnreadable(path)) return Number.POSITIVE_INFINITY;
    for (const [, device = '', inode] of readText(`${path}/maps`).matchAll(REMOVED)) {
      if (!inMemory.has(device)) mapped.add(`${device} ${inode}`);
    }
    for (const fd of listNames(`${path}/fd`)) {
      if (!readLink(`${path}/fd/${fd}`).startsWith('socket:')) continue;
      sent += Number(/^scm_fds:\s+(\d+)/m.exec(readText(`${path}/fdinfo/${fd}`))?.[1] ?? 0);
    }
  }
  return mapped.size + sent;
}

/** As /proc/PID/maps has it. */
function readDevice(folder: string): string {
  try {
    const { dev } = statSync(folder, { bigint: true });
    const numbers = [(dev >> 8n) & 0xfffn, (dev & 0xffn) | ((dev >> 12n) & 0xfff00n)];
    return numbers.map((number) => number.toString(16).padStart(2, '0')).join(':');
  } catch {
    // The sandbox is gone.
    return '';
  }
}

function listNames(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // It ended meanwhile.
    return [];
  }
}

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // Closed meanwhile.
    return '';
  }
}

/** Bytes by inode. */
function readShared(maps: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of maps.split('\n')) {
    if (!line.endsWith(SHARED_MEMORY)) continue;
    const [, from = '0', to = '0', inode = ''] =
      /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ (\d+)/.exec(line) ?? [];
    const bytes = Number.parseInt(to, 16) - Number.parseInt(from, 16);
    found.set(inode, (found.get(inode) ?? 0) + bytes);
  }
  return found;
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) count += 1;
  return count;
}

function sumOver(view: TreeView, read: (path: string) => number): number | undefined {
  const pids = listTreePids(view);
  if (pids.length === 0) return undefined;
  return pids.reduce((sum, pid) => sum + read(`${view.proc}/${pid}`), 0);
}

/** None: it is gone. */
export function listTreePids(view: TreeView): readonly number[] {
  return view.listPids?.() ?? listPids(view.proc);
}

function listPids(proc: string): number[] {
  try {
    return readdirSync(proc)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    // Its first process is gone, and all with it.
    return [];
  }
}

function readFields(path: string, names: readonly string[]): number {
  const text = readText(path);
  return names.reduce((sum, name) => {
    const value = new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1];
    return sum + Number(value ?? 0);
  }, 0);
}

/** Empty: there is nothing to read any more. */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // It ended between the listing and the look.
    return '';
  }
}

function readUsed(folder: string): number {
  try {
    const { blocks, bfree, bsize, files, ffree } = statfsSync(folder);
    return (blocks - bfree) * bsize + (files - ffree) * INODE_BYTES;
  } catch {
    // Gone with the tree.
    return 0;
  }
}
