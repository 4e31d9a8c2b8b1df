/** apply_patch: both formats, all or nothing, and words that help. */
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { realRandom } from '../../base/random.ts';
import { listPatchPaths, readPatch } from '../../protocol/patch.ts';
import { fitHunks } from '../../sandbox/inside/fit-hunks.ts';
import { runFileTool } from '../../sandbox/inside/run-file-tool.ts';

let workspace = '';
beforeEach(() => {
  workspace = mkdtempSync(join(tmpdir(), 'prx-patch-'));
});
afterEach(() => rmSync(workspace, { recursive: true, force: true }));

const at = (path: string): string => join(workspace, path);
const write = (files: Readonly<Record<string, string>>): void => {
  for (const [path, text] of Object.entries(files)) writeFileSync(at(path), text);
};
const read = (path: string): string => readFileSync(at(path), 'utf8');
const apply = (patch: string) =>
  runFileTool({
    ...{ tool: 'apply_patch', arguments: { patch }, workspace },
    ...{ maxOutputBytes: 10_000, random: realRandom },
  });
const envelope = (...lines: string[]): string =>
  ['*** Begin Patch', ...lines, '*** End Patch'].join('\n');

/** Everything in the workspace, to compare before and after. */
const snapshot = (): Record<string, string> =>
  Object.fromEntries(
    readdirSync(workspace, { recursive: true, encoding: 'utf8' })
      .filter((name) => statSync(at(name)).isFile())
      .map((name) => [name, read(name)]),
  );

