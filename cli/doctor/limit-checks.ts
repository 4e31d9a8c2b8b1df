/** What bounds the processes of a supervisor started from here: cgroups, and the user's limits.
 *  Reads only. */
import { readFileSync } from 'node:fs';
import type { Check } from './check.ts';

/** A session with tools has some dozen descriptors and processes; eight of them and reserve. */
const OPEN_FILES_MIN = 1024;
const PROCESSES_MIN = 512;

const UNIT = 'the unit of `prx-supervisor service install` asks for them';
const WATCHED = 'memory is watched instead';

/** @param enforcement  of the running supervisor: who keeps the memory limit of its workers. */
export function checkCgroups(enforcement: readonly string[] | undefined): Check {
  return judgeCgroups(enforcement, readText('/proc/self/cgroup'));
}

/** Pure part of checkCgroups. Without one nothing is missing but exactness: no warning. Whether a
 *  supervisor is given any depends on who starts it: only a running one knows.
 *  @param text  as /proc/PID/cgroup has it. */
export function judgeCgroups(enforcement: readonly string[] | undefined, text: string): Check {
  const base = { id: 'cgroups', category: 'machine', status: 'ok' } as const;
  if (enforcement !== undefined) {
    const own = enforcement.find((each) => each.startsWith('cgroup'));
    if (own !== undefined) return { ...base, summary: `${own} keeps the limits of each worker` };
    return { ...base, summary: `the supervisor was given none: ${WATCHED}; ${UNIT}` };
  }
  const isV1 = /^\d+:([^:]*,)?memory(,[^:]*)?:/m.test(text);
  if (!isV1 && !/^0::/m.test(text)) return { ...base, summary: `there are none: ${WATCHED}` };
  return { ...base, summary: `the kernel has ${isV1 ? 'v1' : 'v2'}; ${UNIT}` };
}

export function checkLimits(): Check {
  return judgeLimits(readText('/proc/self/limits'));
}

/** Pure part of checkLimits. @param text  as /proc/PID/limits has it. */
export function judgeLimits(text: string): Check {
  const openFiles = readHardLimit(text, 'Max open files');
  const processes = readHardLimit(text, 'Max processes');
  const details = { open_files: toShown(openFiles), processes: toShown(processes) };
  const base = { id: 'limits', category: 'machine', details } as const;
  const summary = `${details.open_files} open files, ${details.processes} processes of this user`;
  const short = [
    ...(openFiles < OPEN_FILES_MIN ? [`ulimit -n ${OPEN_FILES_MIN} (LimitNOFILE=)`] : []),
    ...(processes < PROCESSES_MIN ? [`ulimit -u ${PROCESSES_MIN} (LimitNPROC=)`] : []),
  ];
  if (short.length === 0) return { ...base, status: 'ok', summary };
  return { ...base, status: 'warn', summary, mend: `allow at least ${short.join(', ')}` };
}

/** Node raises the soft limit to the hard one by itself. */
function readHardLimit(text: string, name: string): number {
  const [, hard = 'unlimited'] = new RegExp(`^${name} +\\S+ +(\\S+)`, 'm').exec(text) ?? [];
  return hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard);
}

function toShown(limit: number): number | 'unlimited' {
  return Number.isFinite(limit) ? limit : 'unlimited';
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // No such system.
  }
}
