/** What a tool leaves in a workspace starts nothing at its user's: by properties, each way in. */
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { realRandom } from '../../base/random.ts';
import { findActiveKey, findGuard, starterNames } from '../../sandbox/guarded.ts';
import { createWatcher } from '../../sandbox/launch/guards.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';

const OTHER_UID = 61_003;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap && findProgram('git') !== undefined ? describe : describe.skip;

let host: TestHost | undefined;
afterEach(async () => {
  await host?.close();
  host = undefined;
});

const GIT = 'git -c user.name=a -c user.email=b -c init.defaultBranch=main';

async function startIn(
  uid: number | undefined,
  files: readonly string[] = [],
  prepare: (at: (path: string) => string) => void = () => undefined,
): Promise<TestHost> {
  host = await startTestHost(uid === undefined ? {} : { uid });
  const { workspace } = host;
  for (const file of files) {
    const path = join(host.workspace, file);
    mkdirSync(join(path, '..'), { recursive: true });
    if (uid !== undefined) chownSync(join(path, '..'), uid, uid);
    writeFileSync(path, 'old');
    if (uid !== undefined) chownSync(path, uid, uid);
  }
  prepare((path) => join(workspace, path));
  await host.initialize();
  return host;
}

on.each(users)('a command of uid %s', (uid) => {
  test('whatever it makes of the names that start something is put aside, and said', async () => {
    const ready = await startIn(uid);
    const names = starterNames.map((name) => `'${name}'`).join(' ');
    const outcome = await ready.shell(
      `n=0; for name in ${names}; do n=$((n+1)); case $((n%3)) in 0) mkdir "$name";; ` +
        `1) echo x > "$name";; *) ln -s /tmp "$name";; esac; done; echo made $n`,
    );
    expect(outcome.status).toBe('ok');
    expect(outcome.output).toMatch(/made \d+\n\[Put aside, .*renames it back\.\]/s);
    const left = readdirSync(ready.workspace);
    expect(left.filter((name) => starterNames.includes(name))).toEqual([]);
    expect(left.filter((name) => name.includes('.withheld-')).length).toBe(starterNames.length);
  });

  test('what exists of them can be read and not changed, moved or replaced', async () => {
    const ready = await startIn(uid, ['.vscode/tasks.json', '.envrc']);
    const script =
      'cat .envrc; echo new > .envrc; rm .envrc; mv .envrc e; mv .vscode v; rm -r .vscode; ' +
      'echo new > .vscode/tasks.json; touch .vscode/more; true';
    expect((await ready.shell(script)).output).toMatch(/^old/);
    expect(readdirSync(ready.workspace).sort()).toEqual(['.envrc', '.vscode']);
    expect(readdirSync(join(ready.workspace, '.vscode'))).toEqual(['tasks.json']);
    expect(readFileSync(join(ready.workspace, '.vscode/tasks.json'), 'utf8')).toBe('old');
    expect(readFileSync(join(ready.workspace, '.envrc'), 'utf8')).toBe('old');
  });

  test('git works, in a repository it made too; what git would run cannot be set', async () => {
    const ready = await startIn(uid);
    const made = await ready.shell(`${GIT} init -q . && ls -A .git`);
    expect(made).toMatchObject({ status: 'ok' });
    const config = readFileSync(join(ready.workspace, '.git/config'), 'utf8');
    const work = `echo a > a && git add a && ${GIT} commit -qm one && git status --short && git diff HEAD && ${GIT} tag t && git branch b && git checkout -q b && git log --oneline`;
    expect(await ready.shell(work)).toMatchObject({ output: expect.stringMatching(/ one\n$/) });
    await ready.shell(
      'git config core.fsmonitor x; mv .git g; mv .git/config c; echo x >> .git/config; ' +
        'echo x > .git/hooks/pre-commit; mv .git/hooks h; echo ../x > .git/commondir; ' +
        'echo x > .git/config.worktree; ln -s /tmp .git/new',
    );
    const inside = readdirSync(join(ready.workspace, '.git'));
    expect(readFileSync(join(ready.workspace, '.git/config'), 'utf8')).toBe(config);
    expect(inside).not.toContain('commondir');
    expect(inside).not.toContain('config.worktree');
    expect(existsSync(join(ready.workspace, '.git/hooks/pre-commit'))).toBe(false);
  });

  test('a repository it makes elsewhere is found before the session rests', async () => {
    const ready = await startIn(uid);
    const script =
      'git init -q plain; git init -q sub; git -C sub config core.fsmonitor x; ' +
      'git init -q --bare deep/er.x; git -C deep/er.x config alias.a "!x"; ' +
      'git init -q hooked; echo x > hooked/.git/hooks/post-checkout';
    expect(await ready.shell(script)).toMatchObject({ status: 'ok' });
    ready.connection.close();
    await ready.exited;
    const at = (path: string): boolean => existsSync(join(ready.workspace, path));
    expect(at('plain/.git/config')).toBe(true);
    expect([at('sub/.git/config'), at('deep/er.x/config')]).toEqual([false, false]);
    expect(at('hooked/.git/hooks/post-checkout')).toBe(false);
  });

  const EVIL = 'printf "[core]\\nrepositoryformatversion = 0\\nfsmonitor = x\\n" > sub/.git/config';
  const twoCalls: readonly (readonly [string, string, string])[] = [
    ['no HEAD at first', 'mv sub/.git/HEAD sub/.git/H', 'mv sub/.git/H sub/.git/HEAD'],
    ['no objects at first', 'mv sub/.git/objects sub/o', 'mv sub/o sub/.git/objects'],
    ['elsewhere at first', 'mv sub/.git/config c', 'mv c sub/.git/config'],
    ['a closed folder', 'chmod 000 sub', 'chmod 700 sub*; true'],
    ['a folder that is passed only', 'chmod 311 sub/.git', 'true'],
    ['a folder above it that is passed only', 'chmod 311 .', 'true'],
    ['a folder that nobody may write to', 'chmod 555 sub/.git', 'true'],
  ];
  test.each(twoCalls)(
    'one session makes a repository, one activates it: %s',
    async (_, one, two) => {
      const first = await startIn(uid);
      const { workspace } = first;
      await first.shell(`git init -q sub; ${EVIL}; ${one}`);
      first.connection.close();
      await first.exited;
      const second = await startTestHost({
        ...(uid === undefined ? {} : { uid }),
        policy: { workspace },
      });
      await second.initialize();
      await second.shell(two);
      second.connection.close();
      await second.exited;
      await second.close();
      expect(existsSync(join(workspace, 'sub/.git/config'))).toBe(false);
    },
  );

  test('a repository that leads to a configuration beside it is cut off', async () => {
    const ready = await startIn(uid);
    const outcome = await ready.shell(
      'mkdir -p x/worktrees/y sub; git init -q sub; mv sub/.git evil; rm evil/HEAD; ' +
        'echo ref: refs/heads/main > x/worktrees/y/HEAD; ' +
        'echo "gitdir: ../x/worktrees/y" > sub/.git; ' +
        'echo ../../../evil > x/worktrees/y/commondir; echo "[core] pager = x" > evil/config; ' +
        'git init -q --bare d.x; cp -r d.x d; mv d d.x/objects/ab; ' +
        'echo "[core] pager = x" > d.x/objects/ab/config',
    );
    expect(outcome).toMatchObject({ status: 'ok' });
    ready.connection.close();
    await ready.exited;
    const left = ['x/worktrees/y/commondir', 'evil/config', 'd.x/objects/ab/config'];
    expect(left.filter((path) => existsSync(join(ready.workspace, path)))).toEqual([]);
    expect(existsSync(join(ready.workspace, 'd.x/config'))).toBe(true);
  });

  test('a submodule keeps what says where its folder is, as long as that is true', async () => {
    const ready = await startIn(uid);
    const git = `${GIT} -c protocol.file.allow=always`;
    const work = `${git} init -q lib; cd lib; ${git} commit -q --allow-empty -m a; cd ..`;
    const add = `for n in a b c; do ${git} init -q $n; ${git} -C $n submodule add ../lib s/l; done`;
    await ready.shell(
      `${work}; ${add}; rm -r b/s/l; mkdir -p o; ln -s ../../o b/s/l; rm c/s/l/.git`,
    );
    ready.connection.close();
    await ready.exited;
    const left = ['a', 'b', 'c'].filter((name) =>
      existsSync(join(ready.workspace, name, '.git/modules/s/l/config')),
    );
    expect(left).toEqual(['a']);
  });

  test('no number of decoys hides a hook, nor does a link', async () => {
    const ready = await startIn(uid);
    await ready.shell(
      'mkdir scripts; echo x > scripts/pre-commit; for k in $(seq 9); do git init -q a$k; ' +
        'for n in $(seq 30); do echo x > a$k/.git/hooks/h$n; done; done; git init -q sub; ' +
        'rm -r sub/.git/hooks; ln -s ../../scripts sub/.git/hooks',
    );
    ready.connection.close();
    await ready.exited;
    const hooks = readdirSync(ready.workspace).map((name) => `${name}/.git/hooks`);
    expect(hooks.filter((path) => existsSync(join(ready.workspace, path)))).toEqual([]);
    expect(existsSync(join(ready.workspace, 'scripts/pre-commit'))).toBe(true);
  });

  test('what its user had stays, wherever it is moved to', async () => {
    const ready = await startIn(uid, [
      'old/objects/x',
      'old/refs/x',
      'old/HEAD',
      'old/hooks/post-merge',
    ]);
    await ready.shell('mv old new; touch new/objects/file');
    ready.connection.close();
    await ready.exited;
    expect(existsSync(join(ready.workspace, 'new/hooks/post-merge'))).toBe(true);
  });

  test('what the configuration or a hook leads git to is read-only, and stays in place', async () => {
    const files = ['hk/a/pre-push', 'tools/check', 'cfg', '.git/HEAD', '.git/config', 'conf/x'];
    const ready = await startIn(uid, files, (at) => {
      writeFileSync(
        at('.git/config'),
        '[core]\n\thooksPath = "hk/a"\n[include]\n\tpath = ../cfg\n',
      );
      mkdirSync(at('.git/hooks'));
      if (uid !== undefined) chownSync(at('.git/hooks'), uid, uid);
      symlinkSync('../../tools/check', at('.git/hooks/post-merge'));
      symlinkSync('conf', at('.vscode'));
    });
    const at = (path: string): string => join(ready.workspace, path);
    await ready.shell(
      'for f in hk/a/pre-push hk/a/new tools/check cfg conf/x; do echo x > $f; done',
    );
    for (const file of files.filter((name) => !name.startsWith('.'))) {
      expect(readFileSync(at(file), 'utf8')).toBe('old');
    }
    const outcome = await ready.shell(
      'mv hk hk2; mkdir -p d/a; echo x > d/a/pre-push; ln -s d hk; ' +
        'mv tools t2; mkdir tools; echo x > tools/check',
    );
    expect(outcome.output).toMatch(/Put aside.*hk is now hk\.withheld.*post-merge is now/);
    expect(existsSync(at('hk/a/pre-push'))).toBe(false);
    expect(existsSync(at('.git/hooks/post-merge'))).toBe(false);
  });

  test('a workspace that it closes to its user is opened again', async () => {
    const ready = await startIn(uid);
    const { mode } = lstatSync(ready.workspace);
    for (const closed of ['555', '311', '000']) {
      await ready.shell(`echo x > .envrc; chmod ${closed} .`);
      expect(existsSync(join(ready.workspace, '.envrc'))).toBe(false);
      expect(lstatSync(ready.workspace).mode & 0o700).toBe(mode & 0o700);
    }
  });

  test('the file tools refuse the same by name, through a link as well', async () => {
    const ready = await startIn(uid, ['.vscode/settings.json']);
    await ready.shell('ln -s .vscode link');
    for (const path of [
      '.envrc',
      '.vscode/tasks.json',
      'link/tasks.json',
      '.git/hooks/x',
      '.git',
    ]) {
      expect(await ready.run('write_file', { path, content: 'x' })).toMatchObject({
        status: 'error',
        output: expect.stringMatching(/is protected|read-only/),
      });
      const patch = `*** Begin Patch\n*** Add File: ${path}\n+x\n*** End Patch`;
      expect(await ready.run('apply_patch', { patch })).toMatchObject({ status: 'error' });
    }
    const edit = { path: '.vscode/settings.json', old_text: 'old', new_text: 'new' };
    expect(await ready.run('edit_file', edit)).toMatchObject({ status: 'error' });
  });
});

