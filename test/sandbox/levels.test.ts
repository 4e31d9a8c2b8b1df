/** The levels below bubblewrap, each on a real host: what works, what is held, what is bounded, and
 *  who is left. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { inspectedCalls } from '../../sandbox/launch/syscalls.ts';
import { type HostOptions, isRoot, startTestHost, type TestHost } from './harness.ts';
import { findProcesses, waitUntilGone, waitUntilThere } from './processes.ts';

const hasPerl = findProgram('perl') !== undefined;
const OTHER_UID = 1500;
const levels = ['unshare', 'landlock', 'limits-only'] as const;
const confining = ['unshare', 'landlock'] as const;
type Level = (typeof levels)[number];

let hosts: TestHost[] = [];
afterEach(async () => {
  for (const host of hosts) await host.close();
  hosts = [];
});

/** As the other user, whose workspace is writable at each level; and root's own at `unshare`. */
async function start(level: Level, options: HostOptions = {}): Promise<TestHost> {
  const uid = isRoot ? { uid: OTHER_UID } : {};
  const policy = { ...options.policy, backend: level };
  const host = await startTestHost({ ...uid, ...options, policy });
  hosts.push(host);
  return host;
}

async function startReady(level: Level, options?: HostOptions): Promise<TestHost> {
  const host = await start(level, options);
  await host.initialize();
  return host;
}

const renameCall = inspectedCalls.renameat2[process.arch === 'arm64' ? 1 : 0];
const leave =
  `perl -e 'exit if fork; setpgrp; %ENV = (); close $_ for *STDIN, *STDOUT, *STDERR; ` +
  `exec "sleep", $ARGV[0]'`;

(hasPerl ? describe : describe.skip).each(levels)('level %s', (level) => {
  test('is named with the digest of the policy; commands, exit codes and file tools work', async () => {
    const host = await start(level);
    const report = await host.initialize();
    expect(report).toMatchObject({ level, workspaceAccess: 'write' });
    const ran = await host.shell('pwd; echo x > made; exit 4');
    expect(ran).toMatchObject({ level, exit_code: 4, output: `${host.workspace}\n[exit code 4]` });
    expect(ran.policy).toMatch(/^[0-9a-f]{16}$/);
    expect(await host.shell('kill -9 $$')).toMatchObject({ status: 'error', exit_code: 137 });
    const write = { path: 'a', content: 'b' };
    expect(await host.run('write_file', write)).toMatchObject({ status: 'ok', level });
    expect((await host.run('search', { pattern: 'b' })).output).toBe('a:1:b');
    expect(readFileSync(join(host.workspace, 'made'), 'utf8')).toBe('x\n');
  });

  test('no new privileges, limits of files and processes, a home that is its own', async () => {
    const host = await startReady(level, { policy: { maxPids: 40, diskBytes: 2 ** 20 } });
    const number = process.arch === 'x64' ? 157 : 167;
    const asked = `perl -e 'exit !syscall(${number}, 39, 0, 0, 0, 0)' && echo nnp`;
    expect((await host.shell(`${asked}; ulimit -f`)).output).toBe('nnp\n2048\n');
    const big = 'head -c 3000000 /dev/zero > $TMPDIR/big; stat -c %s $TMPDIR/big';
    expect((await host.shell(big)).output).toContain('File size limit exceeded');
    const home = 'echo kept > $HOME/file && cat $HOME/file; echo $TMPDIR | grep -c "^/tmp"';
    expect((await host.shell(home)).output).toBe('kept\n1\n');
    const fork = 'for i in $(seq 300); do sleep 4895 & done';
    expect((await host.shell(`${fork} 2>&1 | head -1`)).output).toMatch(/fork|Resource/);
    await waitUntilGone(() => findProcesses(/^sleep 4895$/));
  });

  test('the end of a call, its time limit and a cancel leave nobody, whatever they did', async () => {
    const host = await startReady(level);
    expect((await host.shell(`${leave} 8841; echo x`)).output).toBe('x\n');
    await waitUntilGone(() => findProcesses(/sleep 884\d/));
    const slow = { command: `${leave} 8842; sleep 8843`, timeout_secs: 0.5 };
    expect(await host.run('shell', slow)).toMatchObject({ status: 'timeout' });
    await waitUntilGone(() => findProcesses(/sleep 884\d/));
  });

  test('the host, by SIGKILL: nobody is left', async () => {
    const host = await startReady(level);
    const call = host.shell(`${leave} 8851; sleep 8852`).catch(() => undefined);
    await waitUntilThere(() => findProcesses(/^sleep 885\d/), 2);
    host.process.kill('SIGKILL');
    await call;
    await waitUntilGone(() => findProcesses(/sleep 885\d/));
  });

  test('memory is bounded over all of it, also what left its parent', async () => {
    const host = await startReady(level, { policy: { memoryLimitBytes: 200 * 2 ** 20 } });
    const eat = `perl -e 'exit if fork; setpgrp; my $x = "x" x (400 * 1024 * 1024); sleep 600'`;
    expect(await host.shell(`${eat}; sleep 600`)).toMatchObject({ status: 'memory', level });
  });

  test('temporary files count, and go with the call; the folder goes with the host', async () => {
    const host = await startReady(level, { policy: { diskBytes: 4 * 2 ** 20 } });
    const kept = `for i in 1 2 3 4 5 6; do head -c 1000000 /dev/zero > $TMPDIR/$i; done`;
    const { output } = await host.shell('echo $TMPDIR; echo x > $TMPDIR/file');
    const folder = output.trim();
    if (level !== 'unshare') {
      expect(readdirSync(join(folder, '..'))).toEqual(['pipes']);
      expect(await host.shell(`${kept}; sleep 600`)).toMatchObject({ status: 'killed' });
    }
    await host.close();
    expect(listTemporaries(host)).toEqual([]);
  });
});

