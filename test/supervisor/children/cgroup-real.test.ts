/** Control groups of a real kernel (v1): our own code in a group made for it, with bombs. Skipped,
 *  visibly, where the controllers are not mounted or not ours to divide. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { systemCode } from '../../../base/errors.ts';
import { realProcesses } from '../../../base/process.ts';

const program = fileURLToPath(new URL('./fixtures/bomb-in-cgroup.ts', import.meta.url));
const name = `prx-test-${process.pid}`;
const groups = ['memory', 'cpu', 'pids'].map((each) => join('/sys/fs/cgroup', each, name));
const obstacle = findObstacle();

function findObstacle(): string | undefined {
  try {
    for (const group of groups) {
      mkdirSync(group);
      if (!existsSync(join(group, 'cgroup.procs'))) return 'there are no v1 controllers here';
    }
    return undefined;
  } catch {
    return 'no v1 group can be made here';
  } finally {
    removeGroups();
  }
}

/** What is in it (a test that ran out of time left it) is killed; the kernel lets the group go once
 *  that has ended. */
function removeGroup(path: string): void {
  for (const pid of readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n')) {
    if (pid !== '') process.kill(Number(pid), 'SIGKILL');
  }
  for (let tries = 0; tries < 100_000; tries += 1) {
    try {
      rmdirSync(path);
      return;
    } catch (error) {
      if (systemCode(error) !== 'EBUSY') throw error;
    }
  }
}

function removeGroups(): void {
  for (const group of groups) {
    if (!existsSync(group)) continue;
    for (const leaf of listLeaves()) if (leaf.startsWith(`${group}/`)) removeGroup(leaf);
    removeGroup(group);
  }
}

/** Below our groups, the innermost first. */
function listLeaves(): string[] {
  return groups.flatMap((group) =>
    existsSync(group)
      ? readdirSync(group, { recursive: true })
          .map((each) => join(group, String(each)))
          .filter((each) => basename(each).startsWith('prx-'))
          .reverse()
      : [],
  );
}
const listInside = (): string[] =>
  [...groups, ...listLeaves()].flatMap((group) =>
    readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean),
  );

interface Found {
  readonly peakBytes: number;
  readonly limitBytes: number;
  readonly canIdle: boolean;
  /** Who lets the others go first: the group of all sessions, a host's, a worker's. */
  readonly yields?: readonly boolean[];
}

async function runInGroups(argument: string): Promise<unknown> {
  const shell = groups.map((group) => `echo $$ > ${group}/cgroup.procs`).join(' && ');
  const running = await realProcesses.start({
    command: '/bin/sh',
    args: ['-c', `${shell} && exec "$0" "$@"`, process.execPath, program, argument],
    env: {},
    ownSession: true,
  });
  let [said, complaint] = ['', ''];
  running.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  running.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  await running.exited;
  if (said === '') throw new Error(complaint);
  return JSON.parse(said);
}

const why = obstacle === undefined ? '' : ` (skipped: ${obstacle})`;

(obstacle === undefined ? describe : describe.skip)(`control groups of this kernel${why}`, () => {
  beforeAll(() => {
    for (const group of groups) mkdirSync(group);
  });
  afterAll(removeGroups);

  test.each([
    ['itself', { signal: 'SIGKILL' }],
    // The kernel takes the one that fills, and its parent says so.
    ['grandchild', { code: 7 }],
  ])(
    'a bomb (%s) is stopped by the kernel at the limit, and what is left is killed (FAULTS 43, 44)',
    async (who, exit) => {
      const found = (await runInGroups(who)) as Found;
      expect(found).toMatchObject({
        version: 'v1',
        controllers: ['memory', 'pids', 'cpu'],
        exit,
        isOutOfMemory: true,
        shares: 1024,
      });
      if (found.canIdle) expect(found.yields).toEqual([true, true, false]);
      expect(found.peakBytes).toBeGreaterThan(found.limitBytes / 2);
      expect(found.peakBytes).toBeLessThanOrEqual(found.limitBytes);
      await isEmpty();
    },
  );

  test('a fork bomb is stopped at the limit, and all of it killed at once (FAULTS 27)', async () => {
    const { exit } = (await runInGroups('forks')) as { exit: { code: number } };
    // Of 128 some are the threads of the one that forks.
    expect(exit.code).toBeGreaterThan(90);
    expect(exit.code).toBeLessThan(128);
    await isEmpty();
  });

  async function isEmpty(): Promise<void> {
    // The kernel takes a moment to have a killed process out of its group.
    while (listInside().length > 0) await realClock.sleep(5);
    for (const leaf of listLeaves()) expect(leaf).toMatch(/prx-((host|worker)-\d+|sessions)$/);
  }
});