describe('a watch', () => {
  /** What is fresh is not trusted, and the kernel's clock is the one port nobody can hand in: hence
   *  the sleeps. */
  const ports = { clock: realClock, random: realRandom };
  let workspace: string;
  beforeEach(() => {
    workspace = mkdtempSync(join(tmpdir(), 'prx-guards-'));
  });
  afterEach(() => rmSync(workspace, { recursive: true }));

  test('of a later call finds what the first would have found (regression)', async () => {
    const begin = createWatcher(workspace, ports);
    for (const name of ['.envrc', '.mcp.json', '.envrc']) {
      await realClock.sleep(50);
      const watch = begin();
      writeFileSync(join(workspace, name), 'x');
      expect(watch?.sweep()).toMatchObject([{ path: name }]);
      // The next one has the same descriptor.
      watch?.close();
    }
  });

  test('of a later call takes a link for what it leads to by then', async () => {
    mkdirSync(join(workspace, 'sub'));
    symlinkSync('sub/it', join(workspace, '.envrc'));
    const begin = createWatcher(workspace, ports);
    for (const content of ['first', 'second']) {
      // In the folder below: no time of the workspace shows it.
      writeFileSync(join(workspace, 'sub/next'), content);
      renameSync(join(workspace, 'sub/next'), join(workspace, 'sub/it'));
      await realClock.sleep(50);
      const watch = begin();
      expect(watch?.sweep()).toEqual([]);
      watch?.close();
    }
  });

  test('is not deceived by a folder whose time a tool sets back (regression)', async () => {
    utimesSync(workspace, 1000, 1000);
    await realClock.sleep(50);
    const watch = createWatcher(workspace, ports)();
    writeFileSync(join(workspace, '.envrc'), 'x');
    utimesSync(workspace, 1000, 1000);
    expect(watch?.sweep()).toMatchObject([{ path: '.envrc' }]);
    watch?.close();
  });
});

