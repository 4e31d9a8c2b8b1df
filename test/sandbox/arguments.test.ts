import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import {
  findHider,
  isInside,
  listMemoryFolders,
  type PathFact,
  SANDBOX_HOME,
  toAccountFiles,
  toCellArguments,
  toEnvironment,
  toLimitCommand,
  toLimitScript,
  toSandboxArguments,
  type View,
} from '../../sandbox/launch/arguments.ts';

const folder = (path: string, source = path): PathFact => ({ path, source, kind: 'folder' });

const view: View = {
  workspace: folder('/home/u/project'),
  workspaceAccess: 'write',
  readOnly: [],
  writable: [],
  hidden: [],
  protected: [],
  pinned: [],
  system: [
    { kind: 'bind', path: '/usr' },
    { kind: 'link', path: '/bin', target: 'usr/bin' },
  ],
  settings: [],
  runtime: [],
  env: { PATH: '/usr/bin' },
  tmpBytes: 1000,
  network: 'none',
  isFiltered: true,
};

/** The option groups in order, one string each, as a person would read them. */
function toLines(args: readonly string[]): string[] {
  const lines: string[] = [];
  for (const arg of args) {
    if (arg.startsWith('--') && !lines.at(-1)?.endsWith('--size')) lines.push(arg);
    else lines.push(`${lines.pop() ?? ''} ${arg}`);
  }
  return lines;
}
const linesOf = (changes: Partial<View>): string[] =>
  toLines(toSandboxArguments({ ...view, ...changes }, { isHeld: true }));

describe('[config:security.sandbox.network] the network', () => {
  const cell = { stage: '/sys', mark: 'm', staged: false, system: [], items: [] };
  test.each([
    ['none', true],
    ['allowlist', true],
    ['full', false],
  ] as const)(
    '%s: a namespace of the session, in which its calls share a loopback: %s',
    (network, own) => {
      expect(toCellArguments({ ...cell, network }).includes('--unshare-net')).toBe(own);
      const sandbox = toSandboxArguments({ ...view, network }, { isHeld: true });
      expect(sandbox.includes('--unshare-net')).toBe(false);
    },
  );
});

