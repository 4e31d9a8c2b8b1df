/** The processor time of a tree of processes since it began. What a process that has ended used is
 *  in the books of who waited for it; where nobody did (SIGCHLD ignored), or somebody outside of
 *  the tree, what the last look saw of it counts on. */
import { listTreePids, readText, type TreeView } from './footprint.ts';

export interface CpuMeter {
  /** Milliseconds; undefined when the tree is gone. */
  read(view: TreeView): number | undefined;
}

interface Times {
  readonly ownMs: number;
  /** Of the children that it waited for, and of those that they waited for. */
  readonly waitedMs: number;
  readonly started: string;
}

/** Clock ticks of /proc/PID/stat; the kernel's interface has had this value for ever. */
const TICK_MS = 10;

export function createCpuMeter(): CpuMeter {
  let last: ReadonlyMap<number, Times> = new Map();
  let endedMs = 0;
  let waitedMs = 0;
  return {
    read(view) {
      const pids = listTreePids(view);
      if (pids.length === 0) return undefined;
      const now = readAll(view, pids);
      for (const [pid, { started, ownMs, waitedMs: its }] of last) {
        if (now.get(pid)?.started !== started) endedMs += ownMs + its;
      }
      for (const [pid, { started, waitedMs: its }] of now) {
        const then = last.get(pid);
        waitedMs += its - (then?.started === started ? then.waitedMs : 0);
      }
      last = now;
      const living = [...now.values()].reduce((sum, its) => sum + its.ownMs + its.waitedMs, 0);
      return living + Math.max(0, endedMs - waitedMs);
    },
  };
}

function readAll(view: TreeView, pids: readonly number[]): ReadonlyMap<number, Times> {
  const found = pids.flatMap((pid) => {
    const times = readTimes(`${view.proc}/${pid}/stat`);
    return times === undefined ? [] : [[pid, times] as const];
  });
  return new Map(found);
}

/** Undefined: it ended between the listing and the look. */
function readTimes(path: string): Times | undefined {
  const text = readText(path);
  if (text === '') return undefined;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [own = 0, system = 0, waited = 0, waitedSystem = 0] = fields.slice(11, 15).map(Number);
  const toMs = (ticks: number): number => (Number.isNaN(ticks) ? 0 : ticks * TICK_MS);
  const started = fields[19] ?? '';
  return { ownMs: toMs(own + system), waitedMs: toMs(waited + waitedSystem), started };
}