test('at level none nothing is put aside', async () => {
  host = await startTestHost({ policy: { backend: 'none' } });
  await host.initialize();
  const outcome = await host.shell('touch .envrc 2>&1; true');
  expect(outcome).toMatchObject({ status: 'ok', level: 'none' });
  expect(outcome.output).not.toContain('Put aside');
});

on('what is put aside', () => {
  test('is the name itself, never what a link leads to', async () => {
    const ready = await startIn(undefined);
    const outside = join(ready.base, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, '.envrc'), 'mine');
    await ready.shell(`ln -s ${outside} .vscode; mkdir s; ln -s ${outside} s/.git`);
    expect(readdirSync(outside)).toEqual(['.envrc']);
    const [aside = ''] = readdirSync(ready.workspace).filter((name) => name.startsWith('.vscode'));
    expect(lstatSync(join(ready.workspace, aside)).isSymbolicLink()).toBe(true);
  });
});

test.each([
  ['.envrc', true],
  ['.vscode/a/b', true],
  // Settings that name programs to an editor, to agents, and to what is run on entering.
  ['.helix/languages.toml', true],
  ['opencode.json', true],
  ['mise.local.toml', true],
  // Read by a debugger, a shell of a language or a build server's client that starts in the folder.
  ...['.pdbrc', '.iex.exs', '.ocamlinit', '.bsp/sbt.json'].map((path) => [path, true] as const),
  ['.git/config', true],
  ['.git/hooks/pre-push', true],
  ['.git', true],
  ['.git/COMMIT_EDITMSG', false],
  ['.github/workflows/a.yml', false],
  ['src/.envrc', false],
  ['AGENTS.md', false],
  ['../.envrc', false],
])('%s is guarded: %s', (path, guarded) => {
  expect(findGuard(path) !== undefined).toBe(guarded);
});