describe('apply_patch', () => {
  test('changes, adds, moves and deletes files at once', () => {
    write({ 'a.ts': 'one\ntwo\nthree\n', 'old.ts': 'x\n', 'gone.ts': 'y\n' });
    const patch = envelope(
      ...['*** Update File: a.ts', '@@', ' one', '-two', '+2', ' three'],
      ...['*** Add File: src/new.ts', '+hello', '+'],
      ...['*** Update File: old.ts', '*** Move to: moved.ts', '@@', '-x', '+X'],
      ...['*** Delete File: gone.ts'],
    );
    expect(apply(patch)).toEqual({
      status: 'ok',
      output: 'Done:\nM a.ts\nA src/new.ts\nR old.ts -> moved.ts\nD gone.ts',
      truncated: false,
    });
    expect(snapshot()).toEqual({
      'a.ts': 'one\n2\nthree\n',
      'src/new.ts': 'hello\n\n',
      'moved.ts': 'X\n',
    });
    expect(listPatchPaths(patch)).toEqual([
      ...['a.ts', 'src/new.ts', 'old.ts', 'moved.ts', 'gone.ts'],
    ]);
  });

  test('takes a unified diff of several files, as git writes it', () => {
    write({ 'x.txt': 'a\nb\n', old: 'same\n', d: 'x\n' });
    const patch = [
      ...['diff --git a/x.txt b/x.txt', '--- a/x.txt', '+++ b/x.txt', '@@ -1,2 +1,2 @@'],
      ...[' a', '-b', '+c'],
      ...['diff --git a/old b/new', 'similarity index 100%', 'rename from old', 'rename to new'],
      ...['diff --git a/d b/d', 'deleted file mode 100644', '--- a/d', '+++ /dev/null'],
      ...['@@ -1 +0,0 @@', '-x'],
      ...['diff --git a/n b/n', 'new file mode 100644', '--- /dev/null', '+++ b/n'],
      ...['@@ -0,0 +1 @@', '+hi', '\\ No newline at end of file'],
    ].join('\n');
    expect(apply(patch).output).toBe('Done:\nM x.txt\nR old -> new\nD d\nA n');
    expect(snapshot()).toEqual({ 'x.txt': 'a\nc\n', new: 'same\n', n: 'hi' });
    expect(listPatchPaths('--- a/x\n+++ a/x\n@@ -1 +1 @@\n-a\n+b\n')).toEqual(['a/x']);
    expect(listPatchPaths('--- x.orig\n+++ x\n@@ -1 +1 @@\n-a\n+b\n')).toEqual(['x']);
  });

  test.each([
    [
      'a change that does not fit',
      ['*** Update File: b', '@@', '-nowhere', '+x'],
      /change 1 of 1 in b does not fit[\s\S]*nowhere in the file/,
    ],
    ['a file that is not there', ['*** Delete File: c'], /c does not exist; use list_files/],
    ['a file that is there', ['*** Add File: b', '+x'], /b exists already; change it with/],
    ['a move onto a file', ['*** Update File: b', '*** Move to: a'], /a exists already/],
    ['a folder', ['*** Delete File: dir'], /dir is a folder/],
    ['a path through a file', ['*** Add File: b/c', '+x'], /a part of the path is a file/],
    [
      'a file where a folder comes',
      ['*** Add File: d', '+x', '*** Add File: d/x', '+y'],
      /nothing was changed/,
    ],
  ])('%s: nothing is touched, and the answer says what', (_, lines, problem) => {
    mkdirSync(at('dir'));
    write({ a: 'one\n', b: 'two\n' });
    const before = snapshot();
    const patch = envelope('*** Update File: a', '@@', '-one', '+1', ...lines);
    const { status, output } = apply(patch);
    expect([status, output]).toEqual(['error', expect.stringMatching(problem)]);
    expect(output).toContain('nothing was changed');
    expect(snapshot()).toEqual(before);
  });

  test('keeps the mode, the line ends and a link; two changes of one file are one', () => {
    writeFileSync(at('run.sh'), 'a\r\nb\r\nc\r\n', { mode: 0o755 });
    symlinkSync('run.sh', at('link'));
    const patch = envelope(
      ...['*** Update File: link', '@@', '-a', '+A'],
      ...['*** Update File: link', '@@', '-c', '+C'],
    );
    expect(apply(patch).status).toBe('ok');
    expect(read('run.sh')).toBe('A\r\nb\r\nC\r\n');
    expect(statSync(at('run.sh')).mode & 0o777).toBe(0o755);
    expect(lstatSync(at('link')).isSymbolicLink()).toBe(true);
  });

  test.each([
    ['most are LF', 'a\nb\r\nc\nd', 'A\nx\nb\r\nc\nd'],
    ['most are CRLF', 'a\r\nb\nc\r\nd', 'A\r\nx\r\nb\nc\r\nd'],
    ['there is a mark', '\ufeffa\nb\n', '\ufeffA\nx\nb\n'],
  ])('lines that it does not change stay as they are: %s (regression)', (_, old, text) => {
    write({ f: old });
    const patch = envelope('*** Update File: f', '@@', '-a', '+A', '+x', ' b');
    expect([apply(patch).output, read('f')]).toEqual(['Done:\nM f', text]);
  });

  test('one file under two names is refused: one change would be lost (regression)', () => {
    write({ f: 'a\n' });
    symlinkSync('f', at('link'));
    const update = (path: string, to: string) => [`*** Update File: ${path}`, '@@', '-a', `+${to}`];
    const patch = envelope(...update('f', 'one'), ...update('link', 'two'));
    expect(apply(patch).output).toContain('link and f are the same file');
    expect(read('f')).toBe('a\n');
  });

  test('a diff fits behind the mark of a file, which stays (regression)', () => {
    write({ f: '\ufeffa\nb\n' });
    const patch = '--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+A\n b\n';
    expect([apply(patch).output, read('f')]).toEqual(['Done:\nM f', '\ufeffA\nb\n']);
  });

  test.each([
    ['a program', 0o755],
    ['what only its owner reads', 0o600],
  ])('%s that moves keeps its mode (regression)', (_, mode) => {
    writeFileSync(at('a'), 'x\n', { mode });
    const patch = envelope('*** Update File: a', '*** Move to: bin/b', '@@', '-x', '+y');
    expect([apply(patch).status, read('bin/b')]).toEqual(['ok', 'y\n']);
    expect(statSync(at('bin/b')).mode & 0o777).toBe(mode);
  });

  test('what git says beside the lines is done, not passed over (regression)', () => {
    write({ 'gone.py': '', 'run.sh': 'x\n', 'on.sh': 'y\n' });
    const patch = [
      ...['diff --git a/m/__init__.py b/m/__init__.py', 'new file mode 100644'],
      ...['diff --git a/gone.py b/gone.py', 'deleted file mode 100644'],
      ...['diff --git a/new.sh b/new.sh', 'new file mode 100755', '--- /dev/null', '+++ b/new.sh'],
      ...['@@ -0,0 +1 @@', '+hi', 'diff --git a/on.sh b/on.sh', 'old mode 100644'],
      ...['new mode 100755', 'diff --git a/run.sh b/run.sh', '--- a/run.sh', '+++ b/run.sh'],
      ...['@@ -1 +1 @@', '-x', '+X', ''],
    ].join('\n');
    expect(apply(patch).output).toBe(
      'Done:\nA m/__init__.py\nD gone.py\nA new.sh\nM on.sh\nM run.sh',
    );
    expect(snapshot()).toEqual({
      ...{ 'm/__init__.py': '', 'new.sh': 'hi\n', 'on.sh': 'y\n', 'run.sh': 'X\n' },
    });
    const isProgram = (name: string) => (statSync(at(name)).mode & 0o100) !== 0;
    expect(['new.sh', 'on.sh', 'run.sh'].map(isProgram)).toEqual([true, true, false]);
  });

  test('a diff deletes only what it shows (regression)', () => {
    write({ f: 'other\nlines\n' });
    const patch = '--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-shown\n';
    expect(apply(patch)).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/nothing was changed.*f is not deleted: the removed lines/),
    });
    expect(read('f')).toBe('other\nlines\n');
  });

  test('of a patch that fails no folder stays (regression)', () => {
    write({ a: 'one\n' });
    const patch = envelope(
      '*** Add File: b/c/d',
      '+x',
      '*** Add File: b/e',
      '+x',
      ...fileAndFolder,
    );
    expect(apply(patch).output).toContain('nothing was changed');
    expect(readdirSync(workspace)).toEqual(['a']);
  });
});

