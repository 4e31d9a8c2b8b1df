import {
  chmodSync,
  linkSync,
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
import { realRandom } from '../../base/random.ts';
import { patchText, replaceText } from '../../sandbox/inside/edit-file.ts';
import type { FileToolName } from '../../sandbox/inside/methods.ts';
import { findSimilar } from '../../sandbox/inside/paths.ts';
import { runFileTool } from '../../sandbox/inside/run-file-tool.ts';

let workspace = '';
beforeEach(() => {
  workspace = mkdtempSync(join(tmpdir(), 'prx-sandbox-files-'));
});
afterEach(() => rmSync(workspace, { recursive: true, force: true }));

const at = (path: string): string => join(workspace, path);
const run = (tool: FileToolName, args: unknown, maxOutputBytes = 10_000) =>
  runFileTool({ tool, arguments: args, workspace, maxOutputBytes, random: realRandom });

describe('read_file', () => {
  test('numbers lines and pages', () => {
    writeFileSync(at('a'), 'one\ntwo\r\nthree\nfour');
    expect(run('read_file', { path: 'a' })).toEqual({
      status: 'ok',
      output: '     1\tone\n     2\ttwo\n     3\tthree\n     4\tfour',
      truncated: false,
    });
    expect(run('read_file', { path: 'a', offset: 2, limit: 2 })).toEqual({
      status: 'ok',
      output: '     2\ttwo\n     3\tthree\n[lines 2 to 3 of 4; continue with offset 4]',
      truncated: true,
    });
  });

  test('stops at the cap and says where to go on', () => {
    writeFileSync(at('a'), 'x'.repeat(49).concat('\n').repeat(100));
    const { output, truncated } = run('read_file', { path: 'a' }, 1000);
    expect(Buffer.byteLength(output)).toBeLessThan(1100);
    expect([truncated, output]).toEqual([true, expect.stringMatching(/continue with offset \d+/)]);
  });

  test('a line that is longer than the cap is shown as far as it fits (regression)', () => {
    writeFileSync(at('a'), `${'\u20ac'.repeat(5000)}\nlast\n`);
    const { output } = run('read_file', { path: 'a' }, 1024);
    expect(output).toMatch(/^ {5}1\t\u20ac+ \[line cut: 5000 characters\]\n {5}2\tlast$/);
    expect(Buffer.byteLength(output)).toBeLessThanOrEqual(1024);
  });

  test('what lies behind the part that is read is not said to be absent (regression)', () => {
    const line = `${'z'.repeat(1023)}\n`;
    const count = (256 * 1024 * 1024) / 1024;
    writeFileSync(at('a'), line.repeat(count - 1).concat('z'.repeat(2000), '\nlast\n'));
    expect(run('read_file', { path: 'a', offset: count + 1 })).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/^a has more than 262143 lines in its first .* with shell/),
    });
    const { output, truncated } = run('read_file', { path: 'a', offset: count - 1 });
    expect(output).toMatch(/^262143\tz{1023}\n\[lines 262143 to 262143 of more than 262143; con/);
    expect(truncated).toBe(true);
  });

  test('cuts a line that is too long', () => {
    writeFileSync(at('a'), 'y'.repeat(9000));
    expect(run('read_file', { path: 'a' }).output).toMatch(/y \[line cut: 9000 characters\]$/);
  });

  test.each([
    ['an empty file', '', 'ok', '(a is empty)'],
    ['binary', 'ab\0cd', 'error', /binary file of 5 bytes/],
    ['invalid UTF-8', Buffer.from([0x61, 0xff, 0x62]), 'ok', /a\ufffdb\n\[.*not valid UTF-8/],
  ] as const)('%s', (_, content, status, output) => {
    writeFileSync(at('a'), content);
    const expected = typeof output === 'string' ? output : expect.stringMatching(output);
    expect(run('read_file', { path: 'a' })).toMatchObject({ status, output: expected });
  });

  test('an offset beyond the end says how long the file is', () => {
    writeFileSync(at('a'), 'one\n');
    expect(run('read_file', { path: 'a', offset: 5 }).output).toBe(
      'a has 1 lines; offset 5 is beyond the end',
    );
  });

  test('a folder, a device, a missing name and a missing folder', () => {
    mkdirSync(at('src'));
    writeFileSync(at('src/server.ts'), 'x');
    const outputs = ['src', '/dev/null', 'src/Server.js', 'lib/deep/x'].map(
      (path) => run('read_file', { path }).output,
    );
    expect(outputs).toEqual([
      'src is a folder; use list_files',
      '/dev/null is a pipe, a socket or a device, not a file',
      'src/Server.js does not exist; did you mean src/server.ts?',
      'lib/deep/x does not exist; the nearest folder that does is .',
    ]);
  });
});