describe('sandbox arguments', () => {
  test('the whole profile, in order', () => {
    expect(linesOf({})).toEqual([
      ...['--unshare-user', '--unshare-ipc', '--unshare-pid'],
      ...['--unshare-uts', '--unshare-cgroup', '--hostname sandbox'],
      ...[
        '--ro-bind-try /usr /usr',
        '--symlink usr/bin /bin',
        '--proc /proc',
        '--dev-bind /dev /dev',
      ],
      ...['--perms 1777', '--size 67108864', '--tmpfs /dev/shm'],
      ...['--perms 1777', '--size 1000', '--tmpfs /tmp'],
      ...['--size 67108864', '--tmpfs /home/agent'],
      '--bind /home/u/project /home/u/project',
      ...['--remount-ro /dev', '--remount-ro /proc', '--remount-ro /'],
      ...['--chdir /home/u/project', '--clearenv', '--setenv PATH /usr/bin'],
      ...['--new-session', '--die-with-parent', '--cap-drop ALL', '--disable-userns'],
      '--seccomp 6',
      ...['--json-status-fd 5', '--block-fd 4'],
    ]);
  });

  test('one that is not held has no block descriptor', () => {
    const args = toSandboxArguments(view, { isHeld: false });
    expect(args).not.toContain('--block-fd');
  });

  test('one without a filter does not ask for one', () => {
    expect(linesOf({ isFiltered: false })).not.toContain('--seccomp 6');
  });

  test('the root is never bound', () => {
    const args = toSandboxArguments(view, { isHeld: true });
    const sources = args.filter((_, i) => args[i - 1]?.includes('bind'));
    expect(sources).not.toContain('/');
  });

  test('a read-only workspace is bound read-only', () => {
    const lines = linesOf({ workspaceAccess: 'read-only' });
    expect(lines).toContain('--ro-bind /home/u/project /home/u/project');
    expect(lines.filter((line) => line.startsWith('--bind '))).toEqual([]);
  });

  test('the deeper path is mounted later, so its rule wins', () => {
    const lines = linesOf({
      readOnly: [folder('/home/u'), folder('/opt')],
      writable: [folder('/home/u/cache')],
      workspace: folder('/home/u/project', '/sys/workspace'),
    });
    const binds = lines.filter((line) => /^--(ro-)?bind(-try)? \/(home|opt|sys)/.test(line));
    expect(binds).toEqual([
      '--ro-bind-try /opt /opt',
      '--ro-bind-try /home/u /home/u',
      '--bind-try /home/u/cache /home/u/cache',
      '--bind /sys/workspace /home/u/project',
    ]);
  });

  test('what is hidden is covered where something shown would contain it', () => {
    const hidden = [folder('/home/u/project/.state'), folder('/root'), folder('/usr/secret')];
    const lines = linesOf({ hidden });
    const covered = lines.filter((line) => line.startsWith('--tmpfs /')).slice(3);
    expect(covered).toEqual(['--tmpfs /usr/secret', '--tmpfs /home/u/project/.state']);
    expect(lines).toContain('--remount-ro /home/u/project/.state');
    expect(lines.indexOf('--remount-ro /usr/secret')).toBeGreaterThan(
      lines.indexOf('--tmpfs /home/u/project/.state'),
    );
  });

  test('a hidden file cannot be opened', () => {
    const hidden: PathFact[] = [{ ...folder('/home/u/project/config.toml'), kind: 'file' }];
    expect(linesOf({ hidden })).toContain('--ro-bind /dev/null /home/u/project/config.toml');
  });

  test('a hidden home that holds the workspace hides all but the workspace', () => {
    const lines = linesOf({ readOnly: [folder('/home')], hidden: [folder('/home/u')] });
    const order = ['--ro-bind-try /home /home', '--tmpfs /home/u', '--bind /home/u/project'];
    const places = order.map((start) => lines.findIndex((line) => line.startsWith(start)));
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(Math.min(...places)).toBeGreaterThan(0);
  });

  test('the workspace itself is never covered', () => {
    expect(linesOf({ hidden: [view.workspace] })).not.toContain('--tmpfs /home/u/project');
  });

  test('protected paths count only inside the workspace', () => {
    const guards = [folder('/home/u/project/dist', '/sys/workspace/dist'), folder('/opt/prx')];
    const lines = linesOf({ protected: guards });
    expect(lines).toContain('--ro-bind-try /sys/workspace/dist /home/u/project/dist');
    expect(lines.join(' ')).not.toContain('/opt/prx');
  });
});

test.each([
  ['/a', '/a', true],
  ['/a/b', '/a', true],
  ['/ab', '/a', false],
  ['/a', '/a/b', false],
  ['/a', '/', true],
])('isInside(%s, %s) is %s', (path, root, expected) => {
  expect(isInside(path, root)).toBe(expected);
});

test('a listed path inside a hidden one is found, an ancestor of one is not', () => {
  expect(findHider('/home/u/.cargo', ['/home/u'])).toBe('/home/u');
  expect(findHider('/home', ['/home/u'])).toBeUndefined();
});

test.each<readonly [string, Partial<View>, readonly string[]]>([
  ['all of them', {}, ['/tmp', '/dev/shm', SANDBOX_HOME]],
  ['not the workspace', { workspace: folder('/tmp') }, ['/dev/shm', SANDBOX_HOME]],
  [
    'though not shown',
    { workspace: folder('/tmp'), workspaceAccess: 'none' },
    ['/tmp', '/dev/shm', SANDBOX_HOME],
  ],
  ['with a path in it', { readOnly: [folder('/tmp/a')] }, ['/tmp', '/dev/shm', SANDBOX_HOME]],
  ['not what may be read', { readOnly: [folder('/home')] }, ['/tmp', '/dev/shm']],
  ['not what may be written', { writable: [folder('/dev/shm')] }, ['/tmp', SANDBOX_HOME]],
])('the folders in memory: %s', (_, changes, folders) => {
  expect(listMemoryFolders({ ...view, ...changes })).toEqual(folders);
});

