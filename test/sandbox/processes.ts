/** Looks at the processes of this machine, for tests of who is left. */
import { readFileSync } from 'node:fs';
import { realClock } from '../../base/clock.ts';
import { listProcesses, readCommandLine } from '../../sandbox/launch/process-tree.ts';

/** Live processes whose command line matches. */
export function findProcesses(pattern: RegExp): number[] {
  return listProcesses().filter((pid) =>
    pattern.test(readCommandLine(pid).replaceAll('\0', ' ').trim()),
  );
}

/** Live processes of this user; zombies are gone. */
export function findProcessesOf(uid: number): number[] {
  return listProcesses().filter((pid) => {
    const status = readStatus(pid);
    return new RegExp(`^Uid:\t${uid}\t`, 'm').test(status) && !/^State:\tZ/m.test(status);
  });
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    // Ended since.
    return '';
  }
}

const THERE_MS = 60_000;

/** Resolves when `find` finds as many. */
export async function waitUntilThere(find: () => number[], count: number): Promise<void> {
  const deadlineMs = realClock.nowMs() + THERE_MS;
  while (find().length < count) {
    if (realClock.nowMs() > deadlineMs) throw new Error(`${find().length} of ${count} came`);
    await realClock.sleep(10);
  }
}

const GONE_MS = 30_000;

/** Resolves when `find` finds nothing; throws with what is left when that lasts. */
export async function waitUntilGone(find: () => number[]): Promise<void> {
  const deadlineMs = realClock.nowMs() + GONE_MS;
  for (let left = find(); left.length > 0; left = find()) {
    if (realClock.nowMs() > deadlineMs) {
      const names = left.map((pid) => `${pid} ${readCommandLine(pid).replaceAll('\0', ' ')}`);
      throw new Error(`still there: ${names.join('; ')}`);
    }
    await realClock.sleep(10);
  }
}
