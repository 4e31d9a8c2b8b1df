/** What a command tells people of what it found or did, where that is easily said wrongly. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { FakeApi, SESSION } from './fake-api.ts';
import { runCli } from './run-cli.ts';
import { modelCompleted, turnCompleted, turnStarted } from './session-events.ts';

let api: FakeApi;

beforeEach(async () => {
  api = await new FakeApi().listen();
});

afterEach(() => api.close());

describe('a command tells', () => {
  test.each([
    ['interrupt', { state: 'running' }, 'nothing to interrupt in'],
    ['interrupt', { state: 'stopped' }, 'nothing to interrupt in'],
    ['interrupt', { state: 'suspended', queued_inputs: 1 }, 'nothing to interrupt in'],
    ['interrupt', { state: 'running', queued_inputs: 1 }, 'interrupted'],
    ['interrupt', { state: 'awaiting', activity: 'waiting' }, 'interrupted'],
    ['resume', { state: 'running' }, 'nothing to resume in'],
  ])('%s of %j says what came of it: %s', async (name, view, words) => {
    api.addSession(SESSION, view);
    const { exit, out } = await runCli(api, [name, '@last']);
    expect([exit, out]).toEqual([0, expect.stringContaining(`${words} 01234567: state `)]);
  });

  test('[command:describe] a closed session is not said to start with an input', async () => {
    api.addSession(SESSION, { state: 'stopped', state_reason: 'closed by socket' });
    const { out } = await runCli(api, ['describe', '0123']);
    expect(out).toContain('It is stopped (closed by socket) and idle; no worker.\n');
  });

  test('[command:describe] a turn of a suspended session is held (regression)', async () => {
    const held = { state: 'suspended', state_reason: 'asked for', activity: 'turn', turn: 2 };
    api.addSession(SESSION, held);
    const { out } = await runCli(api, ['describe', '0123']);
    const sentence = 'and holds turn 2; no worker: one starts when it is resumed.\n';
    expect(out).toContain(`It is suspended (asked for) ${sentence}`);
  });

  test('[command:describe] what a session without a worker runs and waits for (regression)', async () => {
    const process = { call_id: '1.1.1', command: 'npm run dev', level: 'bubblewrap' };
    const [started_at, deadline_at] = ['2026-01-02T03:04:05.000Z', '2026-01-02T04:04:05.000Z'];
    const background_processes = [{ ...process, started_at, deadline_at }];
    const waiting = { state: 'awaiting', state_reason: 'asked', activity: 'waiting', turn: 2 };
    api.addSession(SESSION, { ...waiting, background_processes });
    const { out } = await runCli(api, ['describe', '0123']);
    expect(out).toContain('waits in turn 2; no worker: one starts when it is answered.\n');
    expect(out).toMatch(/^Background process 1\.1\.1, since \S+: npm run dev$/m);
  });

  test.each([
    [1, 'Its worker was restarted once.\n'],
    [2, 'Its worker was restarted 2 times.\n'],
  ])('[command:describe] %d restarts are counted as people do', async (restarts, sentence) => {
    api.addSession(SESSION, { restarts });
    expect((await runCli(api, ['describe', '0123'])).out).toContain(sentence);
  });

  test('[command:status] --deep is in words: processes, and what the journal check found', async () => {
    const { answers } = api;
    const { out: json } = await runCli(api, ['status', '--json']);
    const started_at = '2026-01-02T03:04:05.000Z';
    const worker = { kind: 'worker', pid: 7, started_at, generation: 2, rss_bytes: 1024 ** 2 };
    const processes = [{ kind: 'gateway', pid: 6, started_at }, worker];
    const versions = { node: 'v1', sqlite: '2' };
    const show = async (problems: unknown[]): Promise<string[]> => {
      const journal = { sessions: 1, events: 9, problems };
      const deep = { ...versions, processes, journal };
      answers.set('GET /api/v1/status', { ...JSON.parse(json), deep });
      const { out } = await runCli(api, ['status', '--deep', '--plain']);
      return out.trimEnd().split('\n').slice(out.split('\n').indexOf('node: v1'));
    };
    const head = [
      'node: v1',
      'sqlite: 2',
      'process: gateway 6',
      'process: worker 7, generation 2, 1 MiB',
    ];
    expect(await show([])).toEqual([...head, 'journal: 1 sessions, 9 events: no damage']);
    expect(await show([{ session: 's_1', seq: 3, problem: 'its checksum is wrong' }])).toEqual([
      ...head,
      'journal: 1 sessions, 9 events: 1 problems',
      'problem: s_1, event 3: its checksum is wrong',
    ]);
  });
});

test('[command:rm] names are looked up before any of them is gone (regression)', async () => {
  api.addSession(SESSION, { name: 'kept' });
  api.addSession('s_ffffffffffffffff', { name: 'gone' });
  const { exit, out } = await runCli(api, ['rm', 'gone', '@last']);
  expect([exit, out]).toEqual([0, 'removed gone\n']);
  expect((await runCli(api, ['ps', '-aq'])).out).toBe(`${SESSION}\n`);
});

test('[command:send] --wait waits in the session that has the input (regression)', async () => {
  api.addSession(SESSION);
  api.onInput = (id, inputId) => {
    api.addSession('s_ffffffffffffffff');
    api.emit(id, ...turnStarted(1, inputId));
    api.emit(id, ...modelCompleted('pong'));
    api.emit(id, ...turnCompleted('completed', 1, inputId));
  };
  const { exit, out } = await runCli(api, ['send', '@last', 'ping', '--wait']);
  expect([exit, out]).toEqual([0, 'pong\n']);
});

test('[command:wait] counts what waits in words', async () => {
  api.addSession(SESSION, { state: 'suspended', queued_inputs: 1 });
  const { err } = await runCli(api, ['wait', SESSION, '--timeout', '0.05']);
  expect(err).toContain('; 1 input waits\n');
});