function listTemporaries(host: TestHost): readonly string[] {
  const pid = new RegExp(`^prx-tools-${host.process.pid}-`);
  return readdirSync(tmpdir()).filter((name) => pid.test(name));
}

(hasPerl ? describe : describe.skip).each(confining)('level %s', (level) => {
  test('holds what lies outside, other processes, sockets and host objects', async () => {
    const host = await startReady(level);
    const beside = join(host.base, 'beside');
    mkdirSync(beside, { mode: 0o777 });
    writeFileSync(join(beside, 'secret'), 'outside', { mode: 0o644 });
    const server = createServer((socket) => socket.end('reached'));
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const attempts = [
      `cat ${beside}/secret`,
      `ln -s ${beside}/secret link; cat link`,
      `echo x > ${beside}/written`,
      `cat /proc/${process.pid}/environ`,
      `cat /etc/shadow /etc/passwd/../hostname`,
      `perl -e 'socket(S, 2, 1, 0); exit !connect(S, pack "S n C4 x8", 2, ${port}, 127, 0, 0, 1)'`,
      `perl -e 'exit !socket($s, 1, 1, 0)'`,
      // Its ends send to any socket of the host that has a name here.
      `perl -e 'exit !socketpair($a, $b, 1, 2, 0)'`,
      // Leaves a device node where the name was.
      `echo > a; perl -e 'exit(0 > syscall(${renameCall}, -100, "a", -100, "b", 4))'`,
      `kill -0 ${host.process.pid}`,
      `unshare -U true`,
    ];
    const script = attempts.map((each) => `(${each}) 2>/dev/null && echo OUT`).join('\n');
    const { output } = await host.shell(`${script}\necho end`);
    server.close();
    expect(output).toBe('end\n');
    expect(readdirSync(beside)).toEqual(['secret']);
    const read = { path: join(beside, 'secret') };
    expect(await host.run('read_file', read)).toMatchObject({ status: 'error' });
  });

  test('listed paths are shown; what is hidden below a listed one is not', async () => {
    const host = await start(level);
    const [shown, inner] = [join(host.base, 'shown'), join(host.base, 'shown', 'inner')];
    for (const path of [shown, inner]) mkdirSync(path, { mode: 0o755 });
    writeFileSync(join(shown, 'a'), 'seen', { mode: 0o644 });
    const readOnlyPaths = [shown];
    const seen = await startReady(level, { policy: { readOnlyPaths } });
    const { output } = await seen.shell(
      `cat ${shown}/a; touch ${shown}/b 2>/dev/null || echo held`,
    );
    expect(output).toBe('seenheld\n');
    const hiding = await start(level, { policy: { readOnlyPaths, hiddenPaths: [inner] } });
    if (level === 'landlock') {
      await expect(hiding.initialize()).rejects.toThrow(/cannot keep a command from .*inner/);
    } else {
      await hiding.initialize();
      const hidden = await hiding.shell(`ls ${inner}; touch ${inner}/x 2>/dev/null || echo held`);
      expect(hidden.output).toBe('held\n');
    }
  });
});

