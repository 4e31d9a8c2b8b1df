/** All processes of one command, seen from the host: what they use, which files they hold open, and
 *  how to hold them still. */
import { existsSync, readdirSync } from 'node:fs';
import { listTree, toChildLister } from '../../base/descendants.ts';
import { listDescendants } from '../../base/process.ts';
import { SCRIPT_FOLDER } from './arguments.ts';
import { createCpuMeter } from './cpu-meter.ts';
import { countHeldFiles, readAvailable, readMemory, type TreeView } from './footprint.ts';
import { readHideable } from './hideable.ts';
import { signalProcess } from './process-tree.ts';

export interface CommandTree {
  /** Memory, bytes. Undefined: it is gone, or cannot be looked at. */
  measure(precision: 'quick' | 'exact'): number | undefined;
  /** The most it can hold in memory that `measure` does not see, bytes; `enough` at most. */
  measureHideable(enough: number): number;
  /** What the machine could give to anybody, bytes. Undefined: that is not known. */
  machineBytes(): number | undefined;
  /** Processor time of all of it so far. Undefined: as above. */
  readCpuMs(): number | undefined;
  /** The kernel killed in it, because its memory limit was reached. */
  wasOutOfMemory(): boolean;
  /** The most memory it had, where the kernel counts. */
  peakBytes(): number | undefined;
  /** Folders whose entries are the files its processes hold open. */
  openFileFolders(): readonly string[];
  /** How many files it may hold that have no name and stand in none of these folders. */
  countHeldFiles(): number;
  /** Sends this to all its processes; the first one of a sandbox takes none but SIGKILL. */
  signal(name: NodeJS.Signals): void;
  /** Stops all its processes; the function that is returned lets them go on. */
  freeze(): () => void;
}

export interface SandboxTreeSpec {
  /** The first process of the sandbox, as the host counts. */
  readonly findHostPid: () => number | undefined;
  /** By their names inside. */
  readonly memoryFolders: readonly string[];
  readonly kernel: Pick<CommandTree, 'wasOutOfMemory' | 'peakBytes'>;
}

export function toSandboxTree(spec: SandboxTreeSpec): CommandTree {
  const { findHostPid, kernel } = spec;
  const findView = (): TreeView | undefined => {
    const pid = findHostPid();
    if (pid === undefined) return undefined;
    const root = `/proc/${pid}/root`;
    // While it is being built, its root is still the one it comes from, and that is not its own.
    if (!existsSync(`${root}${SCRIPT_FOLDER}`)) return undefined;
    const memoryFolders = spec.memoryFolders.map((path) => `${root}${path}`);
    return { proc: `${root}/proc`, memoryFolders };
  };
  const cpu = createCpuMeter();
  return {
    ...kernel,
    measure(precision) {
      const view = findView();
      return view === undefined ? undefined : readMemory(view, precision);
    },
    measureHideable(enough) {
      const view = findView();
      return view === undefined ? 0 : readHideable(view, enough);
    },
    machineBytes: readAvailable,
    readCpuMs() {
      const view = findView();
      return view === undefined ? undefined : cpu.read(view);
    },
    openFileFolders: () => listFileFolders(findView()),
    countHeldFiles() {
      const view = findView();
      return view === undefined ? 0 : countHeldFiles(view);
    },
    signal(name) {
      const pid = findHostPid();
      if (pid !== undefined) signalAll(listSandbox(pid), name);
    },
    freeze() {
      const pid = findHostPid();
      return pid === undefined ? () => undefined : freezeAll(() => listSandbox(pid));
    },
  };
}

/** A command without a pid namespace: what left its parent is not seen. */
export function toPlainTree(pid: number): CommandTree {
  return toListedTree(() => [pid, ...listDescendants(pid)]);
}

/** All that stands below a keeper, who is not held still with them. */
export function toKeptTree(keeperPid: number): CommandTree {
  return toListedTree(() => listDescendants(keeperPid));
}

function toListedTree(listPids: () => readonly number[]): CommandTree {
  const view: TreeView = { proc: '/proc', listPids, memoryFolders: [] };
  const cpu = createCpuMeter();
  return {
    measure: (precision) => readMemory(view, precision),
    measureHideable: (enough) => readHideable(view, enough),
    machineBytes: readAvailable,
    readCpuMs: () => cpu.read(view),
    wasOutOfMemory: () => false,
    peakBytes: () => undefined,
    openFileFolders: () => listPids().map((each) => `/proc/${each}/fd`),
    countHeldFiles: () => countHeldFiles(view),
    signal: (name) => signalAll(listPids(), name),
    freeze: () => freezeAll(listPids),
  };
}

function listFileFolders(view: TreeView | undefined): string[] {
  if (view === undefined) return [];
  try {
    const names = readdirSync(view.proc).filter((name) => /^\d+$/.test(name));
    return names.map((name) => `${view.proc}/${name}/fd`);
  } catch {
    // The sandbox is gone.
    return [];
  }
}

/** In its pid namespace whoever loses its parent is given to the first process, so all stand below
 *  it. All of /proc was read before: 2 ms a time on a machine with a hundred processes. */
function listSandbox(pid: number): number[] {
  return listTree(toChildLister('/proc', pid), pid);
}

function signalAll(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) signalProcess(pid, name);
}

/** Who was being forked during one look is found by the next. */
const LOOKS_MAX = 5;

function freezeAll(list: () => readonly number[]): () => void {
  const stopped = new Set<number>();
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    const fresh = list().filter((pid) => !stopped.has(pid));
    if (fresh.length === 0) break;
    for (const pid of fresh) {
      signalProcess(pid, 'SIGSTOP');
      stopped.add(pid);
    }
  }
  return () => {
    for (const pid of stopped) signalProcess(pid, 'SIGCONT');
  };
}
