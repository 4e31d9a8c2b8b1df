/** Tools work in the user's own folder, whoever the user is, and what was there keeps its owner and
 *  mode: as root in a root-owned folder under a 0700 parent, and as an unprivileged user. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { type Bench, createBench, OTHER_UID } from './harness.ts';

let bench: Bench;
afterEach(() => bench.close());

const isRoot = process.getuid?.() === 0;
const users: readonly (readonly [string, number | undefined])[] = isRoot
  ? [
      ['root', undefined],
      ['an unprivileged user', OTHER_UID],
    ]
  : [['an unprivileged user', undefined]];

const PROMPT = [
  '!ls -la',
  '!touch made && mkdir -p deep/er && echo x > deep/er/file',
  '!git status --short',
  '@write_file {"path":"written.txt","content":"hello\\n"}',
  '@edit_file {"path":"kept.txt","old_text":"old","new_text":"new"}',
].join('\n');

const ordinary = isRoot ? OTHER_UID : undefined;
test('file tools work at landlock too, where all of the installation lies in a home', async () => {
  const allow = '[security.tool_policy]\ndefault = "allow"\n';
  bench = createBench(`[security.sandbox]\nbackend = "landlock"\n${allow}`, ordinary);
  await bench.start();
  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  const text = '@write_file {"path":"a","content":"b"}\n@read_file {"path":"a"}';
  await bench.client.sendInput(view.id, { text });
  const events = await bench.follow(view.id, (event) => event.type === 'turn.completed');
  const ended = events.filter(({ type }) => type === 'tool.completed').map(({ data }) => data);
  expect(ended).toMatchObject([{ status: 'ok' }, { status: 'ok', level: 'landlock' }]);
});

describe.each(users)('as %s, under a 0700 folder', (_name, uid) => {
  test('ls, touch, write_file and git work; owners and modes of what was there stay', async () => {
    bench = createBench('', uid);
    const owner = uid ?? process.getuid?.() ?? 0;
    fillWorkspace(bench.workspace, owner);
    const before = describeTree(bench.workspace);
    await bench.start();
    const { view } = await bench.client.createSession({ workspace: bench.workspace });
    await bench.client.sendInput(view.id, { text: PROMPT });
    const events = await bench.follow(view.id, (event) => event.type === 'turn.completed');
    const results = events
      .filter((event) => event.type === 'tool.completed')
      .map((event) => event.data as { status: string; output: string });
    expect(results.map((result) => [result.status, result.output])).toEqual(
      results.map((result) => ['ok', result.output]),
    );
    expect(results).toHaveLength(5);
    expect(results.map((result) => result.output).join()).not.toMatch(/dubious ownership/);
    const after = describeTree(bench.workspace);
    for (const [path, facts] of before) expect([path, after.get(path)]).toEqual([path, facts]);
    for (const name of ['made', 'deep/er/file', 'written.txt']) {
      expect(existsSync(join(bench.workspace, name))).toBe(true);
      expect(lstatSync(join(bench.workspace, name)).uid).toBe(owner);
    }
  });

  test('the home, the state dir and the rest of the machine are not there', async () => {
    bench = createBench('', uid);
    writeFileSync(join(bench.dir, 'secret'), 'SECRET');
    await bench.start({ SECRET_IN_ENV: 'SECRET' });
    const { view } = await bench.client.createSession({ workspace: bench.workspace });
    const text = `!cat ${bench.dir}/secret; ls ${bench.stateDir} /root; cat /etc/shadow; env; id -u; touch /usr/x`;
    await bench.client.sendInput(view.id, { text });
    const events = await bench.follow(view.id, (event) => event.type === 'turn.completed');
    const result = events.find((event) => event.type === 'tool.completed');
    const output = (result?.data as { output: string } | undefined)?.output;
    expect(output).not.toContain('SECRET');
    expect(output).not.toMatch(/root:|api\.sock|^0$/m);
    expect(existsSync('/usr/x')).toBe(false);
  });
});

function fillWorkspace(workspace: string, owner: number): void {
  writeFileSync(join(workspace, 'kept.txt'), 'old\n');
  mkdirSync(join(workspace, 'folder'));
  writeFileSync(join(workspace, 'folder', 'script.sh'), '#!/bin/sh\n');
  chmodSync(join(workspace, 'folder', 'script.sh'), 0o750);
  chmodSync(join(workspace, 'kept.txt'), 0o640);
  const env = { PATH: process.env['PATH'], HOME: workspace };
  execFileSync('git', ['init', '-q', workspace], { env });
  execFileSync('chown', ['-R', `${owner}:${owner}`, workspace]);
  chownSync(workspace, owner, owner);
}

/** Owner, group and mode of each path; the inner life of .git is git's own. */
function describeTree(root: string, below = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of readdirSync(join(root, below))) {
    const path = join(below, name);
    const facts = lstatSync(join(root, path));
    found.set(path, `${facts.uid}:${facts.gid} ${(facts.mode & 0o7777).toString(8)}`);
    if (facts.isDirectory() && name !== '.git') {
      for (const [inner, text] of describeTree(root, path)) found.set(inner, text);
    }
  }
  return found;
}
