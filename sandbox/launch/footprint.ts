/** What a tree of processes uses at this moment: memory of all of it together, or processor time.
 *  Read through a /proc that shows just this tree, so a process cannot leave the count by leaving
 *  its parent. */
import { readdirSync, readFileSync, statfsSync } from 'node:fs';

export interface TreeView {
  /** A folder with a folder per process: the /proc of the sandbox. */
  readonly proc: string;
  /** Undefined: all that `proc` shows. */
  readonly listPids?: () => readonly number[];
  /** File systems in memory that only this tree writes to. */
  readonly memoryFolders: readonly string[];
}

/** Clock ticks of /proc/PID/stat; the kernel's interface has had this value for ever. */
const TICK_MS = 10;
/** What the kernel keeps for a file in memory besides its content. */
const INODE_BYTES = 1024;
const KIB = 1024;

/** @param precision  `quick`: shared pages count once for each process that has them, so it is
 *  never less than what is used; `exact`: they are divided, which costs a walk of all pages.
 *  @returns undefined when the tree is gone. */
export function readMemory(view: TreeView, precision: 'quick' | 'exact'): number | undefined {
  const [file, fields] =
    precision === 'quick'
      ? ['status', ['RssAnon', 'RssShmem', 'VmSwap']]
      : ['smaps_rollup', ['Pss_Anon', 'Pss_Shmem', 'SwapPss']];
  const ofProcesses = sumOver(view, (path) => readFields(`${path}/${file}`, fields) * KIB);
  if (ofProcesses === undefined) return undefined;
  return view.memoryFolders.reduce((sum, folder) => sum + readUsed(folder), ofProcesses);
}

/** @returns undefined when the tree is gone. */
export function readCpuMs(view: TreeView): number | undefined {
  return sumOver(view, (path) => readOwnCpuMs(`${path}/stat`));
}

function sumOver(view: TreeView, read: (path: string) => number): number | undefined {
  const pids = view.listPids?.() ?? listPids(view.proc);
  if (pids.length === 0) return undefined;
  return pids.reduce((sum, pid) => sum + read(`${view.proc}/${pid}`), 0);
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

/** Its own time and that of the children it has reaped: summed over a tree, nothing is missed. */
function readOwnCpuMs(path: string): number {
  const text = readText(path);
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return Number.isNaN(ticks) ? 0 : ticks * TICK_MS;
}

function readText(path: string): string {
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
