/** Background processes in a real host: a server that later calls speak to, input, output by its
 *  offset, limits by name, and their end: asked for, or with whoever dies. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { ToolOutcome } from '../../protocol/content.ts';
import { toFingerprints } from '../../protocol/fingerprints.ts';
import { listProcessRecords } from '../../sandbox/processes/record.ts';
import { eventually } from '../integration/processes.ts';
import {
  type HostOptions,
  hasBubblewrap,
  isRoot,
  startTestHost,
  type TestHost,
} from './harness.ts';
import { findProcesses, waitUntilGone, waitUntilThere } from './processes.ts';

const OTHER_UID = 61_006;
const MIB = 2 ** 20;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap ? describe : describe.skip;
const why = hasBubblewrap ? '' : ' (skipped: bubblewrap is not installed)';

const hosts: TestHost[] = [];
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.close();
});

async function startReady(options: HostOptions = {}): Promise<TestHost> {
  const host = await startTestHost(options);
  hosts.push(host);
  await host.initialize();
  return host;
}

const begin = (host: TestHost, command: string, rest: object = {}): Promise<ToolOutcome> =>
  host.run('process_start', { command, ...rest }, '1.1.1');
const poll = (host: TestHost, rest: object = {}): Promise<ToolOutcome> =>
  host.run('process_poll', { process: '1.1.1', ...rest });

/** Polls on until the process is over; what it answered last. */
async function pollToEnd(host: TestHost): Promise<ToolOutcome> {
  for (let polls = 0; polls < 100; polls += 1) {
    const outcome = await poll(host, { wait_secs: 10 });
    if (!outcome.output.includes('runs since')) return outcome;
  }
  throw new Error('it does not end');
}

const readRecords = (host: TestHost) => listProcessRecords(dirname(host.spoolPath('x')));

const SERVER = `
const { createServer } = require('node:http');
let count = 0;
createServer((request, response) => {
  count += 1;
  console.log('request ' + count);
  response.end('hello ' + count);
}).listen(3000, '127.0.0.1', () => console.log('listening'));
`;
/** Against a test that hangs; no statement of how soon. */
const GUARD_MS = 110_000;
const ASK = `console.log(await (await fetch('http://127.0.0.1:3000')).text())`;

on.each(users)(`a background process (uid %s)${why}`, (uid) => {
  const user = uid === undefined ? {} : { uid };

  test('is a server that later calls of the session reach on the loopback', async () => {
    const host = await startReady(user);
    writeFileSync(join(host.workspace, 'server.js'), SERVER);
    const begun = await begin(host, 'node server.js');
    expect(begun).toMatchObject({ status: 'ok' });
    await eventually(async () =>
      (await poll(host, { offset: 0 })).output.startsWith('listening\n[process 1.1.1 runs since'),
    );
    for (const count of [1, 2]) {
      const asked = await host.run('run_code', { language: 'javascript', code: ASK });
      expect(asked).toMatchObject({ status: 'ok', output: `hello ${count}\n` });
    }
    const stopped = await host.run('process_stop', { process: '1.1.1' });
    expect(stopped.output).toMatch(/does not run any more: it was stopped/);
    expect((await poll(host, { offset: 0 })).output).toMatch(
      /^listening\nrequest 1\nrequest 2\n\[/,
    );
    expect(await host.run('run_code', { language: 'javascript', code: ASK })).toMatchObject({
      status: 'error',
    });
    expect(host.processes).toEqual([
      { kind: 'started', call: '1.1.1' },
      {
        kind: 'exited',
        call: '1.1.1',
        end: expect.objectContaining({ reason: 'stopped' }),
      },
    ]);
  });

  test('makes no repository that git obeys, long after the last call', async () => {
    const host = await startReady(user);
    const config = 'printf "[core]\\nfsmonitor = x\\n" > r/config';
    // Later than the look behind the call that started it.
    await begin(host, `sleep 2; mkdir -p r/objects r/refs; echo x > r/HEAD; ${config}; sleep 600`);
    const folder = join(host.workspace, 'r');
    await eventually(
      () => existsSync(folder) && readdirSync(folder).some((name) => name.includes('.withheld-')),
      GUARD_MS,
    );
    expect(readdirSync(folder)).not.toContain('config');
    expect((await poll(host)).output).toContain('runs since');
  });

  test('gets input, and its end', async () => {
    const host = await startReady(user);
    await begin(host, 'echo ready; while read line; do echo "got $line"; done; echo over');
    const first = await host.run('process_input', { process: '1.1.1', text: 'one\n' });
    expect(first).toMatchObject({ status: 'ok' });
    await host.run('process_input', { process: '1.1.1', text: 'two\n', end: true });
    await pollToEnd(host);
    expect((await poll(host, { offset: 0 })).output).toMatch(
      /^ready\ngot one\ngot two\nover\n\[process 1\.1\.1 does not run any more: it ended by itself, exit code 0; bytes 0 to 27\]$/,
    );
    expect(await host.run('process_input', { process: '1.1.1', text: 'x' })).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/^Nothing was written\./),
    });
  });

  test('is ended as a whole, also what left its parent', async () => {
    const host = await startReady(user);
    await begin(host, 'trap "" TERM; setsid sleep 4711 & echo begun; while :; do sleep 4712; done');
    await host.run('process_stop', { process: '1.1.1' });
    await waitUntilGone(() => findProcesses(/^sleep 471[12]$/));
    expect(readRecords(host)).toMatchObject([{ end: { reason: 'stopped' } }]);
  });

  test.each([
    ['its supervisor', (host: TestHost) => host.connection.close(), 'orphaned'],
    ['its host, by SIGKILL', (host: TestHost) => host.process.kill('SIGKILL'), undefined],
  ])('does not survive %s', async (_, kill, reason) => {
    const host = await startReady(user);
    await begin(host, 'setsid sleep 4713 & echo begun; sleep 4714');
    await poll(host, { offset: 0, wait_secs: 10 });
    await waitUntilThere(() => findProcesses(/^sleep 471[34]$/), 2);
    kill(host);
    await host.exited;
    await waitUntilGone(() => findProcesses(/^sleep 471[34]$/));
    expect(readRecords(host).map(({ end }) => end?.reason)).toEqual([reason]);
  });

  test('runs within the memory limit of a call, and its end names it', async () => {
    const policy = { memoryLimitBytes: 96 * MIB, tmpBytes: 256 * MIB };
    const host = await startReady({ ...user, policy });
    await begin(host, 'echo begun; head -c 200000000 /dev/zero > /tmp/a; sleep 600');
    expect((await pollToEnd(host)).output).toMatch(
      /it was killed with all it started: security\.sandbox\.memory_limit_mb is 96, it came to/,
    );
    expect(host.processes.at(-1)).toMatchObject({
      end: { reason: 'limit', exceeded: { limit: 'memory_limit_mb', max: 96 } },
    });
  });
});

