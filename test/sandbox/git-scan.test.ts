/** What a workspace may hold that git would obey: found wherever it lies, and renamed. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { realRandom } from '../../base/random.ts';
import { createWorkspaceGuard, surveyKnown } from '../../sandbox/launch/workspace-guard.ts';

let workspace = '';
beforeEach(() => {
  workspace = mkdtempSync(join(tmpdir(), 'prx-git-scan-'));
});
afterEach(() => {
  rmSync(workspace, { recursive: true, force: true });
});

const at = (...names: readonly (string | Buffer)[]): Buffer =>
  Buffer.concat(names.flatMap((name) => [Buffer.from('/'), Buffer.from(name)])).subarray(1);

/** With what makes it one. */
function makeRepository(...names: readonly (string | Buffer)[]): Buffer {
  const folder = at(workspace, ...names);
  for (const name of ['objects', 'refs']) mkdirSync(at(folder, name), { recursive: true });
  return folder;
}

async function scan(known: ReadonlySet<string> = new Set()) {
  const backend = { level: 'bubblewrap', workspace } as const;
  const deps = { clock: realClock, random: realRandom };
  return await createWorkspaceGuard({ backend, known, ...deps }).scan();
}

test('a folder whose name is no text hides no repository (regression)', async () => {
  const folder = makeRepository(Buffer.from([0x64, 0xff]), '.git');
  writeFileSync(at(folder, 'config'), '[core]\n\tfsmonitor = ./x\n');
  expect(await scan()).toEqual([
    expect.objectContaining({ path: 'd\ufffd/.git/config', reason: 'it sets core.fsmonitor' }),
  ]);
  expect(readdirSync(folder).filter((name) => name.startsWith('config'))).toEqual([
    expect.stringContaining('withheld'),
  ]);
});

test('a folder with a name beyond ASCII keeps its submodule as it is', async () => {
  const folder = makeRepository('\u00e9', '.git', 'modules', '\u00fc');
  writeFileSync(at(folder, 'config'), '[core]\n\tworktree = ../../../\u00fc\n');
  mkdirSync(at(workspace, '\u00e9', '\u00fc'));
  const pointer = at(workspace, '\u00e9', '\u00fc', '.git');
  writeFileSync(pointer, 'gitdir: ../.git/modules/\u00fc\n');
  expect(await scan()).toEqual([]);
});

describe('of a rebase that is not over', () => {
  const put = (steps: string): void => {
    const folder = at(makeRepository('.git'), 'rebase-merge');
    mkdirSync(folder);
    writeFileSync(at(folder, 'git-rebase-todo'), steps);
  };
  const found = expect.objectContaining({
    path: '.git/rebase-merge/git-rebase-todo',
    reason: 'the rebase would run a command',
  });

  test.each([
    'exec make test\n',
    'pick 1234567 one\n  x\tmake\n',
    'x',
    `${'pick 1234567 one\n'.repeat(5000)}exec make\n`,
  ])('steps with a command are put aside', async (steps) => {
    put(steps);
    expect(await scan()).toEqual([found]);
  });

  test.each(['pick 1234567 exec\n# x, exec <command> = run\nf 89abcde x\n', '', 'execute\n'])(
    'others stay',
    async (steps) => {
      put(steps);
      expect(await scan()).toEqual([]);
    },
  );

  test('steps behind a link are put aside', async () => {
    writeFileSync(join(workspace, 'steps'), 'exec make\n');
    const folder = at(makeRepository('.git'), 'rebase-merge');
    mkdirSync(folder);
    symlinkSync('../../steps', at(folder, 'git-rebase-todo'));
    expect(await scan()).toEqual([found]);
  });

  test('those of its user stay', async () => {
    put('exec make\n');
    expect(await scan(await surveyKnown(workspace))).toEqual([]);
  });
});

describe('a merge strategy that an unfinished step has noted (regression)', () => {
  const put = (path: string, text: string): void => {
    const [folder = '', name = ''] = path.split('/');
    mkdirSync(at(makeRepository('.git'), folder));
    writeFileSync(at(workspace, '.git', folder, name), text);
  };
  const options = '[options]\n\tmainline = 1\n\tstrategy = ';

  test.each([
    ['rebase-merge/strategy', '../../x\n'],
    ['rebase-merge/strategy', 'mine\n'],
    ['sequencer/opts', `${options}../../x\n`],
    ['sequencer/opts', `${options}"ort"\n`],
    ['sequencer/opts', '[options] strategy = ../../x\n'],
    ['sequencer/opts', `${options}or\\\nt\n`],
  ])('%s is put aside: %j', async (path, text) => {
    put(path, text);
    const reason = 'it names a merge strategy that is not of git';
    expect(await scan()).toEqual([expect.objectContaining({ path: `.git/${path}`, reason })]);
  });

  test.each([
    ['rebase-merge/strategy', 'ort\n'],
    ['rebase-merge/strategy', ''],
    ['sequencer/opts', `${options}recursive\n\tstrategy-option = ours\n\tgpg-sign = ABC\n`],
  ])('%s of git itself stays: %j', async (path, text) => {
    put(path, text);
    expect(await scan()).toEqual([]);
  });

  test('is put aside behind a link to its folder', async () => {
    const folder = makeRepository('.git');
    mkdirSync(at(workspace, 'steps'));
    writeFileSync(at(workspace, 'steps', 'strategy'), '../../x\n');
    symlinkSync('../steps', at(folder, 'rebase-merge'));
    expect(await scan()).toEqual([expect.objectContaining({ path: '.git/rebase-merge' })]);
    expect(readdirSync(folder)).not.toContain('rebase-merge');
  });
});
