/** `prx sandbox` as a person has it: the built program, a real sandbox, no supervisor. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { eventually } from '../integration/processes.ts';
import { hasBubblewrap, isRoot } from '../sandbox/harness.ts';
import { findProcesses, waitUntilGone } from '../sandbox/processes.ts';

const OTHER_UID = 61_002;
const program = new URL('../../bin/prx-supervisor', import.meta.url).pathname;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap ? describe : describe.skip;

let home: string;
let workspace: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'prx-sandbox-cli-'));
  workspace = join(home, 'work');
  mkdirSync(workspace);
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Options {
  readonly uid?: number | undefined;
  readonly toml?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly before?: readonly string[];
}

function sandbox(words: readonly string[], options: Options = {}): Ran {
  const { uid, toml = '', env, before = ['run', '--workspace', workspace, '--'] } = options;
  const config = join(home, 'config.toml');
  writeFileSync(config, toml);
  if (uid !== undefined) for (const path of [home, workspace]) chownSync(path, uid, uid);
  const { status, stdout, stderr } = spawnSync(program, ['sandbox', ...before, ...words], {
    encoding: 'utf8',
    cwd: workspace,
    input: 'what stands on our own standard input',
    env: { PATH: '/usr/bin:/bin', HOME: home, PRX_CONFIG: config, ...env },
    ...(uid === undefined ? {} : { uid, gid: uid }),
    timeout: 120_000,
  });
  return { status, stdout, stderr };
}

/** As `sandbox`, while servers of this process can answer. */
async function sandboxAside(words: readonly string[], toml: string): Promise<Ran> {
  const config = join(home, 'config.toml');
  writeFileSync(config, toml);
  const child = spawn(program, ['sandbox', 'run', '--workspace', workspace, '--', ...words], {
    cwd: workspace,
    env: { PATH: '/usr/bin:/bin', HOME: home, PRX_CONFIG: config },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 120_000,
  });
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  return { status, stdout, stderr };
}