(hasPerl ? describe : describe.skip).each(['landlock', 'limits-only'] as const)('%s', (level) => {
  test('refuses what it cannot keep: an allow-list, secrets as files', async () => {
    const network = { mode: 'allowlist' as const, allowedDomains: ['example.org'] };
    const policy = { network: { ...network, allowedMethods: [], injections: [] } };
    const listed = await start(level, { policy });
    await expect(listed.initialize()).rejects.toThrow(/cannot keep to an allow-list/);
    const host = await startReady(level, { secrets: { KEY: 'value' } });
    const asked = await host.run('shell', { command: 'true', secrets: ['KEY'] });
    expect(asked).toMatchObject({ status: 'denied', output: expect.stringContaining(level) });
  });
});

(hasPerl ? describe : describe.skip).each(['landlock', 'limits-only'] as const)('%s', (level) => {
  const closed = 'mkdir -p $TMPDIR/a/b; echo x > $TMPDIR/a/b/c; chmod 0 $TMPDIR/a/b $TMPDIR/a';

  test('temporary files that a call closes to its user go with it (regression)', async () => {
    const host = await startReady(level);
    for (const each of [1, 2]) {
      const outcome = await host.shell(`${closed}; echo ${each}`);
      expect(outcome).toMatchObject({ status: 'ok', output: `${each}\n` });
    }
    const { output } = await host.shell('echo $TMPDIR');
    expect(readdirSync(join(output.trim(), '..'))).toEqual(['pipes']);
    await host.close();
    expect(listTemporaries(host)).toEqual([]);
  });

  // PR_SET_DUMPABLE: only root may look into such a process.
  const hide = `syscall(${process.arch === 'x64' ? 157 : 167}, 4, 0, 0, 0, 0);`;

  test('memory of a process that makes itself unreadable counts (regression)', async () => {
    const host = await startReady(level, { policy: { memoryLimitBytes: 200 * 2 ** 20 } });
    const eat = `perl -e '${hide} my $x = "x" x (400 * 1024 * 1024); sleep 600'`;
    expect(await host.shell(eat)).toMatchObject({ status: 'memory', level });
  });

  test('files that only such a process holds count (regression)', async () => {
    const host = await startReady(level, { policy: { diskBytes: 4 * 2 ** 20 } });
    const hold =
      'for (1 .. 4) { open my $f, ">", "f"; unlink "f"; print $f "x" x 3000000; push @f, $f } ' +
      '$_->flush for @f; sleep 600';
    expect(await host.shell(`perl -e '${hide} ${hold}'`)).toMatchObject({ status: 'killed' });
  });

  test('what a killed host left so is in nobody’s way, and goes (regression)', async () => {
    const killed = await startReady(level);
    const call = killed.shell(`${closed}; sleep 4896`).catch(() => undefined);
    await waitUntilThere(() => findProcesses(/^sleep 4896$/), 1);
    killed.process.kill('SIGKILL');
    await call;
    await waitUntilGone(() => findProcesses(/^sleep 4896$/));
    expect(listTemporaries(killed)).toHaveLength(1);
    const host = await startReady(level);
    expect((await host.shell('echo x')).output).toBe('x\n');
    expect(listTemporaries(killed)).toEqual([]);
  });
});

(isRoot && hasPerl ? test : test.skip)(
  'unshare for a workspace of root: mapped, never root, nothing on disk changes owner',
  async () => {
    const host = await startTestHost({ policy: { backend: 'unshare' } });
    hosts.push(host);
    const report = await host.initialize();
    expect(report).toMatchObject({ level: 'unshare', uid: 60_800, workspaceAccess: 'write' });
    expect((await host.shell('id -u; echo x > made; stat -c %u made')).output).toBe(
      '60800\n60800\n',
    );
  },
);
