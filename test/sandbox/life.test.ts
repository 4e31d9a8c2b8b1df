/** Lives and deaths of a real host: who is killed, what is left, what the spool says. */
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { listDescendants, OWNER_MARK, spawnQuick } from '../../base/process.ts';
import { listChildren } from '../../sandbox/launch/process-tree.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { eventually } from '../integration/processes.ts';
import { programs } from '../programs.ts';
import {
  type HostOptions,
  hasBubblewrap,
  isRoot,
  startTestHost,
  type TestHost,
} from './harness.ts';
import { findProcesses, findProcessesOf, waitUntilGone, waitUntilThere } from './processes.ts';

const withBubblewrap = hasBubblewrap ? describe : describe.skip;
const why = hasBubblewrap ? '' : ' (skipped: bubblewrap is not installed)';
const asRoot = hasBubblewrap && isRoot ? test : test.skip;

let hosts: TestHost[] = [];
afterEach(async () => {
  for (const host of hosts) await host.close();
  hosts = [];
});

async function start(options: HostOptions = {}): Promise<TestHost> {
  const host = await startTestHost(options);
  hosts.push(host);
  return host;
}

async function startReady(options: HostOptions = {}): Promise<TestHost> {
  const host = await start(options);
  await host.initialize();
  return host;
}

/** Resolves when a process with this command line runs. */
const waitFor = (pattern: RegExp): Promise<void> => waitUntilThere(() => findProcesses(pattern), 1);

function readMark(pid: number): string {
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  return environment.find((each) => each.startsWith(OWNER_MARK))?.split('=')[1] ?? '';
}

function lastRecord(host: TestHost, effect: string): unknown {
  return host.readSpool(effect).at(-1)?.value;
}

