import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { adviseNext } from '../../cli/why/advice.ts';
import { summarize, toSections } from '../../cli/why/render.ts';
import { type Report, toReport } from '../../cli/why/report.ts';
import type { SessionView } from '../../protocol/resources.ts';
import { FakeApi, SESSION } from './fake-api.ts';
import { runCli } from './run-cli.ts';
import {
  type Fact,
  modelCompleted,
  modelFailed,
  modelStarted,
  restarting,
  state,
  toEvents,
  toolCompleted,
  turnCompleted,
  turnStarted,
  workerExited,
  workerStarted,
} from './session-events.ts';

const reportOf = (...facts: readonly Fact[]): Report => toReport(toEvents(facts));

describe('what to do next', () => {
  const calm = {
    id: SESSION,
    state: 'running',
    residency: 'hibernated',
    pending_approvals: 0,
    queued_inputs: 0,
  } as SessionView;

  const commands = (view: Partial<SessionView>, ...facts: readonly Fact[]): string[] =>
    adviseNext({ ...calm, ...view }, reportOf(...facts), 'prx').map(
      ({ what, command }) => command ?? what,
    );

  test.each<[string, Partial<SessionView>, readonly Fact[], unknown[]]>([
    ['nothing happened', {}, [], []],
    ['failed', { state: 'failed' }, [], ['prx restart 01234567']],
    ['stopped', { state: 'stopped' }, [], ['prx restart 01234567']],
    ['suspended', { state: 'suspended' }, [], ['prx resume 01234567']],
    ['an approval waits', { pending_approvals: 1 }, [], ['prx approvals']],
    ['back-off', { residency: 'backoff' }, [], ['prx restart 01234567']],
    ['no slot', { residency: 'queued' }, [], ['prx ps']],
    ['a crash', {}, [workerExited(1)], ['prx logs 01234567 --stderr']],
    [
      'a kill from outside',
      {},
      [workerExited(1, 'crashed', { signal: 'SIGKILL', stderr_tail: '' })],
      [expect.stringContaining('SIGKILL came from outside')],
    ],
    ['unresponsive', {}, [workerExited(1, 'unresponsive')], ['prx doctor']],
    ['lost', {}, [workerStarted(1), workerStarted(2)], [expect.stringContaining('journalctl')]],
    ['the provider', {}, [modelFailed('PROVIDER_UNREACHABLE', null)], ['prx doctor']],
    [
      'the provider, but a retry got through',
      {},
      [turnStarted(), modelFailed('PROVIDER_UNREACHABLE', 1), modelCompleted('x', 1, 2)],
      [],
    ],
    ['an unknown outcome', {}, [toolCompleted('indeterminate')], ['prx logs 01234567']],
    [
      'a limit, twice',
      {},
      [
        ['limit.exceeded', { limit: 'max_tokens', value: 9, max: 8 }],
        ['limit.exceeded', { limit: 'max_tokens', value: 9, max: 8 }],
      ],
      ['prx config show'],
    ],
    [
      'a limit of its own',
      {},
      [
        ['session.created', { limits: { max_tokens: 8 } }],
        ['limit.exceeded', { limit: 'max_tokens', value: 9, max: 8 }],
      ],
      ['limits.max_tokens of this session was reached: start a new one if the work is worth it'],
    ],
    ['too many steps', {}, [turnStarted(), turnCompleted('max_turns')], ['prx config show']],
    ['a full disk', {}, [['store.degraded', { reason: 'full' }]], ['prx doctor']],
    [
      'a full disk that was mended',
      {},
      [
        ['store.degraded', { reason: 'full' }],
        ['store.repaired', { reason: 'ok' }],
      ],
      [],
    ],
  ])('%s', (_name, view, facts, expected) => {
    expect(commands(view, ...facts)).toEqual(expected);
  });
});

describe('how it is said', () => {
  test('nothing: one sentence, no section', () => {
    const report = reportOf();
    expect(summarize(report)).toMatch(/^Nothing went wrong/);
    expect(toSections(report, [])).toEqual([]);
  });

  test('control characters of a dead worker reach no terminal', () => {
    const report = reportOf(workerExited(1, 'crashed', { stderr_tail: 'a\u001b[2Jb\nc\n' }));
    const lines = toSections(report, []).flatMap((section) => section.lines);
    expect(lines.slice(-2)).toEqual(['  | ab', '  | c']);
  });
});

describe('[command:why]', () => {
  let api: FakeApi;

  beforeEach(async () => {
    api = await new FakeApi().listen();
    api.addSession(SESSION, { name: 'web', state: 'failed', state_reason: 'too many restarts' });
    const facts = [
      turnStarted(),
      workerStarted(1),
      modelStarted(),
      workerExited(1, 'memory', { code: null, signal: 'SIGKILL' }),
      restarting(1, 250),
      workerStarted(2),
      modelFailed('PROVIDER_TIMEOUT', null),
      turnCompleted('failed'),
      state('running', 'failed', 'too many restarts'),
    ];
    for (const fact of facts) api.emit(SESSION, ...fact);
  });

  afterEach(() => api.close());

  test('in sections: how it is, what happened, what to do', async () => {
    const { exit, out } = await runCli(api, ['why', 'web']);
    const text = out.replaceAll(/\d\d:\d\d:\d\d/g, 'T');
    expect(exit).toBe(0);
    expect(text).toContain('It is failed (too many restarts)');
    expect(
      text.slice(text.indexOf('1 worker death')),
    ).toBe(`1 worker death, 1 turn resumption, 1 failed model attempt, 1 turn that did not complete.

What died:
  T #4 worker 1, pid 101, took too much memory (SIGKILL, after 0ms, peak 1 MiB)
    during model call 1.1 of turn 1
    restart 1 after 250 ms: worker 2 followed
    | boom

Went on:
  T #6 turn 1 was taken over by worker 2: failed

Model:
  T #7 model call 1.1, attempt 1: no (PROVIDER_TIMEOUT); given up

Turns:
  T #8 turn 1: failed

The session failed:
  T #9 too many restarts

Next:
  prx-supervisor restart 01234567   open it again; an unfinished turn goes on, restarts count from zero
  prx-supervisor logs 01234567 --stderr   raise agent.limits.max_memory_mb, or lower agent.loop.compaction_threshold_tokens
  prx-supervisor doctor   the provider is slow: raise provider.first_token_timeout_secs
`);
    expect(api.requests.at(-1)?.query.get('types')).not.toContain('delta');
  });

  test('--plain: every line with its label; --json: the report', async () => {
    const { out } = await runCli(api, ['why', 'web', '--plain']);
    expect(out).toContain('\nsummary: 1 worker death');
    expect(out).toMatch(/^died: .* worker 1, pid 101/m);
    expect(out).toMatch(/^died: during model call 1\.1 of turn 1$/m);
    expect(out).toMatch(/^next: prx-supervisor restart/m);
    const parsed = JSON.parse((await runCli(api, ['why', 'web', '--json'])).out);
    expect(parsed).toMatchObject({
      session: { name: 'web' },
      report: { deaths: [{ cause: 'memory' }], counts: { deaths: 1, peaceful_exits: 0 } },
      next: [{ command: 'prx-supervisor restart 01234567' }, {}, {}],
    });
  });

  test('a session that is not there', async () => {
    expect((await runCli(api, ['why', 'nope'])).exit).toBe(1);
  });
});
