/** The builder and the keeper as data, and that they fail closed. */
import { describe, expect, test } from '@jest/globals';
import { spawnQuick } from '../../base/process.ts';
import { toCellArguments, toSandboxArguments, type View } from '../../sandbox/launch/arguments.ts';
import { canBuild, toBuilderCommand } from '../../sandbox/launch/builder.ts';
import { canKeep, toKeeperCommand } from '../../sandbox/launch/keeper.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { isRoot } from './harness.ts';

const perl = findProgram('perl') ?? '';
const withPerl = perl === '' ? describe.skip : describe;
const uid = isRoot ? { uid: 1500, gid: 1500 } : {};

async function run(command: readonly string[]) {
  const [program = '', ...args] = command;
  const stdio = ['ignore', 'pipe', 'pipe'] as const;
  const own = { command: program, args, env: {}, cwd: '/', ownSession: true, ...uid };
  const { child, exited } = await spawnQuick({ ...own, stdio: [...stdio] });
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const closed = new Promise((resolve) => child.once('close', resolve));
  const { code, signal } = await exited;
  await closed;
  return { code, signal, stdout, stderr };
}

const build = (...words: string[]) => run([...toBuilderCommand(perl, process.arch), ...words]);
const base = ['--unshare-user', '--unshare-pid', '--dev-bind', '/', '/', '--proc', '/proc'];

describe('processors', () => {
  test('are known by both or by neither', () => {
    const archs = ['x64', 'arm64', 'riscv64', 'toString'];
    expect(archs.map(canBuild)).toEqual([true, true, false, false]);
    expect(archs.map(canKeep)).toEqual([true, true, false, false]);
  });
});

withPerl('[promise:deny-by-default] the builder', () => {
  test('runs the command as the first process, or below one that reaps', async () => {
    const echo = ['--', '/bin/sh', '-c', 'echo $$; exit 5'];
    expect(await build(...base, '--as-pid-1', ...echo)).toMatchObject({ code: 5, stdout: '1\n' });
    expect(await build(...base, ...echo)).toMatchObject({ stdout: '2\n' });
  });

  test.each([
    ['a word it does not know', ['--share-net', '--', '/bin/echo', 'ran'], /the word --share-net/],
    ['no command', [], /no command/],
    ['a source that is missing', ['--bind', '/no/such', '/x', '--', '/bin/echo', 'ran'], /source/],
    ['a program that is missing', ['--', '/no/such', 'ran'], /exec \/no\/such/],
    ['capabilities that are to stay', ['--cap-drop', 'CAP_X', '--', '/bin/echo', 'ran'], /all/],
    ['an empty filter', ['--seccomp', '0', '--', '/bin/echo', 'ran'], /the filter/],
  ])('does not run a command with %s', async (_, words, said) => {
    const ended = await build(...base, ...words);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(ended.stderr).toMatch(said);
  });

  test('does not run a command without a namespace of users', async () => {
    const ended = await build('--unshare-pid', '--dev-bind', '/', '/', '--', '/bin/echo', 'ran');
    expect(ended).toMatchObject({ code: 1, stdout: '' });
  });

  test('knows every word that is ever said to it', () => {
    const fact = { path: '/w', source: '/w', kind: 'folder' as const };
    const file = { path: '/w/f', source: '/w/f', kind: 'file' as const };
    const view: View = {
      workspace: fact,
      workspaceAccess: 'write',
      readOnly: [fact],
      writable: [fact],
      hidden: [file, { ...fact, path: '/w/h' }],
      protected: [file],
      pinned: [file],
      system: [
        { kind: 'link', path: '/bin', target: 'usr/bin' },
        { kind: 'bind', path: '/usr' },
      ],
      settings: [],
      runtime: [{ source: '/a', target: '/b' }],
      env: { A: 'b' },
      tmpBytes: 1,
      network: 'none',
      isFiltered: true,
    };
    const cell = {
      stage: '/sys',
      staged: false,
      mark: 'm',
      network: 'allowlist' as const,
      system: [],
      items: [],
    };
    const said = [...toSandboxArguments(view, { isHeld: true }), ...toCellArguments(cell)];
    const words = new Set(said.filter((word) => word.startsWith('--')));
    const [, , script = ''] = toBuilderCommand(perl, 'x64');
    const known = (word: string) =>
      /^--unshare-(user|pid|net|ipc|uts|cgroup)$/.test(word) ||
      script.includes(`'${word}'`) ||
      new RegExp(`[(|]${word.slice(2).replace(/-try$/, '')}[|)]`).test(script);
    expect([...words].filter((word) => !known(word))).toEqual([]);
  });
});

withPerl('[promise:deny-by-default] the keeper', () => {
  const options = {
    ...{ perl, arch: process.arch, parentPid: process.pid, rules: [], deniesTcp: false },
    filter: Buffer.alloc(0),
  };
  const echo = ['/bin/echo', 'ran'];

  test('as data: rules in the kernel’s bits, then the command', () => {
    const rules = [
      { access: 'read', path: '/usr' },
      { access: 'device', path: '/dev/null' },
      { access: 'write', path: '/w' },
    ] as const;
    const filter = Buffer.from('0102', 'hex');
    const full = { ...options, arch: 'x64', parentPid: 7, rules, filter, deniesTcp: true };
    expect(toKeeperCommand(full, echo).slice(3)).toEqual([
      ...['157', '317', '112', '7', '3', '3', '0102'],
      ...['13', '/usr', '6', '/dev/null', '30655', '/w', ...echo],
    ]);
  });

  test('passes the exit code of the command', async () => {
    const command = toKeeperCommand(options, ['/bin/sh', '-c', 'echo ran; exit 3']);
    expect(await run(command)).toMatchObject({ code: 3, stdout: 'ran\n' });
  });

  test.each([
    ['a filter the kernel does not take', { filter: Buffer.alloc(8, 0xff) }, echo, /the filter/],
    [
      'a rule for what is not there',
      { rules: [{ access: 'read', path: '/no/such' }] as const },
      echo,
      /opening \/no\/such/,
    ],
    ['another parent', { parentPid: 1 }, echo, /the host is gone/],
    ['a program that is missing', {}, ['/no/such'], /exec \/no\/such/],
  ])('does not run a command with %s, and leaves no exit code', async (_, change, words, said) => {
    const ended = await run(toKeeperCommand({ ...options, ...change }, words));
    expect(ended).toMatchObject({ code: undefined, signal: 'SIGKILL', stdout: '' });
    expect(ended.stderr).toMatch(said);
  });
});