withBubblewrap(`deaths${why}`, () => {
  test('the supervisor: what runs is finished and spooled, then the host ends', async () => {
    const host = await startReady();
    const call = host.shell('echo begun; sleep 0.7; echo finished > proof', '1.1.1');
    call.catch(() => undefined);
    await waitFor(/^sleep 0\.7/);
    host.connection.close();
    expect(await host.exited).toEqual({ code: 0, signal: undefined });
    expect(lastRecord(host, '1.1.1')).toMatchObject({
      kind: 'end',
      outcome: { status: 'ok', output: 'begun\n' },
    });
    expect(readFileSync(join(host.workspace, 'proof'), 'utf8')).toBe('finished\n');
  });

  test('SIGTERM: what runs is cancelled and spooled, then the host ends', async () => {
    const host = await startReady();
    host.shell('sleep 8810', '1.1.1').catch(() => undefined);
    await waitFor(/^sleep 8810/);
    host.process.kill('SIGTERM');
    expect(await host.exited).toEqual({ code: 0, signal: undefined });
    expect(lastRecord(host, '1.1.1')).toMatchObject({ outcome: { status: 'cancelled' } });
    await waitUntilGone(() => findProcesses(/sleep 8810/));
  });

  test('the cell, mid-call: the call is indeterminate, the next one has a new cell', async () => {
    const host = await startReady();
    const call = host.shell('sleep 8811');
    await waitFor(/^sleep 8811/);
    const cell = listChildren(listChildren(host.process.pid)[0] ?? 0)[0] ?? 0;
    process.kill(cell, 'SIGKILL');
    expect(await call).toMatchObject({ status: 'indeterminate' });
    expect(await host.shell('echo again')).toMatchObject({ status: 'ok', output: 'again\n' });
    expect(await host.run('list_files', {})).toMatchObject({ status: 'ok' });
    await waitUntilGone(() => findProcesses(/sleep 8811/));
  });

  test('the cell, idle, and the next one as it starts: nothing ran, so a third runs the call', async () => {
    const host = await startReady();
    const [first = 0] = listChildren(host.process.pid);
    process.kill(listChildren(first)[0] ?? first, 'SIGKILL');
    await waitUntilGone(() => listChildren(host.process.pid).filter((pid) => pid === first));
    const call = host.shell('echo ran >> count; cat count');
    let second: number | undefined;
    while (second === undefined) {
      await realClock.sleep(1);
      second = listChildren(host.process.pid).find((pid) => pid !== first);
    }
    process.kill(second, 'SIGKILL');
    expect(await call).toMatchObject({ status: 'ok', output: 'ran\n' });
  });

  test('the monitor of one sandbox, mid-call: that call only is indeterminate', async () => {
    const host = await startReady();
    const call = host.shell('sleep 8812');
    const other = host.shell('sleep 0.5; echo fine');
    await waitFor(/^sleep 8812/);
    const tree = listDescendants(host.process.pid);
    const [sleeper = 0] = findProcesses(/^sleep 8812/);
    const monitor = tree.find((pid) => listDescendants(pid).includes(sleeper) && isMonitor(pid));
    process.kill(monitor ?? 0, 'SIGKILL');
    expect(await call).toMatchObject({ status: 'indeterminate' });
    expect(await other).toMatchObject({ status: 'ok', output: 'fine\n' });
    await waitUntilGone(() => findProcesses(/sleep 8812/));
  });

  test('the file host, idle: the next file tool has a new one', async () => {
    const host = await startReady();
    await host.run('write_file', { path: 'a', content: 'x' });
    // Its own: another test beside this one may have one too.
    const own = listDescendants(host.process.pid);
    const [files = 0] = findProcesses(/^\/run\/prx\/node .*\/files/).filter((pid) =>
      own.includes(pid),
    );
    process.kill(files, 'SIGKILL');
    // A call that meets the dying one has nobody to end it: it says so, and is not repeated here.
    const read = async () => (await host.run('read_file', { path: 'a' })) as { status: string };
    await eventually(async () => (await read()).status === 'ok');
  });

  test('a cell has the mark of its owner, for the sweep; no sandbox in it has', async () => {
    const host = await startReady({ env: { [OWNER_MARK]: 'somebody' } });
    const { output } = (await host.shell('env; cat /proc/1/environ')) as { output: string };
    expect(output).not.toContain('somebody');
    const marks = listChildren(host.process.pid).map((pid) => readMark(pid));
    expect(marks).toContainEqual(expect.stringMatching(/^somebody\.\d+\.\d+$/));
  });

  asRoot('the host, by SIGKILL at random instants: nobody is left', async () => {
    const uid = 61_234;
    for (const delayMs of [0, 5, 15, 30, 60, 120]) {
      const host = await start();
      chownSync(host.workspace, uid, uid);
      const ready = host.initialize().catch(() => undefined);
      while (listChildren(host.process.pid).length === 0) await realClock.sleep(1);
      if (delayMs > 50) {
        await ready;
        host.shell('(setsid sh -c "sleep 8821 & sleep 8822" &); sleep 8823').catch(() => undefined);
        host.run('list_files', {}).catch(() => undefined);
      }
      await realClock.sleep(delayMs);
      host.process.kill('SIGKILL');
      await waitUntilGone(() => findProcessesOf(uid));
    }
  });
});

/** The middle one of cell, monitor, first process of the sandbox. */
function isMonitor(pid: number): boolean {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const count = /^NSpid:\t(.+)$/m.exec(status)?.[1]?.split('\t').length;
  return count === 2 && listChildren(pid).length === 1 && /bwrap/.test(status);
}

