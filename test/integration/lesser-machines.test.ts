/** A whole supervisor on a machine without bubblewrap, on one without what the next level needs
 *  either, and as an ordinary user to whom user namespaces are refused. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { type Bench, createBench, giveTo, OTHER_UID } from './harness.ts';
import { eventually } from './processes.ts';
import {
  type ScriptedProvider,
  startScriptedProvider,
  toScriptedConfig,
} from './scripted-provider.ts';

let provider: ScriptedProvider;
let bench: Bench | undefined;
let holder: ChildProcess | undefined;

afterEach(async () => {
  await bench?.close();
  bench = undefined;
  holder?.kill('SIGKILL');
  holder = undefined;
  await provider.close();
});

async function createLesser(around: readonly string[], settings = ''): Promise<Bench> {
  provider = await startScriptedProvider();
  const more = `[security.tool_policy]\ndefault = "allow"\n${settings}`;
  bench = createBench(toScriptedConfig(provider, { more }), undefined, around);
  return bench;
}

/** Covers each of them with a file that cannot be executed. */
const COVER = `for each in $COVERED; do mount --bind "$0" "$each" || exit 1; done; exec "$@"`;
const blank = join(import.meta.dirname, '..', '..', 'package.json');

async function startWithout(programs: readonly string[], settings = ''): Promise<Bench> {
  const cover = ['unshare', '--mount', '/bin/sh', '-c', COVER, blank];
  const lesser = await createLesser(cover, settings);
  await lesser.start({ COVERED: programs.flatMap((name) => findProgram(name) ?? []).join(' ') });
  return lesser;
}

const NO_NAMESPACES = `echo 0 > /proc/sys/user/max_user_namespaces &&
  exec setpriv --reuid ${OTHER_UID} --regid ${OTHER_UID} --clear-groups "$@"`;

/** In a user namespace that has all users, and in which there may be no other. */
async function startWithoutNamespaces(settings = ''): Promise<Bench> {
  const outer = spawn('unshare', ['--user', 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] });
  holder = outer;
  const own = readlinkSync('/proc/self/ns/user');
  await eventually(() => readlinkSync(`/proc/${outer.pid}/ns/user`) !== own);
  for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${outer.pid}/${map}`, '0 0 65536');
  const enter = ['nsenter', `--user=/proc/${outer.pid}/ns/user`, '--setuid', '0', '--setgid', '0'];
  const lesser = await createLesser([...enter, '/bin/sh', '-c', NO_NAMESPACES, 'sh'], settings);
  giveTo(lesser.dir, OTHER_UID);
  await lesser.start();
  return lesser;
}

/** Its outcome, as the model is told. */
async function callShell({ client, workspace, follow }: Bench, command: string): Promise<unknown> {
  const { view } = await client.createSession({ workspace });
  const script = [{ tool: 'shell', arguments: { command } }, { say: 'done' }];
  await client.sendInput(view.id, { text: JSON.stringify(script) });
  const events = await follow(view.id, ({ type }) => type === 'turn.completed');
  return events.find(({ type }) => type === 'tool.completed')?.data;
}

/** Of this user, in this container. */
const canTake = [
  ['--user', 'true'],
  ['--mount', 'mount', '--bind', blank, blank],
].every((args) => process.getuid?.() === 0 && spawnSync('unshare', args).status === 0);
const whyNot = canTake ? '' : ' (skipped: only root takes them away, where it may)';
const testAsRoot = canTake ? test : test.skip;
const missing = /^bubblewrap \(bwrap\) is not installed$/;
const accept = (level: string): string => `[security.sandbox]\nminimum_level = "${level}"`;

const rows = [
  {
    lacking: 'bubblewrap',
    ...{ start: () => startWithout(['bwrap']), why: missing },
    ...{ offered: 'unshare', word: 'security.sandbox.minimum_level = "unshare"' },
  },
  {
    lacking: 'bubblewrap and perl',
    ...{ start: () => startWithout(['bwrap', 'perl']), why: missing },
    ...{ offered: undefined, word: 'security.sandbox.backend = "none"' },
  },
  {
    lacking: 'user namespaces',
    ...{ start: () => startWithoutNamespaces(), why: /^bwrap: .*max_\*_namespaces exceeded/ },
    ...{ offered: 'landlock', word: 'security.sandbox.minimum_level = "landlock"' },
  },
] as const;

testAsRoot.each(rows)(
  `a machine without $lacking: nothing runs until less is accepted in writing${whyNot}`,
  async ({ start, why, offered, word }) => {
    const lesser = await start();
    const { sandbox } = await lesser.client.getStatus();
    expect(sandbox).toMatchObject({ level: 'none', reason: expect.stringMatching(why) });
    expect([sandbox.policy, sandbox.offered]).toEqual([undefined, offered]);
    expect(await callShell(lesser, 'touch it-ran')).toMatchObject({
      status: 'denied',
      output: expect.stringContaining(word),
    });
  },
);

testAsRoot(
  `where it is accepted, tools run without bubblewrap, and it says so${whyNot}`,
  async () => {
    const lesser = await startWithout(['bwrap'], accept('unshare'));
    const said = await callShell(lesser, 'touch here; ls; test -e /root || echo no home');
    expect(said).toMatchObject({ status: 'ok', output: 'here\nno home\n', level: 'unshare' });
  },
);

testAsRoot(`and without namespaces, and files of others stay closed${whyNot}`, async () => {
  const lesser = await startWithoutNamespaces(accept('landlock'));
  const said = await callShell(lesser, 'touch here; ls; ls ../state 2>/dev/null || echo closed');
  expect(said).toMatchObject({ status: 'ok', output: 'here\nclosed\n', level: 'landlock' });
});