describe('write_file', () => {
  test('makes folders, replaces, and leaves no temporary file', () => {
    expect(run('write_file', { path: 'a/b/c', content: 'x' }).output).toBe(
      'Created a/b/c (1 bytes).',
    );
    expect(run('write_file', { path: 'a/b/c', content: 'yy' }).output).toBe(
      'Replaced a/b/c (2 bytes).',
    );
    expect([readdirSync(at('a/b')), readFileSync(at('a/b/c'), 'utf8')]).toEqual([['c'], 'yy']);
  });

  test('keeps the mode but no set-id bit', () => {
    writeFileSync(at('run.sh'), 'x');
    chmodSync(at('run.sh'), 0o4751);
    run('write_file', { path: 'run.sh', content: 'y' });
    expect(statSync(at('run.sh')).mode & 0o7777).toBe(0o751);
  });

  test('a link stays a link; its target is written', () => {
    mkdirSync(at('real'));
    writeFileSync(at('real/f'), 'old');
    symlinkSync('real/f', at('link'));
    run('write_file', { path: 'link', content: 'new' });
    expect([lstatSync(at('link')).isSymbolicLink(), readFileSync(at('real/f'), 'utf8')]).toEqual([
      true,
      'new',
    ]);
  });

  test('a hard link elsewhere keeps its old content', () => {
    writeFileSync(at('a'), 'old');
    linkSync(at('a'), at('b'));
    run('write_file', { path: 'a', content: 'new' });
    expect(readFileSync(at('b'), 'utf8')).toBe('old');
  });

  test.each([
    ['a folder', 'folder', /is a folder/],
    ['below a file', 'file/x', /not a folder/],
    ['a loop of links', 'loop', /too many symbolic links/],
    ['a name that is too long', 'n'.repeat(300), /too long/],
    ['a NUL', 'a\0b', /NUL/],
    ['a device', '/dev/null', /device/],
  ])('refuses %s', (_, path, message) => {
    mkdirSync(at('folder'));
    writeFileSync(at('file'), 'x');
    symlinkSync('loop', at('loop'));
    expect(run('write_file', { path, content: 'x' })).toMatchObject({
      status: 'error',
      output: expect.stringMatching(message),
    });
  });
});

describe('edit_file', () => {
  test('replaces exactly one occurrence', () => {
    writeFileSync(at('a'), 'one\ntwo\nthree\n');
    const args = { path: 'a', old_text: 'two', new_text: 'zwei' };
    expect(run('edit_file', args).output).toBe('Replaced 1 occurrence in a at line 2.');
    expect(readFileSync(at('a'), 'utf8')).toBe('one\nzwei\nthree\n');
  });

  test('text like $& in the replacement is taken as it is', () => {
    const edit = { oldText: 'a', newText: '$& $1', all: false };
    expect(replaceText('xay', edit, 'f').text).toBe('x$& $1y');
  });

  test('two occurrences need replace_all', () => {
    const edit = { oldText: 'a', newText: 'b', all: false };
    expect(() => replaceText('a\na', edit, 'f')).toThrow(
      'old_text occurs 2 times in f (lines 1, 2); add surrounding lines to make it unique, '.concat(
        'or set replace_all',
      ),
    );
    expect(replaceText('a\na', { ...edit, all: true }, 'f').text).toBe('b\nb');
  });

  test('what would not fit is not made', () => {
    const edit = { oldText: 'a', newText: 'b'.repeat(1_000_000), all: true };
    expect(() => replaceText('a'.repeat(1_000_000), edit, 'f')).toThrow(
      'f would have 1000000000000 characters; the limit of an edit is 20971520; use shell',
    );
  });

  test('a miss says where the first line does stand', () => {
    const edit = { oldText: '  foo()\n  bar()', newText: '', all: false };
    expect(() => replaceText('x\n\tfoo()\n\tbaz()', edit, 'f')).toThrow('resembles line 2');
    expect(() => replaceText('x', edit, 'f')).toThrow('read the file again');
  });

  test('LF means CRLF in a file of CRLF lines', () => {
    const edit = { oldText: 'a\nb', newText: 'c\nd', all: false };
    expect(replaceText('a\r\nb\r\n', edit, 'f').text).toBe('c\r\nd\r\n');
    // Regression: one line became two, of which the first had no CR.
    const more = { oldText: 'a', newText: 'c\nd', all: false };
    expect(replaceText('a\r\nb\r\n', more, 'f').text).toBe('c\r\nd\r\nb\r\n');
    expect(replaceText('a\r\nb\n', more, 'f').text).toBe('c\nd\r\nb\n');
  });

  test('applies a unified diff', () => {
    const patch = '--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n';
    expect(patchText('one\ntwo\nthree\n', patch, 'f')).toEqual({
      text: 'one\nzwei\nthree\n',
      summary: 'Applied 1 hunk to f.',
    });
  });

  test.each([
    ['does not fit', '@@ -1 +1 @@\n-nine\n+neun\n', /does not fit/],
    ['has no hunk', 'hello', /has no hunk/],
    [
      'has two files',
      '--- a\n+++ a\n@@ -1 +1 @@\n-one\n+x\n--- b\n+++ b\n@@ -1 +1 @@\n-one\n+y\n',
      /2 files/,
    ],
    ['is broken', '--- a\n+++ a\n@@ -1,5 +1,5 @@\n-one\n+x\n', /not a unified diff/],
  ])('a patch that %s is refused', (_, patch, message) => {
    expect(() => patchText('one\n', patch, 'f')).toThrow(message);
  });

  test.each([
    [{}, /give old_text and new_text, or patch/],
    [{ old_text: 'a', new_text: 'b', patch: 'x' }, /not both/],
    [{ old_text: 'one', new_text: 'one' }, /changes nothing/],
  ])('arguments %j are refused', (args, message) => {
    writeFileSync(at('a'), 'one');
    const { status, output } = run('edit_file', { path: 'a', ...args });
    expect([status, output]).toEqual(['error', expect.stringMatching(message)]);
  });

  test('bytes that are no text are not touched', () => {
    const bytes = Buffer.from([0x61, 0xff]);
    writeFileSync(at('a'), bytes);
    const args = { path: 'a', old_text: 'a', new_text: 'b' };
    expect(run('edit_file', args).output).toMatch(/not UTF-8/);
    expect(readFileSync(at('a'))).toEqual(bytes);
  });
});

