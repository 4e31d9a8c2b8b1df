/** The processes of one run, as the machine shows them: what runs from our scratch folder, and what
 *  descends from it. Nothing else is ever signalled, and each signal names pid and start time. */
import { readdirSync, readFileSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import { findIdentity, isAlive, type ProcessIdentity, signalIdentity } from '../base/process.ts';

/** probe: what a supervisor asks at its start whether there is a sandbox; never hit, because a
 *  supervisor whose every question is killed rightly runs no tool. */
export type ProcessKind = 'supervisor' | 'worker' | 'gateway' | 'host' | 'call' | 'probe';

export interface OwnProcess {
  readonly identity: ProcessIdentity;
  readonly kind: ProcessKind;
  readonly command: string;
}

export interface ProcessWatch {
  /** What lives now, in the order of its pids. */
  list(): readonly OwnProcess[];
  /** Whatever still lives of all that was ever seen, or carries a mark of ours. */
  leftovers(): readonly OwnProcess[];
  /** False: it is gone. */
  signal(target: OwnProcess, signal: NodeJS.Signals): boolean;
  /** The clean-up of last resort: SIGKILL for everything that is left. */
  killAll(): void;
}

interface Entry {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** A signal names pid and start time, so a list may be this old, ms. */
const STALE_MS = 30;

/** @param dir  the scratch folder with the installation of this run
 *  @param sleepMark  argument of the `sleep`s that commands of this run leave behind */
export function createProcessWatch(
  dir: string,
  sleepMark: string,
  clock: Pick<Clock, 'nowMs'>,
): ProcessWatch {
  const seen = new Map<string, OwnProcess>();
  let newest: { readonly atMs: number; readonly found: readonly OwnProcess[] } | undefined;

  /** A look at every process of the machine is dear; a moment later it would show the same. */
  function list(): readonly OwnProcess[] {
    if (newest === undefined || clock.nowMs() - newest.atMs > STALE_MS) {
      newest = { atMs: clock.nowMs(), found: scan() };
    }
    return newest.found;
  }

  function scan(): readonly OwnProcess[] {
    const entries = readEntries();
    const found: OwnProcess[] = [];
    for (const [entry, kind] of classify(entries, dir, sleepMark)) {
      const identity = findIdentity(entry.pid);
      if (identity === undefined) continue;
      const process: OwnProcess = { identity, kind, command: entry.command.slice(0, 200) };
      found.push(process);
      seen.set(`${identity.pid} ${identity.startTicks}`, process);
    }
    return found;
  }

  function leftovers(): readonly OwnProcess[] {
    scan();
    for (const [key, { identity }] of seen) if (!isAlive(identity)) seen.delete(key);
    return [...seen.values()];
  }

  return {
    list,
    leftovers,
    signal: ({ identity }, signal) => signalIdentity(identity, signal),
    killAll() {
      for (const { identity } of leftovers()) signalIdentity(identity, 'SIGKILL');
    },
  };
}

/** A launcher has the command line of what it launches: of such a chain only the last one counts
 *  as the program, the others as its supervisor's. */
export function classify(
  entries: readonly Entry[],
  dir: string,
  sleepMark: string,
): readonly (readonly [Entry, ProcessKind])[] {
  const programs = { supervisor: 'supervisor', worker: 'worker', gateway: 'gateway' } as const;
  const kinds = new Map<number, ProcessKind>();
  const parents = new Map(entries.map((entry) => [entry.pid, entry]));
  const kindOf = (entry: Entry): ProcessKind | undefined => {
    const known = kinds.get(entry.pid);
    if (known !== undefined) return known;
    const parent = parents.get(entry.parent);
    const above = parent === undefined ? undefined : kindOf(parent);
    const kind = decide(entry, above);
    if (kind !== undefined) kinds.set(entry.pid, kind);
    return kind;
  };
  const decide = (entry: Entry, above: ProcessKind | undefined): ProcessKind | undefined => {
    if (above === 'host' || above === 'call') return 'call';
    for (const [name, kind] of Object.entries(programs)) {
      if (entry.command.includes(`${dir}/dist/${name}.js`)) return kind;
    }
    if (above === 'probe') return 'probe';
    if (entry.command.includes(`${dir}/dist/sandbox.js`)) {
      return entry.command.includes(' --probe') ? 'probe' : 'host';
    }
    if (entry.command.includes(dir) || entry.command.includes(sleepMark)) return 'call';
    return above;
  };
  return entries.flatMap((entry) => {
    const kind = kindOf(entry);
    return kind === undefined ? [] : [[entry, kind] as const];
  });
}

function readEntries(): readonly Entry[] {
  const entries: Entry[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const entry = readEntry(name);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

function readEntry(pid: string): Entry | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z') return undefined;
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    return { pid: Number(pid), parent: Number(fields[1]), command };
  } catch {
    return undefined; // It ended while we looked.
  }
}
