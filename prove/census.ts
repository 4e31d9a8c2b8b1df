/** Who lives, as the machine shows it: four independent ways to find what a kill has missed,
 *  because a process may leave its session, its parent and its name, but not all of these at once.
 *    - it was below the victim before the kill (pid and start time)
 *    - it lives in a pid namespace that was there
 *    - it carries the cookie of the call in its environment
 *    - it is in the control group of this run and below no supervisor */
import { existsSync, mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { realMarks } from '../base/marked-processes.ts';
import { findIdentity, isAlive, listDescendants, type ProcessIdentity } from '../base/process.ts';
import { findRunning, pause, readName } from '../test/integration/processes.ts';
import { removeGroup } from './processor-group.ts';

/** The variable by which a tool's processes are known. */
export const COOKIE = 'PROVE_COOKIE';

export function findCookies(cookie: string): readonly ProcessIdentity[] {
  const marked = realMarks.find(COOKIE).filter(({ mark }) => mark === cookie);
  return marked.map(({ identity }) => identity);
}

/** What must die with one process. */
export interface Doomed {
  readonly identities: readonly ProcessIdentity[];
  /** The kernel gives the number of one that is gone to the next one: who started later lives in
   *  another, or below somebody who is found anyway. */
  readonly namespaces: ReadonlySet<string>;
  /** The time of this list, clock ticks since boot. */
  readonly listedTicks: number;
  readonly cookie: string | undefined;
}

/** @param cookie  of the call that dies with it; undefined: that call lives on */
export function listDoomed(root: number, cookie: string | undefined): Doomed {
  const below = listDescendants(root);
  const identities = [root, ...below].flatMap((pid) => findIdentity(pid) ?? []);
  const namespaces = new Set(below.flatMap((pid) => readNamespace(pid) ?? []));
  const above = readNamespace(root);
  if (above !== undefined) namespaces.delete(above);
  return { identities, namespaces, listedTicks: readTicks(), cookie };
}

export function findSurvivors(doomed: Doomed): readonly number[] {
  const { identities, namespaces, listedTicks, cookie } = doomed;
  const found = new Set(identities.filter(isAlive).map(({ pid }) => pid));
  for (const pid of findRunning('')) {
    const namespace = readNamespace(pid);
    const startTicks = findIdentity(pid)?.startTicks ?? Number.POSITIVE_INFINITY;
    if (namespace === undefined || startTicks > listedTicks) continue;
    if (namespaces.has(namespace)) found.add(pid);
  }
  const cookies = cookie === undefined ? [] : findCookies(cookie);
  for (const { pid } of cookies) found.add(pid);
  return [...found].filter((pid) => findIdentity(pid) !== undefined);
}

/** Milliseconds until none was seen; undefined: some lived on.
 *  @param find  looks once */
export async function timeUntilNone(
  find: () => readonly number[],
  boundMs: number,
): Promise<number | undefined> {
  const startMs = performance.now();
  for (;;) {
    const atMs = performance.now() - startMs;
    if (find().length === 0) return atMs;
    if (atMs > boundMs) return undefined;
    // Who looks all the time takes the processor from those who end.
    await pause(Math.max(2, performance.now() - startMs - atMs));
  }
}

export function describe(pids: readonly number[]): string {
  return pids.map((pid) => `${pid} (${readName(pid)})`).join(', ');
}

/** Hundredths of a second since boot: what the kernel calls a tick to programs. */
function readTicks(): number {
  return Math.ceil(Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 100);
}

function readNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined; // It ended, or is another user's.
  }
}

/** A control group around a supervisor and all that it starts: nobody leaves it by a fork. In a
 *  hierarchy without memory control, so that the supervisor does not divide it. */
export interface Enclosure {
  enclose(supervisor: number): void;
  /** Live members that are below none of these. */
  strangers(supervisors: readonly number[]): readonly number[];
  close(): void;
}

const HIERARCHIES = ['pids', 'freezer'].map((name) => join('/sys/fs/cgroup', name));

/** Undefined: this machine, or this user, has no hierarchy for it. */
export function createEnclosure(): Enclosure | undefined {
  const root = HIERARCHIES.find((path) => existsSync(join(path, 'cgroup.procs')));
  if (root === undefined || process.getuid?.() !== 0) return undefined;
  const group = join(root, `prx-prove-${process.pid}-${Math.round(performance.now())}`);
  try {
    mkdirSync(group);
  } catch {
    return undefined; // Read-only: the other three ways remain.
  }
  const procs = join(group, 'cgroup.procs');
  const list = (): readonly number[] =>
    readFileSync(procs, 'utf8').split('\n').filter(Boolean).map(Number);
  return {
    enclose(supervisor) {
      // Twice: what was started while the first ones were moved.
      for (let round = 0; round < 2; round += 1) {
        for (const pid of [supervisor, ...listDescendants(supervisor)]) moveQuietly(procs, pid);
      }
    },
    strangers(supervisors) {
      const own = new Set(supervisors.flatMap((pid) => [pid, ...listDescendants(pid)]));
      return list().filter((pid) => !own.has(pid) && findIdentity(pid) !== undefined);
    },
    close() {
      removeGroup(group);
    },
  };
}

function moveQuietly(procs: string, pid: number): void {
  try {
    writeFileSync(procs, String(pid));
  } catch {
    // It ended meanwhile.
  }
}
