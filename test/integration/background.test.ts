/** Background processes under a real supervisor: they outlive their turn and their worker, never
 *  their session, their host or their supervisor; and the journal has exactly one end for each. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap } from '../sandbox/harness.ts';
import {
  type Bench,
  countType,
  createBench,
  isGapless,
  killQuietly,
  OTHER_UID,
  type Running,
} from './harness.ts';
import { eventually, findHosts, findRunning, readName } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

let provider: ScriptedProvider;
let bench: Bench;
let supervisor: Running;

const isRoot = process.getuid?.() === 0;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap ? describe : describe.skip;
const why = hasBubblewrap ? '' : ' (skipped: bubblewrap is not installed)';

const toConfig = (extra: string): string => `
  [agent]
  model = "scripted"
  [provider]
  base_url = "${provider.url}"
  [agent.worker]
  warm_pool = 0
  idle_hibernate_secs = 0.1
  [log]
  level = "warn"
  ${extra}
`;

beforeEach(async () => {
  provider = await startScriptedProvider();
});
afterEach(async () => {
  await bench.close();
  await provider.close();
});

async function start(uid?: number, extra = ''): Promise<string> {
  bench = createBench(toConfig(extra), uid);
  supervisor = await bench.start();
  const { view } = await bench.client.createSession({ approve: 'all' });
  return view.id;
}

const say = { say: 'ok' };
const call = (tool: string, args: object): object => ({ tool, arguments: args });
const begin = (command: string): object => call('process_start', { command });
/** Started, and its first output seen. */
const beginSeen = (command: string): readonly object[] => [
  begin(command),
  call('process_poll', { process: '1.1.1', offset: 0, wait_secs: 30 }),
];
const run = (code: string): object => call('run_code', { language: 'javascript', code });

/** Runs a turn with these calls; the results of its tools. */
async function turn(session: string, ...steps: readonly object[]): Promise<readonly string[]> {
  const { last_seq: since } = await bench.client.getSession(session);
  await bench.client.sendInput(session, { text: JSON.stringify([...steps, say]) });
  const events = await bench.follow(
    session,
    ({ type, seq }) => type === 'turn.completed' && seq > since,
  );
  const fresh = events.filter(({ seq }) => seq > since);
  return fresh
    .filter(({ type }) => type === 'tool.completed')
    .map(({ data }) => (data as { output: string }).output);
}

async function restart(): Promise<void> {
  supervisor.kill('SIGKILL');
  await supervisor.exited;
  supervisor = await bench.start();
}

const listProcesses = async (session: string): Promise<readonly string[]> =>
  ((await bench.client.getSession(session)).background_processes ?? []).map((each) => each.command);

interface Exit {
  readonly call_id: string;
  readonly reason: string;
}

const toExits = (events: readonly EventEnvelope[]): readonly Exit[] =>
  events.filter(({ type }) => type === 'process.exited').map(({ data }) => data as Exit);

/** The ends that the journal has, once each start has one. */
async function awaitExits(session: string): Promise<readonly Exit[]> {
  await eventually(async () => (await listProcesses(session)).length === 0);
  const events = await bench.events(session);
  expect(isGapless(events)).toBe(true);
  expect(countType(events, 'process.exited')).toBe(countType(events, 'process.started'));
  return toExits(events);
}

const SERVER = `
  require('node:http')
    .createServer((request, response) => response.end('hello'))
    .listen(3000, '127.0.0.1', () => console.log('listening'))
`;
const ASK = `console.log(await (await fetch('http://127.0.0.1:3000')).text())`;