describe('environment', () => {
  test('only what is on the allow-list passes, over fixed defaults', () => {
    const env = { SECRET: 's', LANG: 'de_DE.UTF-8', PATH: '/opt/bin', BAD: 'a\0b' };
    expect(toEnvironment({ allowlist: ['LANG', 'PATH', 'BAD', 'ABSENT'], env })).toEqual({
      LANG: 'de_DE.UTF-8',
      TERM: 'dumb',
      USER: 'agent',
      LOGNAME: 'agent',
      EMAIL: 'agent@sandbox.invalid',
      HOME: '/home/agent',
      TMPDIR: '/tmp',
      PATH: '/opt/bin:/run/prx/bin',
    });
  });

  test('HOME and TMPDIR are the own ones even when they are listed', () => {
    const env = { HOME: '/root', TMPDIR: '/var/tmp' };
    const result = toEnvironment({ allowlist: ['HOME', 'TMPDIR'], env });
    expect([result.HOME, result.TMPDIR]).toEqual(['/home/agent', '/tmp']);
  });
});

test('limits: 0 means not set', () => {
  const limits = { processes: 0, fileBytes: 1024, openFiles: 20, dataBytes: 0 };
  expect(toLimitScript(limits)).toBe('ulimit -c 0 && ulimit -f 2 && ulimit -n 20 || exit 126');
  const all = toLimitScript({ ...limits, processes: 5, dataBytes: 7000 });
  expect(all).toContain(' && ulimit -d 6 && { ulimit -u 5 2>/dev/null || ulimit -p 5; } || exit');
});

test('the shell of this machine sets each limit, hard and soft, or runs nothing', () => {
  const limits = { processes: 5, fileBytes: 1024, openFiles: 20, dataBytes: 2 ** 31 };
  const [shell = '', ...args] = toLimitCommand(limits);
  const shown = execFileSync(shell, [...args, 'cat', '/proc/self/limits'], { encoding: 'utf8' });
  const rows = shown.split('\n').map((line) => line.trim().split(/\s{2,}/));
  const found = new Map(rows.map(([name, soft, hard]) => [name, [soft, hard]]));
  expect(['core file', 'file', 'data'].map((name) => found.get(`Max ${name} size`))).toEqual([
    ...[
      ['0', '0'],
      ['1024', '1024'],
      [String(2 ** 31), String(2 ** 31)],
    ],
  ]);
  expect(['open files', 'processes'].map((name) => found.get(`Max ${name}`))).toEqual([
    ...[
      ['20', '20'],
      ['5', '5'],
    ],
  ]);
  const refused = toLimitCommand({ ...limits, openFiles: 2 ** 40 });
  const ended = spawnSync(shell, [...refused.slice(1), 'echo', 'ran'], { encoding: 'utf8' });
  expect([ended.status, ended.stdout]).toEqual([126, '']);
});

test('a cell is a pid namespace; without a prelude it makes its own stage', () => {
  const items = [
    { kind: 'write', source: '/home/u', name: 'folder-0' },
    { kind: 'read-only', source: '/etc/fonts', name: 'etc/fonts' },
  ] as const;
  const { system } = view;
  const options = { stage: '/sys', mark: 'm', network: 'none', system, items } as const;
  const toStaged = (staged: boolean) => toLines(toCellArguments({ ...options, staged }));
  const [before, after] = [
    [
      ...['--unshare-user', '--unshare-pid', '--unshare-ipc', '--new-session', '--unshare-net'],
      ...['--ro-bind-try /usr /usr', '--symlink usr/bin /bin', '--symlink sys/etc /etc'],
      ...['--dir /tmp', '--proc /proc', '--dev /dev'],
    ],
    ['--remount-ro /', '--as-pid-1', '--setenv PRX_CELL m'],
  ];
  expect(toStaged(true)).toEqual([...before, '--bind /sys /sys', ...after]);
  expect(toStaged(false)).toEqual([
    ...before,
    ...[
      '--size 16777216',
      '--tmpfs /sys',
      '--dir /sys/slots',
      '--dir /sys/etc',
      '--dir /sys/pipes',
    ],
    ...['--bind-try /home/u /sys/folder-0', '--ro-bind-try /etc/fonts /sys/etc/fonts'],
    ...after,
  ]);
});

test('accounts are two lines of our own', () => {
  const { passwd, group } = toAccountFiles(60800, 60801);
  expect(passwd?.split('\n')[0]).toBe('agent:x:60800:60801:agent:/home/agent:/bin/sh');
  expect(group?.split('\n')[0]).toBe('agent:x:60801:');
  expect(passwd).not.toContain('root');
});
