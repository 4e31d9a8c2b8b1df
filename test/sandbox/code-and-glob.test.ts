/** run_code and glob in real sandboxes, as root and as an ordinary user. */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { toGlobScript } from '../../sandbox/tools/glob.ts';
import { toCodeScript } from '../../sandbox/tools/run-code.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';

const hasPython = findProgram('python3') !== undefined;
const variants = [
  { name: 'root', options: {} },
  { name: 'an ordinary user', options: { uid: 1500 } },
  { name: 'level none', options: { policy: { backend: 'none' as const } } },
].filter(({ name }) => isRoot || name !== 'an ordinary user');
const withBubblewrap = hasBubblewrap ? describe : describe.skip;

withBubblewrap.each(variants)('the tools of a host as $name', ({ options }) => {
  let host: TestHost;
  beforeAll(async () => {
    host = await startTestHost({ ...options, env: { PATH: process.env.PATH ?? '' } });
    for (const folder of ['src/deep', 'ignored', '.hidden']) {
      mkdirSync(join(host.workspace, folder), { recursive: true });
    }
    const files = ['a.ts', 'src/b.ts', 'src/deep/c.test.ts', 'src/d.js', 'ignored/e.ts'];
    for (const name of [...files, '.hidden/f.ts']) writeFileSync(join(host.workspace, name), '');
    writeFileSync(join(host.workspace, '.gitignore'), 'ignored/\n');
    mkdirSync(join(host.workspace, 'a[b]{c}/d'), { recursive: true });
    writeFileSync(join(host.workspace, 'a[b]{c}/d/g.py'), 'x = 1;\r\n');
    await host.initialize();
  });
  afterAll(() => host.close());

  const code = (language: string, text: string, rest: object = {}) =>
    host.run('run_code', { language, code: text, ...rest });

  test('JavaScript: modules of both kinds, await, quotes, exit code, no network', async () => {
    const program = [
      "import { join } from 'node:path';",
      "const x = await Promise.resolve(`1$'`);",
      "console.log(join('a', x));",
    ].join('\n');
    expect(await code('javascript', program)).toMatchObject({ status: 'ok', output: "a/1$'\n" });
    const old = "console.log(require('node:os').platform()); process.exit(3);";
    expect(await code('javascript', old)).toMatchObject({
      ...{ status: 'error', exit_code: 3, output: expect.stringContaining('linux') },
    });
    const broken = await code('javascript', 'console.log(1');
    expect(broken).toMatchObject({ status: 'error', output: expect.stringMatching(/SyntaxError/) });
  });

  test('JavaScript: a line that looks like the end of the program is none', async () => {
    const text = 'console.log(`\nPRX_CODE_0\n`.trim())';
    expect((await code('javascript', text)).output).toBe('PRX_CODE_0\n');
  });

  test('is ended by its time limit, as a command is', async () => {
    const { status } = await code('javascript', 'for (;;);', { timeout_secs: 0.5 });
    expect(status).toBe('timeout');
  });

  test('Python, or the sentence that it is not there', async () => {
    const { output } = await code('python', 'import sys\nprint(sys.version_info[0], "it\'s")');
    expect(output).toMatch(hasPython ? /^3 it's\n/ : /python3 is not installed here/);
  });

  test.each([
    [{ pattern: '*.ts' }, 'a.ts\nsrc/b.ts\nsrc/deep/c.test.ts'],
    [{ pattern: 'src/*.ts' }, 'src/b.ts'],
    [{ pattern: '*.{js,test.ts}' }, 'src/d.js\nsrc/deep/c.test.ts'],
    [{ pattern: '*.ts', path: 'src/deep' }, 'src/deep/c.test.ts'],
    [{ pattern: '.hidden/*', hidden: true }, '.hidden/f.ts'],
    [{ pattern: './src/*.ts' }, 'src/b.ts'],
    [{ pattern: './*.ts' }, 'a.ts'],
    // From the path on.
    [{ pattern: 'deep/*.ts', path: 'src' }, 'src/deep/c.test.ts'],
    [{ pattern: './deep/*', path: './src/' }, 'src/deep/c.test.ts'],
    [{ pattern: '/deep/*', path: 'src' }, 'src/deep/c.test.ts'],
    [{ pattern: '**/deep/*', path: 'src' }, 'src/deep/c.test.ts'],
    [{ pattern: '!deep/*', path: 'src' }, 'src/b.ts\nsrc/d.js'],
    [{ pattern: '*/*.py', path: 'a[b]{c}' }, 'a[b]{c}/d/g.py'],
    [
      { pattern: '*.none' },
      'No file matches. "*.ts" looks in all folders; a pattern with / starts at path.',
    ],
    [
      { pattern: '*.ts', max_results: 1 },
      'a.ts\n[stopped at 1 files; ask for a narrower pattern or path]',
    ],
  ])('glob %j', async (args, output) => {
    expect(await host.run('glob', args)).toMatchObject({ status: 'ok', output });
  });

  test('a pattern is a whole path, or counts from one (regression)', async () => {
    const root = host.workspace;
    const glob = async (pattern: string, path?: string) =>
      (await host.run('glob', path === undefined ? { pattern } : { pattern, path })).output;
    expect(await glob(`${root}/src/*.ts`)).toBe('src/b.ts');
    expect(await glob(`${root}/src/*.ts`, 'src')).toBe('src/b.ts');
    const found = { pattern: 'x', path: 'a[b]{c}', glob: 'd/*.py' };
    expect((await host.run('search', found)).output).toBe('a[b]{c}/d/g.py:1:x = 1;');
    // At level none the folder around the workspace is closed to the tools' user.
    if ('policy' in options) return;
    expect(await glob(`${root}/src/*.ts`, `${root}/src`)).toBe(`${root}/src/b.ts`);
    expect(await glob('deep/*', `${root}/src`)).toBe(`${root}/src/deep/c.test.ts`);
  });

  test.each([
    ['a line that ends as on Windows', { pattern: '1;$' }, 'ok', /^a\[b]{c}\/d\/g\.py:1:x = 1;$/],
    ['a path that is not there', { pattern: 'x', path: 'no' }, 'error', /^no does not exist; use/],
    ['two lines', { pattern: 'a\\nb' }, 'error', /not allowed in a regex\nLines are looked at/],
    ['what comes behind', { pattern: 'a(?=b)' }, 'error', /is not supported\nSay it without, or/],
  ])('search: %s (regression)', async (_, args, status, output) => {
    const answer = await host.run('search', args);
    expect(answer).toMatchObject({ status, output: expect.stringMatching(output) });
    expect(answer.output).not.toMatch(/multiline|pcre/i);
  });

  test('a closed folder beside what is searched is no error (regression)', async () => {
    const closed = join(host.workspace, 'kept/closed');
    mkdirSync(closed, { recursive: true });
    chmodSync(closed, 0);
    const asked = [
      await host.run('search', { pattern: 'nowhere', path: 'kept' }),
      await host.run('glob', { pattern: '*.none', path: 'kept' }),
    ];
    for (const answer of asked) {
      const output = expect.stringMatching(/^No .*\n.*kept\/closed.*Permission denied/);
      expect(answer).toMatchObject({ status: 'ok', output });
    }
    const own = await host.run('search', { pattern: 'a', path: 'kept/closed' });
    expect(own).toMatchObject({ status: 'error', output: expect.stringMatching(/denied/) });
    rmSync(join(host.workspace, 'kept'), { recursive: true });
  });

  test('glob: a bad pattern or path is an error that says so', async () => {
    expect(await host.run('glob', { pattern: '{a' })).toMatchObject({
      ...{ status: 'error', output: expect.stringMatching(/alternate|glob/) },
    });
    expect(await host.run('glob', { pattern: '*', path: 'nowhere' })).toMatchObject({
      ...{
        status: 'error',
        output: expect.stringMatching(/^nowhere does not exist; use list_files/),
      },
    });
  });
});

test('nothing of the arguments is a word of the shell', () => {
  const evil = "'; rm -rf x; '";
  expect(toGlobScript('/rg', { pattern: evil, path: evil }, '/w')).toContain(
    `'--glob='\\''; rm -rf x; '\\'''`,
  );
  const script = toCodeScript('/node', { language: 'javascript', code: 'PRX_CODE_0\n$(rm x)' });
  expect(script).toBe("exec '/node' - <<'PRX_CODE_1'\nPRX_CODE_0\n$(rm x)\nPRX_CODE_1\n");
});