on.each(users)(`a background process (uid %s)${why}`, (uid) => {
  test('[event:process.started] [event:process.exited] outlives its turn and its worker, and ends with its session', async () => {
    const session = await start(uid);
    const server = `cat > server.cjs <<'END'\n${SERVER}\nEND\nexec node server.cjs`;
    const [begun] = await turn(session, begin(server));
    expect(begun).toContain('[process 1.1.1 runs since');
    await eventually(async () => {
      const { residency } = await bench.client.getSession(session);
      return residency === 'hibernated';
    });
    await eventually(() => findRunning('node server.cjs').length === 1);
    expect(await listProcesses(session)).toEqual([server.slice(0, 200)]);
    const [ready, asked] = await turn(
      session,
      call('process_poll', { process: '1.1.1', offset: 0, wait_secs: 10 }),
      run(ASK),
    );
    expect(ready).toMatch(/^listening\n\[process 1\.1\.1 runs since/);
    expect(asked).toBe('hello\n');
    await bench.client.close(session);
    expect(findRunning('node server.cjs')).toEqual([]);
    expect(await awaitExits(session)).toMatchObject([{ call_id: '1.1.1', reason: 'closed' }]);
    const events = await bench.events(session);
    const end = events.findIndex(({ type }) => type === 'process.exited');
    const stopped = events.findIndex(({ data }) => (data as { to?: string }).to === 'stopped');
    expect(end).toBeLessThan(stopped);
    await eventually(() => findHosts(bench).length === 0);
  });

  test('ends with its supervisor, whose successor journals that and tells the model', async () => {
    const session = await start(uid);
    await turn(session, ...beginSeen('echo begun; exec sleep 4821'));
    await restart();
    await eventually(() => findRunning('sleep 4821').length === 0);
    expect(await awaitExits(session)).toMatchObject([{ call_id: '1.1.1', reason: 'orphaned' }]);
    const [told] = await turn(session, call('process_poll', { process: '1.1.1' }));
    expect(told).toMatch(/^begun\n\[process 1\.1\.1 does not run any more: it was ended because/);
    expect(await awaitExits(session)).toHaveLength(1);
  });

  test('ends with its host, and the journal and the model hear of it', async () => {
    const session = await start(uid);
    await turn(session, ...beginSeen('echo begun; exec sleep 4822'));
    for (const pid of findHosts(bench)) killQuietly(pid);
    expect(await awaitExits(session)).toMatchObject([{ call_id: '1.1.1', reason: 'lost' }]);
    expect(findRunning('sleep 4822')).toEqual([]);
    const [told] = await turn(session, call('process_poll', { process: '1.1.1' }));
    expect(told).toMatch(/^begun\n\[process 1\.1\.1 does not run any more: its sandbox is gone/);
  });

  test('ends with both at once', async () => {
    const session = await start(uid);
    await turn(session, begin('exec sleep 4823'));
    const hosts = findHosts(bench);
    supervisor.kill('SIGKILL');
    for (const pid of hosts) killQuietly(pid);
    await supervisor.exited;
    await eventually(() => findRunning('sleep 4823').length === 0);
    supervisor = await bench.start();
    expect(await awaitExits(session)).toMatchObject([{ call_id: '1.1.1', reason: 'lost' }]);
  });
});

on(`background processes and their session${why}`, () => {
  test('suspend, resume and interrupt leave them alone', async () => {
    const session = await start();
    await turn(session, begin('exec sleep 4824'));
    await bench.client.suspend(session);
    await eventually(async () => {
      const { residency } = await bench.client.getSession(session);
      return residency === 'hibernated';
    });
    await bench.client.resume(session);
    const steps = [call('shell', { command: 'echo; sleep 20' }), say];
    await bench.client.sendInput(session, { text: JSON.stringify(steps) });
    await bench.follow(session, ({ type }) => type === 'tool.output');
    await bench.client.interrupt(session);
    expect(await listProcesses(session)).toEqual(['exec sleep 4824']);
    await eventually(() => findRunning('sleep 4824').length === 1);
  });

  test('a reload ends those whose sandbox it changes, and no others', async () => {
    const session = await start();
    await turn(session, begin('exec sleep 4825'));
    bench.configure((text) => `${text}\n[budget]\nmax_tokens = 1000000\n`);
    await bench.client.reload();
    await turn(session, call('shell', { command: 'true' }));
    expect(await listProcesses(session)).toEqual(['exec sleep 4825']);
    bench.configure((text) => `${text}\n[security.sandbox]\nmax_pids = 77\n`);
    await bench.client.reload();
    const [, told] = await turn(
      session,
      call('shell', { command: 'true' }),
      call('process_poll', { process: '1.1.1' }),
    );
    expect(told).toMatch(/it was ended because the settings of its sandbox changed/);
    expect(await awaitExits(session)).toMatchObject([{ reason: 'replaced' }]);
    expect(findRunning('sleep 4825')).toEqual([]);
  });

  test('whatever is killed while they begin and end, each has one end and none is left', async () => {
    const session = await start();
    const wanted = ['tool.started', 'process.started', 'process.exited'];
    for (const [round, type] of [...wanted, ...wanted].entries()) {
      const number = round + 1;
      const steps = [
        begin('echo begun; exec sleep 4826'),
        begin('echo over'),
        call('process_stop', { process: `${number}.1.1` }),
        say,
      ];
      await bench.client.sendInput(session, { text: JSON.stringify(steps) });
      await bench.follow(session, (event) => {
        const { call_id: id = '' } = event.data as { call_id?: string };
        return event.type === type && id.startsWith(`${number}.`);
      });
      if (number % 2 === 1) await restart();
      else for (const pid of findHosts(bench)) killQuietly(pid);
      await bench.follow(session, (event) => {
        return event.type === 'turn.completed' && event.turn === number;
      });
    }
    await bench.client.close(session);
    await awaitExits(session);
    expect(findRunning('sleep 4826')).toEqual([]);
  });
});

describe('a background process without a sandbox', () => {
  const config = '[security.sandbox]\nbackend = "none"\n';

  test('is looked for when its host is killed', async () => {
    const session = await start(undefined, config);
    await turn(session, begin('setsid sleep 4827 & exec sleep 4828'));
    for (const pid of findHosts(bench)) killQuietly(pid);
    await eventually(() => findRunning('sleep 482').length === 0);
    expect(await awaitExits(session)).toMatchObject([{ reason: 'lost' }]);
  });

  test('ends with its supervisor', async () => {
    const session = await start(undefined, config);
    await turn(session, begin('setsid sleep 4829 & exec sleep 4830'));
    await restart();
    // By name: other test files have sleepers of their own.
    const sleepers = ['sleep 4829', 'sleep 4830'];
    await eventually(() => sleepers.flatMap(findRunning).length === 0);
    expect(await awaitExits(session)).toMatchObject([{ reason: 'orphaned' }]);
  });
});

const hasPerl = findProgram('perl') !== undefined;

(hasPerl ? test : test.skip)(
  'a background process at level limits-only is looked for when its host and its keeper are killed',
  async () => {
    const session = await start(undefined, '[security.sandbox]\nbackend = "limits-only"\n');
    await turn(session, begin('setsid sleep 4831 & exec sleep 4832'));
    const keepers = findRunning('sleep 4832').filter((pid) => readName(pid) === 'perl');
    expect(keepers).toHaveLength(1);
    for (const pid of [...findHosts(bench), ...keepers]) killQuietly(pid);
    await eventually(() => findRunning('sleep 4831').length === 0);
    expect(await awaitExits(session)).toMatchObject([{ reason: 'lost' }]);
  },
);
