/** A real host, real sandboxes: as root with a workspace that root owns below a folder of mode
 *  0700, and as an ordinary user. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';
import { findProcesses, waitUntilGone } from './processes.ts';

const USER_UID = 1500;
const withBubblewrap = hasBubblewrap ? describe : describe.skip;
const why = hasBubblewrap ? '' : ' (skipped: bubblewrap is not installed)';

const variants = [
  { name: 'root, workspace of root', asRoot: true, options: {}, toolUid: 60800, diskUid: 0 },
  {
    name: 'an ordinary user',
    asRoot: false,
    options: isRoot ? { uid: USER_UID } : {},
    toolUid: isRoot ? USER_UID : (process.getuid?.() ?? 0),
    diskUid: isRoot ? USER_UID : (process.getuid?.() ?? 0),
  },
].filter((variant) => isRoot || !variant.asRoot);

withBubblewrap.each(variants)(`sandbox host as $name${why}`, (variant) => {
  const { options, toolUid, diskUid } = variant;
  let host: TestHost;

  beforeAll(async () => {
    const env = { PATH: process.env.PATH ?? '', PRX_SECRET: 'swordfish' };
    host = await startTestHost({
      ...options,
      env,
      policy: { envAllowlist: ['ALLOWED'], env: { ALLOWED: 'yes', PRX_OTHER: 'no' } },
    });
    mkdirSync(join(host.base, 'state'));
    writeFileSync(join(host.base, 'state', 'secret'), 'swordfish');
    await host.initialize();
  });
  afterAll(() => host.close());

  test('reports its level, its user and write access', async () => {
    const second = host.initialize();
    await expect(second).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect((await host.shell('id -u; id -un')).output).toBe(`${toolUid}\nagent\n`);
  });

  test('the workspace is writable, git is content, owners and modes on disk stay', async () => {
    const before = statSync(host.workspace);
    const outcome = await host.shell(
      'touch new && mkdir -p d && echo x > d/f && git init -q . && git add new && git status -s',
    );
    expect(outcome).toMatchObject({ status: 'ok', exit_code: 0, level: 'bubblewrap' });
    expect(outcome.output).toContain('A  new');
    await host.run('write_file', { path: 'd/w', content: 'w' });
    for (const name of ['.', 'new', 'd', 'd/f', 'd/w', '.git/config']) {
      const { uid, gid } = statSync(join(host.workspace, name));
      expect([name, uid, gid]).toEqual([name, diskUid, diskUid]);
    }
    const after = statSync(host.workspace);
    expect(after.mode).toBe(before.mode);
    expect(statSync(join(host.base, 'private')).mode & 0o777).toBe(0o700);
  });

  test('the system is read-only, its accounts and the homes are not there', async () => {
    const { output } = await host.shell(
      [
        'touch /usr/x /etc/x /x 2>&1',
        'ls -A /root /home /var 2>&1',
        'cat /etc/shadow 2>&1',
        'wc -l < /etc/passwd',
        'echo 1 > /proc/sys/kernel/core_pattern',
      ].join('; '),
    );
    expect(output).toMatch(/touch: .*'\/usr\/x'.*Read-only file system/);
    expect(output).toMatch(/touch: .*'\/etc\/x'.*Read-only file system/);
    expect(output).toMatch(/touch: .*'\/x'.*Read-only file system/);
    expect(output).toMatch(/'\/root': No such file/);
    expect(output).toMatch(/\/home:\nagent\n/);
    expect(output).toMatch(/shadow: No such file/);
    expect(output).toMatch(/^2$/m);
    expect(output).toMatch(/core_pattern: Read-only file system/);
  });

  test('what lies beside the workspace does not exist inside', async () => {
    const secret = join(host.base, 'state', 'secret');
    symlinkSync(secret, join(host.workspace, 'way-out'));
    const shell = await host.shell('cat way-out; ls ../..; cat /proc/1/root/etc/shadow 2>&1');
    const read = await host.run('read_file', { path: 'way-out' });
    const absolute = await host.run('read_file', { path: secret });
    const search = await host.run('search', { pattern: 'swordfish', path: secret });
    const all = JSON.stringify([shell, read, absolute, search]);
    expect(all).not.toContain('"swordfish');
    expect([read.status, absolute.status, search.status]).toEqual(['error', 'error', 'error']);
  });

  test('only allowed variables are seen, anywhere', async () => {
    const { output } = await host.shell('env; cat /proc/*/environ | tr "\\0" "\\n"');
    expect(output).toContain('ALLOWED=yes');
    expect(output).not.toContain('swordfish');
    expect(output).not.toContain('PRX_OTHER');
  });

  test('there is no network', async () => {
    const { output } = await host.shell('cat /proc/net/dev | tail -n +3 | cut -d: -f1');
    expect(output.trim()).toBe('lo');
  });

  test('no capability, no new privileges, own pid namespace, limits', async () => {
    const { output } = await host.shell(
      'grep -E "Cap(Eff|Bnd)|NoNew" /proc/self/status; ls /proc | grep -c "^[0-9]"; ulimit -c',
    );
    expect(output).toMatch(/CapEff:\t0{16}\n/);
    expect(output).toMatch(/CapBnd:\t0{16}\n/);
    expect(output).toMatch(/NoNewPrivs:\t1\n/);
    expect(Number(output.trim().split('\n').at(-2))).toBeLessThan(8);
    expect(output.trim().split('\n').at(-1)).toBe('0');
  });

  test('output can be opened again by name', async () => {
    const { output } = await host.shell('echo a > /dev/stdout; echo b > /dev/stderr');
    expect(output.split('').sort().join('').trim()).toBe('ab');
  });

  test('exit codes, signals and silence', async () => {
    expect(await host.shell('exit 3')).toMatchObject({
      status: 'error',
      exit_code: 3,
      output: '[exit code 3]',
    });
    expect(await host.shell('kill -9 $$')).toMatchObject({ status: 'error', exit_code: 137 });
    expect(await host.shell(':')).toMatchObject({ status: 'ok', output: '(no output)' });
  });

  test('invalid UTF-8, and characters across chunks', async () => {
    const { output } = await host.shell(
      `printf 'a\\377b'; printf '\\303'; sleep 0.05; printf '\\244\\n'`,
    );
    expect(output).toBe('a\ufffdbä\n');
  });

  test('output is streamed and spooled before the answer, the end last', async () => {
    const outcome = await host.shell('echo one; sleep 0.1; echo two >&2', '7.1.1');
    const pieces = host.outputs.filter((output) => output.effect === '7.1.1');
    expect(pieces.map(({ stream, text }) => [stream, text])).toEqual([
      ['stdout', 'one\n'],
      ['stderr', 'two\n'],
    ]);
    const records = host.readSpool('7.1.1');
    expect(records.map((record) => record.value)).toEqual([
      { kind: 'output', stream: 'stdout', text: 'one\n' },
      { kind: 'output', stream: 'stderr', text: 'two\n' },
      { kind: 'end', outcome },
    ]);
    expect(pieces.map((piece) => piece.offset)).toEqual(
      records.slice(0, 2).map((record) => record.offset),
    );
  });

  test('a long output is cut in the middle and kept whole as an artifact', async () => {
    const outcome = await host.shell('seq 1 100000', '7.2.1');
    const { truncated, artifact = '', output } = outcome;
    expect([truncated, artifact]).toEqual([true, 'tool-7.2.1']);
    expect(output.startsWith('1\n2\n')).toBe(true);
    expect(output).toMatch(/\[\d+ bytes of 588895 were cut here; the whole output is kept as/);
    expect(output.endsWith('99999\n100000\n')).toBe(true);
    expect(readFileSync(join(host.artifactDir, artifact)).length).toBe(588_895);
  });

  test('a flood of 1 GB is stopped, and streams no more than the cap (FAULTS 37)', async () => {
    const outcome = await host.shell('yes | head -c 1000000000', '7.3.1');
    expect(outcome).toMatchObject({ status: 'killed', truncated: true });
    const streamed = host.outputs
      .filter((output) => output.effect === '7.3.1')
      .reduce((sum, output) => sum + output.text.length, 0);
    expect(streamed).toBeLessThan(300_000);
    expect(outcome.output.length).toBeLessThan(70_000);
  });

  test('the time limit kills the whole tree, also what was forked twice (FAULTS 15)', async () => {
    const outcome = await host.run('shell', {
      command: '(setsid sh -c "sleep 8801 & sleep 8802" &); sleep 8803',
      timeout_secs: 0.5,
    });
    expect(outcome.status).toBe('timeout');
    expect(outcome.output).toMatch(/time limit of 0\.5 s/);
    await waitUntilGone(() => findProcesses(/sleep 880\d/));
  });

  test('what runs on in the background ends with the call', async () => {
    const outcome = await host.shell('(setsid sleep 8804 &) ; echo done');
    expect(outcome.output).toBe('done\n');
    await waitUntilGone(() => findProcesses(/sleep 8804/));
  });

  test('a cancel kills the tree; others go on', async () => {
    const other = host.shell('sleep 0.6; echo survived');
    const cancelled = host.shell('sleep 8805', '8.1.1');
    await realClock.sleep(200);
    await host.cancel('8.1.1');
    expect(await cancelled).toMatchObject({ status: 'cancelled' });
    await waitUntilGone(() => findProcesses(/sleep 8805/));
    expect(await other).toMatchObject({ status: 'ok', output: 'survived\n' });
  });

  test('the same effect asked twice runs once', async () => {
    const command = 'echo run >> runs; sleep 0.2; echo x';
    const both = await Promise.all([host.shell(command, '8.2.1'), host.shell(command, '8.2.1')]);
    expect(both[0]).toEqual(both[1]);
    expect(readFileSync(join(host.workspace, 'runs'), 'utf8')).toBe('run\n');
  });

  test('file tools: write, edit, read, list, search', async () => {
    await host.run('write_file', { path: 'src/a.ts', content: 'const a = 1;\nconst b = 2;\n' });
    const edit = { path: 'src/a.ts', old_text: 'b = 2', new_text: 'b = 3' };
    expect(await host.run('edit_file', edit)).toMatchObject({ status: 'ok', level: 'bubblewrap' });
    expect((await host.run('read_file', { path: 'src/a.ts' })).output).toContain('const b = 3;');
    expect((await host.run('list_files', { path: 'src' })).output).toBe('src/\n  a.ts 26');
    expect((await host.run('search', { pattern: 'b = \\d', glob: '*.ts' })).output).toBe(
      'src/a.ts:2:const b = 3;',
    );
    expect((await host.run('search', { pattern: 'nowhere' })).output).toBe('No matches.');
    await host.shell("mkfifo 'a queue'");
    expect(await host.run('search', { pattern: 'a', path: 'a queue' })).toMatchObject({
      status: 'error',
      output: 'a queue is a pipe, a socket or a device, not a file',
    });
    expect(await host.run('search', { pattern: '(' })).toMatchObject({ status: 'error' });
  });

  test('a file that no command will see is written with that word (regression)', async () => {
    const word = /Commands do not see it/;
    expect((await host.run('write_file', { path: '/tmp/x', content: '' })).output).toMatch(word);
    const own = join(host.workspace, 'x');
    expect((await host.run('write_file', { path: own, content: '' })).output).not.toMatch(word);
  });

  test('a patch moves nothing to where it would be lost (regression)', async () => {
    await host.run('write_file', { path: 'kept', content: 'x\n' });
    const patch = '*** Begin Patch\n*** Update File: kept\n*** Move to: /tmp/kept\n*** End Patch';
    expect(await host.run('apply_patch', { patch })).toMatchObject({
      status: 'error',
      output:
        'nothing was changed: /tmp/kept lies outside of the workspace, where no command sees it',
    });
    expect(readFileSync(join(host.workspace, 'kept'), 'utf8')).toBe('x\n');
  });

  test('bad arguments and unknown tools are outcomes for the model', async () => {
    expect(await host.run('shell', { cmd: 'ls' })).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/do not fit shell: .*command/),
    });
    expect(await host.run('fly', {})).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/There is no tool "fly"; there are: shell, /),
    });
  });

  test('calls run at once', async () => {
    // None of them ends before all have begun.
    const names = Array.from({ length: 6 }, (_, index) => `begun-${index}`);
    const all = names.map((name) => `[ -e ${name} ]`).join(' && ');
    const wait = `until ${all}; do sleep 0.05; done`;
    const calls = names.map((name) => host.shell(`: > ${name}; ${wait}`));
    const statuses = (await Promise.all(calls)).map(({ status }) => status);
    expect(statuses).toEqual(names.map(() => 'ok'));
  });

  test('nothing of the user is left changed: no file of ours in the workspace', () => {
    expect(readdirSync(host.workspace).filter((name) => /prx|bwrap/.test(name))).toEqual([]);
    expect(existsSync(join(host.base, 'private', '.prx'))).toBe(false);
  });
});