async function startServer() {
  const server = createServer((_request, answer) => answer.end('hello'));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { server, place: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

on.each(users)('[command:sandbox] run (uid %s)', (uid) => {
  test('the exit code and both streams are those of the command', () => {
    const ran = sandbox(['sh', '-c', 'echo out; echo err >&2; exit 7'], { uid });
    expect(ran).toEqual({ status: 7, stdout: 'out\n', stderr: 'err\n' });
  });

  test('ends quietly when nobody reads its output any more, and not as a call that was cancelled', () => {
    const script = '{ "$@"; echo "$?" >&2; } | head -n 1';
    const words = ['sandbox', 'run', '--workspace', workspace, '--', 'yes'];
    const env = { PATH: '/usr/bin:/bin', HOME: home };
    const ran = spawnSync('sh', ['-c', script, 'sh', program, ...words], { encoding: 'utf8', env });
    expect(ran).toMatchObject({ stdout: 'y\n', stderr: '0\n' });
  });

  test('killed in the middle, nothing of it is left', async () => {
    const ids = uid === undefined ? {} : { uid, gid: uid };
    if (uid !== undefined) for (const path of [home, workspace]) chownSync(path, uid, uid);
    const sleep = new RegExp(`^sleep ${process.pid}.25`);
    const words = ['run', '--workspace', workspace, '--', 'sleep', `${process.pid}.25`];
    const env = { PATH: '/usr/bin:/bin', HOME: home, TMPDIR: home };
    const child = spawn(program, ['sandbox', ...words], {
      cwd: workspace,
      env,
      ...ids,
      stdio: 'ignore',
    });
    const closed = once(child, 'close');
    await eventually(() => findProcesses(sleep).length > 0);
    child.kill('SIGKILL');
    await closed;
    await waitUntilGone(() => findProcesses(sleep));
    await eventually(() => readdirSync(home).every((name) => !name.startsWith('prx-sandbox-')));
  });

  test('it writes to the workspace, has no input, and every word arrives as it was', () => {
    const script = 'cat; printf "%s|" "$@" > words';
    const ran = sandbox(['sh', '-c', script, 'sh', "a 'b", '007', '--x', '$HOME', ''], { uid });
    expect(ran).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(readFileSync(join(workspace, 'words'), 'utf8')).toBe("a 'b|007|--x|$HOME||");
  });

  test('a limit ends it by name, with the exit code of limits', () => {
    const toml = '[security.sandbox]\nmemory_limit_mb = 64\ntimeout_secs = 600\n';
    const ran = sandbox(['sh', '-c', 'dd if=/dev/zero of=/dev/shm/a bs=1M; x=$(tail /dev/zero)'], {
      uid,
      toml,
    });
    expect(ran.status).toBe(6);
    expect(ran.stderr).toMatch(/prx-supervisor: memory: .*limit is 64 MiB/);
  });
});

on('[command:sandbox] run', () => {
  test('its time limit: 124', () => {
    const ran = sandbox(['sleep', '30'], { toml: '[security.sandbox]\ntimeout_secs = 0.2\n' });
    expect(ran.status).toBe(124);
    expect(ran.stderr).toMatch(/prx-supervisor: timeout: .*0\.2 s/);
  });

  test('only allowed variables, and none of ours, reach it', () => {
    const toml = '[security.sandbox]\nenv_allowlist = ["SHOWN"]\n';
    const env = { SHOWN: 'yes', HIDDEN: 'no', BASH_ENV: '/x' };
    const { stdout } = sandbox(['env'], { toml, env });
    expect(stdout).toContain('SHOWN=yes\n');
    expect(stdout).not.toMatch(/HIDDEN|BASH_ENV|PRX_|NODE_/);
  });

  test('output is cut at its limit and steers no terminal, unless it is asked for raw', () => {
    const toml = '[security.sandbox]\nmax_output_bytes = 1024\n';
    const cut = sandbox(['sh', '-c', 'head -c 5000 /dev/zero | tr "\\0" x'], { toml });
    expect(cut).toMatchObject({ status: 0, stdout: 'x'.repeat(1024) });
    expect(cut.stderr).toMatch(/3976 bytes of output were cut .*max_output_bytes = 1024/);
    const words = ['printf', '\\033[2J'];
    expect(sandbox(words).stdout).toBe('\\x1b[2J');
    const before = ['run', '--raw', '--workspace', workspace, '--'];
    expect(sandbox(words, { before }).stdout).toBe('\u001b[2J');
  });

  test.each([
    [['run'], 2, /no command to run/],
    [['run', '--workspace', '/etc', '--', 'true'], 2, /may not be a workspace/],
    [['run', '--workspace', '/nowhere', '--', 'true'], 2, /does not exist/],
    [['run', '--level', 'best', '--', 'true'], 2, /level/],
    [['run', '--', '/no/such/program'], 127, /not found/],
  ])('%j ends with %i', (before, status, message) => {
    const ran = sandbox([], { before });
    expect(ran.status).toBe(status);
    expect(ran.stderr).toMatch(message);
  });

  test('a weaker level than the configuration demands is refused', () => {
    const toml = '[security.sandbox]\nminimum_level = "bubblewrap"\n';
    const before = ['run', '--level', 'none', '--', 'touch', 'ran'];
    const ran = sandbox([], { toml, before });
    expect(ran).toMatchObject({ status: 1, stdout: '' });
    expect(ran.stderr).toMatch(/weaker than security\.sandbox\.minimum_level.*nothing ran/);
  });
});

on('[command:sandbox] [config:security.sandbox.allowed_domains] run with an allow-list', () => {
  const toml = '[security.sandbox]\nnetwork = "allowlist"\nallowed_domains = ["example.org"]\n';

  test('refuses what is not listed, and says so', () => {
    const words = ['curl', '-sS', '-m', '8', '-w', '%{http_code}', '-o', '/dev/null'];
    const ran = sandbox([...words, 'http://evil.example/'], { toml });
    expect(ran).toMatchObject({ status: 0, stdout: '403' });
    expect(ran.stderr).toMatch(
      /prx-supervisor: network requests were refused: evil\.example:80 .*allowed: example\.org/,
    );
  });

  test('reaches what is listed, but not with a secret', async () => {
    const { server, place } = await startServer();
    const listed = toml.replace('example.org', place);
    const curl = ['env', '-u', 'NO_PROXY', '-u', 'no_proxy', 'curl', '-sS', '-m', '8'];
    try {
      const url = `http://${place}/`;
      expect(await sandboxAside([...curl, url], listed)).toMatchObject({ stdout: 'hello' });
      const inject = `${listed}[secrets.inject.KEY]\ndomain = "${place}"\n`;
      const refused = await sandboxAside([...curl, url], inject);
      expect(refused.stdout).toMatch(/the secret KEY .*a supervisor alone gives it/);
    } finally {
      server.close();
    }
  });

  test('is refused at level none, which could not keep to it', () => {
    const before = ['run', '--level', 'none', '--', 'touch', 'ran'];
    const ran = sandbox([], { toml, before });
    expect(ran).toMatchObject({ status: 1, stdout: '' });
    expect(ran.stderr).toMatch(/level none cannot keep to .*"allowlist"; nothing ran/);
    expect(readdirSync(workspace)).toEqual([]);
  });

  test('is what explain says', () => {
    const before = ['explain', '--json', '--workspace', workspace];
    expect(JSON.parse(sandbox([], { toml, before }).stdout)).toMatchObject({
      ...{ network: 'allowlist', allowed_domains: ['example.org'] },
    });
    const none = JSON.parse(sandbox([], { before }).stdout);
    expect(none).toMatchObject({ network: 'none' });
    expect(none.policy).not.toBe(JSON.parse(sandbox([], { toml, before }).stdout).policy);
  });
});

on('[command:sandbox] explain', () => {
  test('says the level, who runs, what is seen and what bounds it', () => {
    const toml = '[security.sandbox]\nmemory_limit_mb = 96\n';
    const before = ['explain', '--json', '--workspace', workspace];
    const ran = sandbox([], { toml, before });
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    const said = JSON.parse(ran.stdout);
    expect(said).toMatchObject({
      level: 'bubblewrap',
      network: 'none',
      workspace,
      workspace_access: 'write',
      limits: { memory_limit_mb: 96, max_pids: 256 },
      policy: expect.stringMatching(/^[0-9a-f]{16}$/),
    });
    expect(said.mounts).toContainEqual({ path: workspace, access: 'write' });
    expect(said.mounts).toContainEqual({ path: '/usr', access: 'read-only' });
    expect(said.uid).not.toBe(0);
    expect(sandbox([], { before: ['explain'] }).stdout).toMatch(/^level: bubblewrap\n.*limits/s);
  });

  test('[config:security.sandbox.backend] one level by name is had, and says why it is no stronger', () => {
    const toml = '[security.sandbox]\nbackend = "unshare"\n';
    const before = ['explain', '--json', '--workspace', workspace];
    const said = JSON.parse(sandbox([], { toml, before }).stdout);
    const [reason, mend] = [/by our builder/, /bubblewrap/].map(expect.stringMatching);
    expect(said).toMatchObject({ level: 'unshare', workspace_access: 'write', reason, mend });
    const strongest = JSON.parse(sandbox([], { before }).stdout);
    expect(said.mounts).toEqual(strongest.mounts);
    expect(said.policy).not.toBe(strongest.policy);
    const run = ['run', '--', 'sh', '-c', 'echo ran; exit 3'];
    expect(sandbox([], { toml, before: run })).toMatchObject({ status: 3, stdout: 'ran\n' });
  });

  test('at level none it says that there is none', () => {
    const before = ['explain', '--json', '--level', 'none', '--workspace', workspace];
    const said = JSON.parse(sandbox([], { before }).stdout);
    expect(said).toMatchObject({ level: 'none', network: 'full', mounts: [] });
  });
});
