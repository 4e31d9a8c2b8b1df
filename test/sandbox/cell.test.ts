/** A cell that dies while it starts, and what dies in it: whoever asked may ask again, and nothing
 *  is left. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { spawnQuick } from '../../base/process.ts';
import { realRandom } from '../../base/random.ts';
import type { View } from '../../sandbox/launch/arguments.ts';
import { type Cell, startCell } from '../../sandbox/launch/cell.ts';
import { parkSandbox } from '../../sandbox/launch/one-shot.ts';
import { toPreludeCommand } from '../../sandbox/launch/prelude.ts';
import { killProcess } from '../../sandbox/launch/process-tree.ts';
import { surveyRoots } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap, isRoot } from './harness.ts';
import { findProcesses, waitUntilGone, waitUntilThere } from './processes.ts';

/** Says that it is ready, and has a child without a stage, as one whose mounts are gone. */
const startUnstaged = (child: string, limitScript: string): Promise<Cell> =>
  startCell({
    programs: {
      builder: ['/bin/sh', '-c', `(exec ${child}) & echo ready; wait`, process.execPath],
      mkfifo: '/x',
      perl: undefined,
    },
    identity: { uid: 1, gid: 1, drops: false },
    ...{ system: [], items: [], etc: { items: [], copies: [], places: [] }, limitScript },
    ...{ filter: Buffer.alloc(0), network: 'none' as const },
    ...{ clock: realClock, random: realRandom },
  });

const asStageless = {
  code: 'SANDBOX_UNAVAILABLE',
  message: expect.stringMatching(/stage could not be filled/),
};

test('between its word that it is ready and our first file is no fault of the machine (regression)', async () => {
  const limitScript = `: ${realRandom.hex(8)}`;
  const child = '"$0" -e "setTimeout(String, 3600_000)" -- "$@"';
  await expect(startUnstaged(child, limitScript)).rejects.toMatchObject(asStageless);
  await waitUntilGone(() => findProcesses(new RegExp(limitScript)));
});

test('takes along what has another command line, or none while it becomes another program (regression)', async () => {
  await expect(startUnstaged('sleep 4891.75', ':')).rejects.toMatchObject(asStageless);
  await waitUntilGone(() => findProcesses(/^sleep 4891\.75$/));
});

test('is given up as soon as its outer process is gone, with what that one said (regression)', async () => {
  // As the child of a bubblewrap that was killed: it waits, and has the pipes.
  const builder = 'echo "fail once more"; (exec sleep 4893.5) & exit 1';
  const never = { ...realClock, setTimer: () => ({ cancel: () => undefined }) };
  const start = startCell({
    programs: { builder: ['/bin/sh', '-c', builder], mkfifo: '/x', perl: undefined },
    identity: { uid: 1, gid: 1, drops: false },
    ...{ system: [], items: [], etc: { items: [], copies: [], places: [] }, limitScript: ':' },
    ...{ filter: Buffer.alloc(0), network: 'none' as const, clock: never, random: realRandom },
  });
  await expect(start).rejects.toMatchObject({ message: expect.stringContaining('once more') });
  await waitUntilGone(() => findProcesses(/^sleep 4893\.5$/));
});

(isRoot ? test : test.skip)(
  'is given up when the helper of its prelude died, which nobody would answer for (regression)',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'prx-prelude-'));
    try {
      // Every child of that perl dies before its first statement.
      const fork = 'sub { my $pid = CORE::fork(); kill "KILL", $$ if defined $pid && !$pid; $pid }';
      writeFileSync(join(folder, 'Stillborn.pm'), `*CORE::GLOBAL::fork = ${fork}; 1;`);
      const [perl = '', ...args] = toPreludeCommand({
        ...{ perl: '/usr/bin/perl', arch: process.arch, stageBytes: 1024 * 1024 },
        identity: { uid: 60800, gid: 60800, drops: true },
        items: [{ kind: 'map', source: folder, name: 'workspace' }],
        command: ['/bin/true'],
      });
      const env = { PERL5OPT: '-MStillborn', PERL5LIB: folder };
      const quick = await spawnQuick({
        ...{ command: perl, args, cwd: '/', env, ownSession: true },
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const said = quick.child.stdout === null ? '' : await text(quick.child.stdout);
      expect([said, (await quick.exited).code]).toEqual([
        expect.stringMatching(/^fail userns /),
        70,
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

const none = { readOnly: [], writable: [], hidden: [], protected: [], pinned: [], runtime: [] };
const view: View = {
  workspace: { path: '/tmp', source: '/tmp', kind: 'folder' },
  ...{ ...none, system: [], settings: [], env: {}, tmpBytes: 1 },
  ...{ workspaceAccess: 'write', network: 'none', isFiltered: false },
};

function readParent(pid: number): number {
  return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

(hasBubblewrap ? test : test.skip)(
  'ends a sandbox whose monitor died before it tied it to itself (regression)',
  async () => {
    // The child of such a bubblewrap waits for it; this one sleeps, and nobody can name its pid.
    const stillborn = 'bwrap --unshare-user --unshare-pid --dev-bind / / sleep 4892.25 5>&- & wait';
    const builder = `case "$1" in --args) ${stillborn} ;; *) exec bwrap "$@" ;; esac`;
    const cell = await startCell({
      programs: { builder: ['/bin/sh', '-c', builder, 'sh'], mkfifo: 'mkfifo', perl: undefined },
      identity: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, drops: false },
      ...{ system: surveyRoots(), items: [], etc: { items: [], copies: [], places: [] } },
      ...{ limitScript: ':', filter: Buffer.alloc(0), network: 'none' as const },
      ...{ clock: realClock, random: realRandom },
    });
    try {
      const sandbox = await parkSandbox({ cell, view, hasInput: false });
      const find = (): number[] => findProcesses(/^sleep 4892\.25/);
      await waitUntilThere(find, 1);
      const [sleeper = 0] = find();
      killProcess(readParent(readParent(sleeper)));
      await waitUntilGone(find);
      sandbox.discard();
    } finally {
      await cell.close();
    }
  },
);