withBubblewrap(`paths${why}`, () => {
  test('hidden and protected paths, read-only and writable ones', async () => {
    const host = await start();
    const at = (name: string): string => join(host.workspace, name);
    for (const name of ['state', 'dist', 'home/cache']) mkdirSync(at(name), { recursive: true });
    writeFileSync(at('state/secret'), 'swordfish');
    writeFileSync(at('dist/program'), 'ours');
    writeFileSync(at('config.toml'), 'key');
    const extra = join(host.base, 'extra');
    const shared = join(host.base, 'shared');
    for (const folder of [extra, shared]) mkdirSync(folder);
    writeFileSync(join(extra, 'readme'), 'hello');
    await host.close();
    const policy = {
      workspace: at('.'),
      hiddenPaths: [at('state'), at('config.toml'), join(host.base, 'absent')],
      protectedPaths: [at('dist'), '/usr/share'],
      readOnlyPaths: [extra, join(at('state'), 'inner')],
      writablePaths: [shared],
    };
    mkdirSync(policy.readOnlyPaths[1] ?? '', { recursive: true });
    for (const folder of [extra, shared]) mkdirSync(folder, { recursive: true });
    for (const name of ['dist', 'state']) mkdirSync(at(name), { recursive: true });
    writeFileSync(join(extra, 'readme'), 'hello');
    writeFileSync(at('state/secret'), 'swordfish');
    writeFileSync(at('config.toml'), 'key');
    const second = await start({ policy });
    hosts.push({ ...second, base: host.base });
    const report = await second.initialize();
    expect(report.notice).toMatch(/state\/inner is not shown: it lies in .*state, which is hidden/);
    const { output } = await second.shell(
      [
        'ls -A state; cat config.toml; touch state/x dist/x',
        `cat ${extra}/readme; echo; touch ${extra}/x; echo ok > ${shared}/x && cat ${shared}/x`,
      ].join('; '),
    );
    expect(output).not.toContain('swordfish');
    expect(output).not.toContain('key');
    expect(output).toMatch(/config\.toml: Permission denied/);
    expect(output).toMatch(/'state\/x': Read-only file system/);
    expect(output).toMatch(/'dist\/x': Read-only file system/);
    expect(output).toMatch(/hello\n/);
    expect(output).toMatch(/extra\/x': Read-only file system/);
    expect(output).toMatch(/^ok$/m);
  });

  test('the usage of a call tells what it printed, also of a short one and beyond the cap', async () => {
    const host = await start();
    hosts.push(host);
    await host.initialize();
    expect(await host.shell('echo hello')).toMatchObject({ usage: { output_bytes: 6 } });
    expect(await host.shell('seq 100000')).toMatchObject({
      truncated: true,
      usage: { output_bytes: 588_895 },
    });
  });

  test('a workspace that is protected itself is read-only, and the notice says why', async () => {
    const first = await start();
    await first.close();
    const policy = { workspace: first.workspace, protectedPaths: [first.workspace] };
    mkdirSync(first.workspace, { recursive: true });
    writeFileSync(join(first.workspace, 'program'), 'ours');
    const host = await start({ policy });
    hosts.push({ ...host, base: first.base });
    const report = await host.initialize();
    expect(report).toMatchObject({
      workspaceAccess: 'read-only',
      notice: expect.stringContaining('prx-supervisor itself runs from there'),
    });
    const { output } = await host.shell('cat program; touch x; mv program other');
    expect(output).toMatch(/^ours/);
    expect(output).toMatch(/'x': Read-only file system/);
    expect(readFileSync(join(first.workspace, 'program'), 'utf8')).toBe('ours');
  });

  test.each(isRoot ? [undefined, 1500] : [undefined])(
    'of /etc: some, what is listed beside it, nothing that is hidden, none of it writable (uid %s)',
    async (uid) => {
      const policy = { readOnlyPaths: ['/etc/hostname'], hiddenPaths: ['/etc/debian_version'] };
      const host = await start({ policy, ...(uid === undefined ? {} : { uid }) });
      await host.initialize();
      const { output } = await host.shell(
        [
          'cat /etc/nsswitch.conf | head -c 1 | wc -c; ls /etc/alternatives | head -1 | wc -l',
          'head -1 /etc/passwd | cut -d: -f1; cat /etc/hostname; cat /etc/debian_version',
          'cat /etc/shadow /etc/fstab; echo x >> /etc/hosts; touch /etc/new /etc/alternatives/new',
          'ls -d /etc/*/ | wc -l; mount | grep -c " on /etc[ /].*rw"',
        ].join('; '),
      );
      const hostname = readFileSync('/etc/hostname', 'utf8');
      expect(output.startsWith(`1\n1\nagent\n${hostname}`)).toBe(true);
      expect(output).toMatch(/debian_version: Permission denied/);
      expect(output).toMatch(/shadow: No such file/);
      expect(output).toMatch(/fstab: No such file/);
      expect(output).toMatch(
        /cannot create \/etc\/hosts: (Read-only file system|Permission denied)/,
      );
      expect(output).toMatch(/'\/etc\/new': Read-only file system/);
      expect(output).toMatch(/'\/etc\/alternatives\/new': Read-only file system/);
      expect(output).toMatch(/^0$/m);
    },
  );

  test('a workspace that does not exist is refused by name', async () => {
    const host = await start({ policy: { workspace: '/nonexistent/place' } });
    await expect(host.initialize()).rejects.toMatchObject({
      code: 'WORKSPACE_REFUSED',
      message: expect.stringContaining('/nonexistent/place'),
    });
    await expect(host.shell('ls')).rejects.toMatchObject({ code: 'SANDBOX_UNAVAILABLE' });
  });

  asRoot('a workspace that the user may not write is read-only, said with the mend', async () => {
    const host = await start({ uid: 1500 });
    chownSync(host.workspace, 0, 0);
    const report = await host.initialize();
    expect(report).toMatchObject({
      uid: 1500,
      workspaceAccess: 'read-only',
      notice: expect.stringContaining('Mend: chown'),
    });
    const outcome = await host.shell('touch x');
    expect(outcome).toMatchObject({ status: 'error', notice: report.notice });
  });
});

describe('level none', () => {
  const options = { policy: { backend: 'none' as const }, ...(isRoot ? { uid: 1500 } : {}) };

  test('says so on every result; the workspace, exit codes and file tools work', async () => {
    const host = await start(options);
    expect(await host.initialize()).toMatchObject({ level: 'none', workspaceAccess: 'write' });
    expect(await host.shell('pwd; exit 4')).toMatchObject({
      level: 'none',
      exit_code: 4,
      output: `${host.workspace}\n[exit code 4]`,
    });
    expect(await host.shell('kill -9 $$')).toMatchObject({ status: 'error', exit_code: 137 });
    expect(await host.run('write_file', { path: 'a', content: 'b' })).toMatchObject({
      status: 'ok',
      level: 'none',
    });
    expect((await host.run('search', { pattern: 'b' })).output).toBe('a:1:b');
  });

  test('the time limit and the end of the call reach what was forked away', async () => {
    const host = await startReady(options);
    const forked = '(setsid sh -c "sleep 8831 & sleep 8832" &)';
    const timeout = await host.run('shell', { command: `${forked}; sleep 9`, timeout_secs: 0.3 });
    expect(timeout.status).toBe('timeout');
    expect((await host.shell(`${forked}; echo x`)).output).toBe('x\n');
    await waitUntilGone(() => findProcesses(/sleep 883\d/));
  });

  (isRoot ? test : test.skip)(
    'root is dropped here too, at the price of the workspace',
    async () => {
      const host = await start({ policy: { backend: 'none' } });
      const report = await host.initialize();
      expect(report).toMatchObject({ level: 'none', uid: 60_800, workspaceAccess: 'read-only' });
      expect((await host.shell('id -u')).output).toBe('60800\n');
    },
  );
});

describe('probe', () => {
  async function runProbe(prefix: readonly string[]): Promise<unknown> {
    const [command = '', ...args] = [...prefix, process.execPath, programs.sandbox, '--probe'];
    const { child, exited } = await spawnQuick({
      command,
      args,
      env: {},
      ownSession: false,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
    });
    await exited;
    return JSON.parse(text);
  }
  const bwrap = findProgram('bwrap') ?? '';
  const user = isRoot ? ['setpriv', '--reuid', '1500', '--regid', '1500', '--clear-groups'] : [];
  const inPath = ['/usr/bin/env', '-S'];

  (hasBubblewrap ? test : test.skip)('tells the level and the user', async () => {
    const found = await runProbe([]);
    expect(found).toEqual({ level: 'bubblewrap', uid: isRoot ? 60_800 : process.getuid?.() });
  });

  (hasBubblewrap ? test : test.skip)(
    'without bubblewrap: the next level, and the command that installs it',
    async () => {
      const hide = [bwrap, '--dev-bind', '/', '/', '--bind', '/dev/null', bwrap, '--'];
      expect(await runProbe([...(isRoot ? [...inPath, user.join(' ')] : []), ...hide])).toEqual({
        level: 'unshare',
        uid: isRoot ? 1500 : process.getuid?.(),
        reason: 'bubblewrap (bwrap) is not installed',
        mend: expect.stringMatching(/bubblewrap/),
      });
    },
  );

  (hasBubblewrap ? test : test.skip)('where namespaces cannot be nested: the reason', async () => {
    const nest = [bwrap, '--dev-bind', '/', '/', '--unshare-user', '--disable-userns', '--'];
    const found = await runProbe([...(isRoot ? [...inPath, user.join(' ')] : []), ...nest]);
    expect(found).toMatchObject({ level: 'landlock', mend: expect.stringContaining('nested') });
  });
});
