/** Processes that carry a mark of ours in their environment, whoever their parent is now. The mark
 *  says who started a process, so that one that was never written down is found all the same; it
 *  is no secret and no proof: only what also is no relative of ours is ever signalled. Linux only;
 *  elsewhere nothing is found. One scan reads two small files a process (about 2 ms a hundred). */
import { readdirSync, readFileSync } from 'node:fs';
import { systemCode } from './errors.ts';
import { findIdentity, isAlive, type ProcessIdentity, signalIdentity } from './process.ts';

export interface MarkTable {
  find(name: string): readonly MarkedProcess[];
  read(pid: number, name: string): string | undefined;
  listAncestors(pid: number): readonly number[];
  /** The largest pid this machine gives. */
  pidMax(): number;
  kill(identity: ProcessIdentity): boolean;
}

export interface MarkedProcess {
  readonly identity: ProcessIdentity;
  /** The value of the mark. */
  readonly mark: string;
}

/** Live processes with this variable in their environment. Those of other users cannot be read
 *  (but by root) and are not found. */
function findMarkedProcesses(name: string): readonly MarkedProcess[] {
  return listPids().flatMap((pid) => {
    const mark = readMark(pid, name);
    const identity = mark === undefined ? undefined : findIdentity(pid);
    return mark !== undefined && identity !== undefined ? [{ identity, mark }] : [];
  });
}

/** The value of the variable in the environment a process was started with; undefined: it has
 *  none, is gone, or is another user's. */
function readMark(pid: number, name: string): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/environ`, 'latin1');
    const start = `${name}=`;
    return text
      .split('\0')
      .find((entry) => entry.startsWith(start))
      ?.slice(start.length);
  } catch {
    // Gone, or not ours to read, and then not ours to signal.
    return undefined;
  }
}

/** The process's parents up to the first process of all; a bound keeps a race from going on. */
function listAncestors(pid: number): readonly number[] {
  const found: number[] = [];
  let parent = readParent(pid);
  while (parent !== undefined && parent > 0 && found.length < ANCESTORS_MAX) {
    found.push(parent);
    parent = readParent(parent);
  }
  return found;
}

const ANCESTORS_MAX = 256;

/** SIGKILL to exactly this process, and to its group where it leads one: what it started without
 *  a session of its own goes with it. False: it is gone, or not ours to signal. */
function killExactly(identity: ProcessIdentity): boolean {
  if (!isAlive(identity)) return false;
  try {
    if (isGroupLeader(identity.pid)) signalIdentity(identity, 'SIGKILL', 'group');
    signalIdentity(identity, 'SIGKILL');
    return true;
  } catch (error) {
    if (systemCode(error) === 'EPERM') return false;
    throw error;
  }
}

function readPidMax(): number {
  try {
    return Number(readFileSync('/proc/sys/kernel/pid_max', 'utf8'));
  } catch {
    // The most a Linux kernel can be set to.
    return 2 ** 22;
  }
}

function listPids(): readonly number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    // No /proc here: nothing can be found.
    return [];
  }
}

function readStat(pid: number): readonly string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    // It ended while we looked.
    return undefined;
  }
}

function readParent(pid: number): number | undefined {
  const parent = readStat(pid)?.[1];
  return parent === undefined ? undefined : Number(parent);
}

function isGroupLeader(pid: number): boolean {
  return Number(readStat(pid)?.[2]) === pid;
}

export const realMarks: MarkTable = {
  find: findMarkedProcesses,
  read: readMark,
  listAncestors,
  pidMax: readPidMax,
  kill: killExactly,
};
