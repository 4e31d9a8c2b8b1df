import { describe, expect, test } from '@jest/globals';
import { LIST_MAX, type Report, toReport } from '../../cli/why/report.ts';
import {
  approvalRequested,
  type Fact,
  input,
  modelCompleted,
  modelFailed,
  modelStarted,
  restarting,
  state,
  toEvents,
  toolCompleted,
  toolRequested,
  toolStarted,
  turnCompleted,
  turnStarted,
  workerExited,
  workerStarted,
} from './session-events.ts';

const TIME = '2026-01-02T03:04:05.000Z';

const reportOf = (...facts: readonly Fact[]): Report => toReport(toEvents(facts));

/** What of a report is not empty. */
function findingsOf({ counts: _counts, ...lists }: Report): Record<string, unknown> {
  return Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0));
}

const death = (seq: number, generation: number, cause: string, extra: object = {}) => ({
  seq,
  time: TIME,
  generation,
  pid: 100 + generation,
  cause,
  code: 1,
  signal: null,
  uptime_ms: 0,
  peak_rss_bytes: 2 ** 20,
  stderr_tail: 'boom\n',
  during: [],
  ...extra,
});

const lost = { code: null, peak_rss_bytes: null, uptime_ms: null, stderr_tail: '' };

describe('what the journal tells', () => {
  test.each<[string, readonly Fact[], Record<string, unknown>]>([
    ['a good turn: nothing', [input(), turnStarted(), workerStarted(1), turnCompleted()], {}],
    [
      'a worker that was stopped or done: nothing',
      [
        workerStarted(1),
        workerExited(1, 'stopped'),
        workerStarted(2),
        workerExited(2, 'completed'),
      ],
      {},
    ],
    [
      'a death between turns',
      [workerStarted(1), workerExited(1)],
      { deaths: [death(2, 1, 'crashed')] },
    ],
    [
      'a death in mid-turn: what was under way, the restart, who went on, and how it ended',
      [
        turnStarted(),
        workerStarted(1),
        modelStarted(),
        modelCompleted('x'),
        toolRequested(),
        toolStarted(),
        workerExited(1, 'memory', { code: null, signal: 'SIGKILL' }),
        restarting(1, 250),
        workerStarted(2),
        toolCompleted(),
        turnCompleted(),
      ],
      {
        deaths: [
          death(7, 1, 'memory', {
            code: null,
            signal: 'SIGKILL',
            turn: 1,
            during: ['shell 1.1.1'],
            restart: { attempt: 1, delay_ms: 250 },
            replaced_by: 2,
          }),
        ],
        resumed: [{ seq: 9, time: TIME, turn: 1, generation: 2, outcome: 'completed' }],
      },
    ],
    [
      'a death during a model call, and nobody after it',
      [turnStarted(), workerStarted(1), modelStarted(), workerExited(1, 'unresponsive')],
      { deaths: [death(4, 1, 'unresponsive', { turn: 1, during: ['model call 1.1'] })] },
    ],
    [
      'a worker whose end nobody wrote down: the supervisor died',
      [turnStarted(), workerStarted(1), workerStarted(2)],
      {
        deaths: [death(3, 1, 'lost', { ...lost, turn: 1, replaced_by: 2 })],
        resumed: [{ seq: 3, time: TIME, turn: 1, generation: 2 }],
      },
    ],
    [
      'an exit of a worker whose start is not in the journal: no uptime',
      [workerExited(1)],
      { deaths: [death(1, 1, 'crashed', { uptime_ms: null })] },
    ],
  ])('%s', (_name, facts, expected) => {
    expect(findingsOf(reportOf(...facts))).toEqual(expected);
  });

  test.each<[string, readonly Fact[], Record<string, unknown>]>([
    [
      'a failed attempt that a later one made good',
      [
        turnStarted(),
        modelStarted(),
        modelFailed('PROVIDER_TIMEOUT', 500),
        modelStarted(1, 2),
        modelCompleted('x', 1, 2),
      ],
      { model_failures: [expect.objectContaining({ seq: 3, turn: 1, recovered: true })] },
    ],
    [
      'the last attempt failed, and so did the turn',
      [
        turnStarted(),
        modelStarted(),
        modelFailed('PROVIDER_REFUSED', null),
        turnCompleted('failed'),
      ],
      {
        model_failures: [
          {
            seq: 3,
            time: TIME,
            turn: 1,
            step: 1,
            attempt: 1,
            code: 'PROVIDER_REFUSED',
            message: 'no',
            retry_in_ms: null,
            recovered: false,
          },
        ],
        turns: [{ seq: 4, time: TIME, turn: 1, outcome: 'failed' }],
      },
    ],
    [
      'the same step of a later turn is another call',
      [
        turnStarted(),
        modelFailed('INTERNAL', null),
        turnCompleted(),
        turnStarted(2),
        modelCompleted('x'),
      ],
      { model_failures: [expect.objectContaining({ turn: 1, recovered: false })] },
    ],
  ])('model: %s', (_name, facts, expected) => {
    expect(findingsOf(reportOf(...facts))).toEqual(expected);
  });

  const tool = { seq: 2, time: TIME, call_id: '1.1.1', tool: 'shell', duration_ms: 1200 };

  test.each([
    ['ok', []],
    ['error', []],
    ['denied', []],
    ['cancelled', []],
    ['timeout', [{ ...tool, status: 'timeout', says: 'out' }]],
    ['memory', [{ ...tool, status: 'memory', says: 'out' }]],
    ['killed', [{ ...tool, status: 'killed', says: 'out' }]],
    ['indeterminate', [{ ...tool, status: 'indeterminate', says: 'out' }]],
  ])('a tool call that ended %s', (status, expected) => {
    expect(reportOf(toolRequested(), toolCompleted(status)).tool_failures).toEqual(expected);
  });

  test.each<[string, Fact, keyof Report, object | undefined]>([
    [
      'adopted',
      ['effect.adopted', { id: '1.1', how: 'spool' }],
      'effects',
      { kind: 'adopted', id: '1.1', how: 'spool' },
    ],
    [
      'resolved',
      ['effect.resolved', { id: '1.1.1', how: 're-run (read)' }],
      'effects',
      { kind: 'resolved', id: '1.1.1', how: 're-run (read)' },
    ],
    [
      'a limit',
      ['limit.exceeded', { limit: 'max_tokens', value: 9, max: 8 }],
      'limits',
      { limit: 'max_tokens', value: 9, max: 8 },
    ],
    [
      'set aside',
      ['input.quarantined', { input_id: 'in_1', reason: 'r' }],
      'quarantined',
      { input_id: 'in_1', reason: 'r' },
    ],
    [
      'no answer',
      ['approval.resolved', { call_id: '1.1.1', decision: 'timeout', by: 'x' }],
      'approvals_timed_out',
      { call_id: '1.1.1', tool: 'shell' },
    ],
    [
      'an answer',
      ['approval.resolved', { call_id: '1.1.1', decision: 'deny', by: 'x' }],
      'approvals_timed_out',
      undefined,
    ],
    ['failed', state('running', 'failed', 'why'), 'failures', { reason: 'why' }],
    ['suspended', state('running', 'suspended', 'why'), 'failures', undefined],
    [
      'degraded',
      ['store.degraded', { reason: 'full' }],
      'store',
      { kind: 'degraded', reason: 'full' },
    ],
    ['repaired', ['store.repaired', { reason: 'ok' }], 'store', { kind: 'repaired', reason: 'ok' }],
    ['unknown', ['something.new', { reason: 'ok' }], 'store', undefined],
  ])('%s', (_name, fact, list, expected) => {
    const found = reportOf(approvalRequested(), fact)[list];
    expect(found).toEqual(expected === undefined ? [] : [{ seq: 2, time: TIME, ...expected }]);
  });

  test.each([LIST_MAX - 1, LIST_MAX, LIST_MAX + 1])(
    '%i deaths: the newest, and all counted',
    (count) => {
      const facts = Array.from({ length: count }, (_, at) => workerExited(at + 1));
      const { deaths, counts } = reportOf(...facts);
      expect([deaths.length, counts.deaths]).toEqual([Math.min(count, LIST_MAX), count]);
      expect(deaths.at(-1)?.generation).toBe(count);
    },
  );
});