on(`background processes of one session${why}`, () => {
  test('are so many at once, and one more when one has ended', async () => {
    const host = await startReady({ policy: { backgroundMax: 2 } });
    const start = (call: string) => host.run('process_start', { command: 'cat' }, call);
    await start('1.1.1');
    await start('1.1.2');
    expect(await start('1.1.3')).toMatchObject({
      status: 'error',
      output:
        '2 background processes run already (1.1.1, 1.1.2); the limit security.sandbox.max_background_processes is 2. Stop one, then call again.',
    });
    await host.run('process_stop', { process: '1.1.1' });
    expect(await start('1.1.4')).toMatchObject({ status: 'ok' });
    expect((await host.run('process_poll', {})).output.split('\n')).toEqual([
      expect.stringMatching(/^process 1\.1\.1 does not run any more: it was stopped.*: cat$/),
      expect.stringMatching(/^process 1\.1\.2 runs since .*: cat$/),
      expect.stringMatching(/^process 1\.1\.4 runs since .*: cat$/),
    ]);
  });

  test('are killed at their deadline', async () => {
    const host = await startReady({ policy: { backgroundTimeoutMs: 1500 } });
    await begin(host, 'echo begun; exec sleep 4715', { timeout_secs: 4000 });
    expect((await pollToEnd(host)).output).toMatch(/killed at its time limit.*secs is 1\.5/);
    expect(findProcesses(/^sleep 4715$/)).toEqual([]);
  });

  test('print more than is kept: the newest stays, what is gone is said', async () => {
    const host = await startReady({ policy: { maxOutputBytes: 4096 } });
    await begin(host, 'i=0; while [ $i -lt 2000 ]; do echo "line $i é"; i=$((i+1)); done');
    await pollToEnd(host);
    const old = await poll(host, { offset: 0, max_bytes: 100 });
    expect(old).toMatchObject({ truncated: true });
    expect(old.output).toMatch(/bytes 0 to \d+ are no longer kept; bytes \d+ to \d+, \d+ more/);
    const newest = await poll(host, { offset: -12 });
    expect(newest.output).toMatch(/^\S* ?1999 é\n\[/);
    const kept = readdirSync(dirname(host.spoolPath('x'))).filter((name) => name.endsWith('.out'));
    expect(kept).toHaveLength(2);
  });

  test('[promise:no-secret-leaves] show no secret that they print, and keep none', async () => {
    const value = 'canary-7f3a-swordfish';
    const fingerprints = toFingerprints([{ name: 'KEY', value: Buffer.from(value) }], 'seed');
    const host = await startReady({ fingerprints });
    await begin(host, 'printf canary-7f3a-; sleep 0.1; echo swordfish');
    await pollToEnd(host);
    expect((await poll(host, { offset: 0 })).output).toMatch(/^\[secret KEY\]\n/);
    const folder = dirname(host.spoolPath('x'));
    const kept = readdirSync(folder).filter((name) => name.endsWith('.out'));
    expect(kept.map((name) => readFileSync(join(folder, name), 'utf8'))).toEqual([
      '[secret KEY]\n',
    ]);
  });

  test('are known by the id of their call', async () => {
    const host = await startReady();
    expect(await poll(host)).toMatchObject({
      status: 'error',
      output: 'There is no background process 1.1.1; there is none.',
    });
  });

  test('do not run before the journal has their start', async () => {
    const host = await startReady({
      onRegister: () => {
        throw new Error('no room');
      },
    });
    expect(await begin(host, 'touch ran')).toMatchObject({
      status: 'error',
      output: expect.stringMatching(/^It was not started, nothing ran: /),
    });
    expect(readdirSync(host.workspace)).toEqual([]);
    expect(readRecords(host)).toMatchObject([{ end: { reason: 'not_started' } }]);
  });

  test('end together, for a reason that is said', async () => {
    const host = await startReady();
    await begin(host, 'echo begun; exec sleep 4716');
    await host.connection.request('process/end_all', { reason: 'closed' }, { timeoutMs: 60_000 });
    expect(findProcesses(/^sleep 4716$/)).toEqual([]);
    expect(host.processes.at(-1)).toMatchObject({ call: '1.1.1', end: { reason: 'closed' } });
  });
});