test.each([
  ['[core]\n\tbare = false\n\tfilemode = true\n', undefined],
  [
    '[remote "origin"]\n\turl = https://a.example/b\n\tfetch = +refs/heads/*:refs/remotes/*\n',
    undefined,
  ],
  ['; note\n# note\n\n[user]\nname = A B\n', undefined],
  ['[core]\n\tfsmonitor = x\n', 'core.fsmonitor'],
  ['[CORE]\n\tHooksPath = x\n', 'core.hookspath'],
  ['[core] fsmonitor = x\n', '[core] fsmonitor = x'],
  ['[core]\n\tbare = false \\\n\tfsmonitor = x\n', 'core.bare'],
  ['[include]\n\tpath = x\n', 'include.path'],
  ['[alias]\n\ta = !x\n', 'alias.a'],
  ['[remote "o"]\n\turl = ext:":sh -c x"\n', 'remote.o.url'],
  ['[remote "o"]\n\turl = ext::sh -c x\n', 'remote.o.url'],
  ['[remote "o"]\n\tuploadpack = x\n', 'remote.o.uploadpack'],
  ['[submodule "s"]\n\tupdate = !x\n', 'submodule.s.update'],
  ['[filter "f"]\n\tclean = x\n', 'filter.f.clean'],
  ['no section at all', 'no section at all'],
])('the key of %j that may run something: %s', (text, key) => {
  expect(findActiveKey(text)).toBe(key);
});
