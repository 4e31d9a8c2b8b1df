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
export function isUnreadable(path: string): boolean {
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

export function listNames(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // It ended meanwhile.
    return [];
  }
}

export function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // Closed meanwhile.
    return '';
  }
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

export function readFields(path: string, names: readonly string[]): number {
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