/** Seen only when it is written. */
const fileAndFolder = ['*** Add File: q', '+x', '*** Add File: q/g', '+x'];

const change = (...lines: string[]) => {
  const parsed = readPatch(envelope('*** Update File: f', ...lines));
  if (parsed.kind === 'problem') throw new Error(parsed.problem);
  const [first] = parsed.changes;
  return first?.kind === 'update' ? first.hunks : [];
};

describe('a change', () => {
  const text = 'class A\n  def f\n    x = 1\n  def g\n    x = 1\n';

  test.each([
    ['behind its anchor', ['@@ def g', '-    x = 1', '+    x = 2'], 4],
    ['behind anchors one in another', ['@@ class A', '@@ def g', '-    x = 1', '+    x = 2'], 4],
    ['the first place without one', ['@@', '-    x = 1', '+    x = 2'], 2],
    ['the last place at the end', ['@@', '-    x = 1', '+    x = 2', '*** End of File'], 4],
    ['with other blanks', ['@@ def g', '-x = 1  ', '+    x = 2'], 4],
  ])('is made %s', (_, lines, place) => {
    const expected = text.split('\n');
    expected[place] = '    x = 2';
    expect(fitHunks(text, change(...lines), 'f')).toBe(expected.join('\n'));
  });

  test('of new lines only stands behind its anchor, or at the end', () => {
    expect(fitHunks('a\nb\n', change('@@ a', '+new'), 'f')).toBe('a\nnew\nb\n');
    expect(fitHunks('a\nb\n', change('@@', '+new'), 'f')).toBe('a\nb\nnew\n');
    expect(fitHunks('', change('@@', '+new'), 'f')).toBe('new\n');
  });

  test('keeps the lines of the file where the patch has other blanks', () => {
    expect(fitHunks('\ta  \nb\n', change('@@', ' a', '-b', '+c'), 'f')).toBe('\ta  \nc\n');
  });

  test('any change of any text, said with its context, is made exactly', () => {
    const line = fc.string({ unit: fc.constantFrom(...'ab {}'), maxLength: 4 });
    const texts = fc.array(line, { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(texts, texts, fc.nat(), fc.nat(), (old, added, from, count) => {
        const start = from % old.length;
        const end = Math.min(old.length, start + 1 + (count % 3));
        const lines = [
          ...old.slice(0, start).map((each) => ` ${each}`),
          ...old.slice(start, end).map((each) => `-${each}`),
          ...added.map((each) => `+${each}`),
          ...old.slice(end).map((each) => ` ${each}`),
        ];
        const expected = [...old.slice(0, start), ...added, ...old.slice(end)];
        expect(fitHunks(`${old.join('\n')}\n`, change('@@', ...lines), 'f')).toBe(
          `${expected.join('\n')}\n`,
        );
      }),
    );
  });
});

test.each([
  ['', /neither/],
  ['*** Begin Patch\n', /no line "\*\*\* End Patch"/],
  [envelope('hello'), /is expected, not "hello"/],
  [envelope('*** Add File: a', 'x'), /begins with "\+", not so "x"/],
  [envelope('*** Update File: a'), /has no change behind it/],
  [envelope('*** Update File: a', '@@', ' x'), /no line with "-" or "\+"/],
  [envelope('*** Update File: a', '@@', 'x'), /begins with " ", "-", "\+" or "@@"/],
  [envelope('*** Delete File: a', 'x'), /nothing may follow/],
  ['--- a\n+++ b\n@@ -1 +1 @@\n', /unified diff/],
  [
    'diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+to\n',
    /link/,
  ],
  [
    'diff --git a/p.png b/p.png\nindex 1..2 100644\nBinary files a/p.png and b/p.png differ\n',
    /bytes/,
  ],
  ['diff --git a/x b/x\nindex 1..2 100644\n', /says nothing of x/],
])('%j is no patch, and the answer says why', (patch, problem) => {
  expect(readPatch(patch)).toEqual({ kind: 'problem', problem: expect.stringMatching(problem) });
  expect(listPatchPaths(patch)).toEqual([]);
});