describe('list_files', () => {
  test('a tree with sizes, links and depth', () => {
    mkdirSync(at('b/c/d'), { recursive: true });
    writeFileSync(at('b/x'), '123');
    writeFileSync(at('.hidden'), '');
    symlinkSync('/etc', at('link'));
    expect(run('list_files', {}).output).toBe('./\n  b/\n    c/\n    x 3\n  link -> /etc');
    expect(run('list_files', { path: 'b', depth: 1 }).output).toBe('b/\n  c/\n  x 3');
    expect(run('list_files', { hidden: true, depth: 1 }).output).toContain('.hidden 0');
  });

  test('is bounded in a folder and in bytes', () => {
    for (let i = 0; i < 305; i += 1) writeFileSync(at(`f${1000 + i}`), '');
    expect(run('list_files', {}).output).toMatch(/f1299 0\n {2}\[and 5 more here\]$/);
    expect(run('list_files', {}, 200)).toMatchObject({ truncated: true });
  });

  test('a name cannot forge a line', () => {
    writeFileSync(at('a\nb'), '');
    expect(run('list_files', {}).output).toBe('./\n  a\\nb 0');
  });

  test('a file and a missing folder', () => {
    writeFileSync(at('a'), '');
    expect(run('list_files', { path: 'a' }).output).toBe('a is a file; use read_file');
    expect(run('list_files', { path: 'aa' }).output).toMatch(/did you mean a\?|does not exist/);
  });
});

test('similar names: nearest first, nothing far away', () => {
  const names = ['README.md', 'readme', 'main.ts', 'mian.ts', 'unrelated'];
  expect(findSimilar('Readme.md', names)).toEqual(['README.md', 'readme']);
  expect(findSimilar('main.js', names)).toEqual(['main.ts']);
  expect(findSimilar('zzz', names)).toEqual([]);
});

test('what stands in the way is named (regression)', () => {
  symlinkSync('gone', at('link'));
  symlinkSync('loop', at('loop'));
  const bad = Buffer.concat([Buffer.from(at('bad')), Buffer.from([0xff])]);
  writeFileSync(bad, '');
  const say = (tool: FileToolName, path: string, more: object = {}): string =>
    run(tool, { path, ...more }).output;
  expect(say('read_file', 'link')).toBe('link is a link to gone, which does not exist here');
  expect(say('read_file', 'bad\ufffd')).toMatch(/^bad\ufffd has a name that is not UTF-8; use/);
  expect(say('read_file', '/proc/self/mem')).toMatch(/^cannot read \/proc\/self\/mem: it cannot/);
  expect(say('list_files', 'loop')).toMatch(/^cannot list loop: the path leads through too many/);
  expect(say('list_files', '/dev/null')).toBe('/dev/null is a pipe, a socket or a device');
  expect(say('list_files', '/', { depth: 1 })).toMatch(/^\/\n/);
  expect(say('write_file', 'new/', { content: '' })).toMatch(/new\/ names a folder; name a file/);
  expect(readdirSync(workspace)).toHaveLength(3);
});
