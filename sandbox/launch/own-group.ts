/** The control group that a supervisor put this host into: its kernel limit is a backstop behind
 *  the watch over each call. Only asked whether the kernel killed in it. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

export interface OwnGroup {
  /** How many processes the kernel has killed in it for want of memory. */
  countKills(): number;
}

export interface OwnGroupMachine {
  /** Where control groups are mounted: /sys/fs/cgroup. */
  readonly root: string;
  /** The text of /proc/self/cgroup. */
  readonly own: string;
}

/** As the supervisor names it. */
const NAME = /^prx-host-\d+$/;

/** Undefined: there is none, and nobody is killed by one. */
export function findOwnGroup({ root, own }: OwnGroupMachine): OwnGroup | undefined {
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m.exec(own)?.[1];
  const v2 = /^0::(\/.*)$/m.exec(own)?.[1];
  const path = v1 === undefined ? v2 : join('memory', v1);
  if (path === undefined || !NAME.test(basename(path)) || path.includes('..')) return undefined;
  const file = join(root, path, v1 === undefined ? 'memory.events' : 'memory.oom_control');
  return existsSync(file) ? { countKills: () => readKills(file) } : undefined;
}

function readKills(file: string): number {
  try {
    return Number(/^oom_kill (\d+)/m.exec(readFileSync(file, 'utf8'))?.[1] ?? 0);
  } catch {
    // The group was taken away: nobody is killed by it any more.
    return 0;
  }
}

export function findRealOwnGroup(): OwnGroup | undefined {
  const file = '/proc/self/cgroup';
  if (!existsSync(file)) return undefined;
  return findOwnGroup({ root: '/sys/fs/cgroup', own: readFileSync(file, 'utf8') });
}
