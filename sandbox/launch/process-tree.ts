/** Finds and kills what a process started, through /proc. The killing that matters is one signal:
 *  SIGKILL of a sandbox's first process ends its whole pid namespace at once. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { assert } from '../../base/assert.ts';
import { systemCode } from '../../base/errors.ts';
import { findIdentity, signalIdentity } from '../../base/process.ts';

/** Children of a live process, by the kernel's own list; by a scan where it keeps none. */
export function listChildren(pid: number): number[] {
  try {
    const text = readFileSync(toListPath(pid), 'utf8').trim();
    return text === '' ? [] : text.split(' ').map(Number);
  } catch {
    // Gone, or a kernel without CONFIG_PROC_CHILDREN: only there all of /proc is worth a scan.
    return existsSync(toListPath(process.pid)) ? [] : scanChildren(pid);
  }
}

const toListPath = (pid: number): string => `/proc/${pid}/task/${pid}/children`;

function scanChildren(pid: number): number[] {
  return listProcesses().filter((candidate) => readParent(candidate) === pid);
}

export function listProcesses(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    // No /proc here: nothing can be found.
    return [];
  }
}

/** Processes and threads of a user, as the kernel counts them for its limit. */
export function countTasks(uid: number): number {
  let count = 0;
  for (const pid of listProcesses()) {
    try {
      if (statSync(`/proc/${pid}`).uid === uid) count += readdirSync(`/proc/${pid}/task`).length;
    } catch {
      // It ended between the listing and the look.
    }
  }
  return count;
}

function readParent(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    // It ended between the listing and the look.
    return undefined;
  }
}

export function readCommandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // It ended between the listing and the look.
    return '';
  }
}

/** The pid of the first process of a pid namespace as its parent namespace counts it. */
export function readInnerPid(pid: number): number | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const pids = /^NSpid:\t(.+)$/m.exec(status)?.[1]?.split('\t').map(Number) ?? [];
    return pids.at(-1) === 1 ? pids.at(-2) : undefined;
  } catch {
    // It ended between the listing and the look.
    return undefined;
  }
}

export function killProcess(pid: number): void {
  signalProcess(pid, 'SIGKILL');
}

/** Ends a process with all of its group in one step of the kernel: nobody escapes it by a fork, or
 *  by having no command line for the moment in which it becomes another program. */
export function killGroup(pid: number): void {
  // 0 is our own process group, 1 everybody.
  assert(pid > 1, 'a group has the number of its first process');
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // The whole group is gone already.
    if (systemCode(error) !== 'ESRCH') throw error;
  }
}

/** Nothing happens when it is gone. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  const identity = findIdentity(pid);
  if (identity !== undefined) signalIdentity(identity, signal);
}
