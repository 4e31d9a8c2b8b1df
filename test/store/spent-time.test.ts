/** How long a turn has been executing, by its events alone. */
import { describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { SessionRecord, SpentTime } from '../../store/contract.ts';
import { foldSession } from '../../store/fold-session.ts';
import { toSpentMs } from '../../store/spent-time.ts';
import { inputId, sessionId } from './setup-events.ts';

type Fact = readonly [second: number, type: string, data: Record<string, unknown>];

const START_MS = Date.parse('2026-01-01T00:00:00.000Z');
const stamp = (second: number): string => new Date(START_MS + second * 1000).toISOString();

const created: Fact = [
  0,
  'session.created',
  {
    ...{ agent: 'a', workspace: '/w', private_workspace: true, labels: {}, approve: 'ask' },
    source: 'test',
  },
];
const state = (second: number, from: string, to: string): Fact => [
  second,
  'session.state',
  { from, to, reason: 'test' },
];
const input = inputId('in_1');
const begun = (second: number, spent: object = { spent_ms: 0 }): Fact => [
  second,
  'turn.started',
  { turn: 1, input_id: input, attempt: 1, ...spent },
];
const started = (second: number, ms: number): Fact => [
  second,
  'worker.started',
  { generation: 2, pid: 1, warm: true, spent_ms: ms },
];
const exited = (second: number, ms: number, cause = 'crashed'): Fact => [
  second,
  'worker.exited',
  {
    ...{ generation: 1, pid: 1, cause, code: null, signal: null, stderr_tail: '' },
    ...{ peak_rss_bytes: null, progress: false, spent_ms: ms },
  },
];
const delta = (second: number): Fact => [
  second,
  'model.delta',
  { step: 1, attempt: 1, kind: 'text', text: 'x' },
];
const touched = (second: number): Fact => [second, 'session.renamed', { name: 'n' }];
const residency = (second: number, from: string, to: string): Fact => [
  second,
  'session.residency',
  { from, to, reason: 'test' },
];

const opening = [created, state(1, 'created', 'starting'), state(1, 'starting', 'running')];

function fold(facts: readonly Fact[]): SessionRecord {
  let record: SessionRecord | undefined;
  for (const [index, [second, type, data]] of [...opening, ...facts].entries()) {
    const place = { session: sessionId(1), seq: index + 1, epoch: 1, time: stamp(second) };
    const event = { ...place, type, turn: 1, data } as EventEnvelope;
    record = foldSession(record, event);
  }
  if (record === undefined) throw new Error('no facts');
  return record;
}

/** What a supervisor that opens the session now takes for spent. */
function spentMs(facts: readonly Fact[]): number | undefined {
  const { open_turn: open, updated_at: at } = fold(facts);
  return open?.time === undefined ? undefined : toSpentMs(open.time, at);
}

describe('the time of a turn counts', () => {
  test.each<readonly [string, readonly Fact[], number | undefined]>([
    ['up to the newest event, also a delta', [begun(10), delta(40)], 30_000],
    [
      'what the worker that died had, and nothing until another starts',
      [begun(10), exited(20, 9_500), touched(90)],
      9_500,
    ],
    [
      'on from what that one is given',
      [begun(10), exited(20, 9_500), started(90, 9_500), delta(95)],
      14_500,
    ],
    [
      'not while the session is suspended',
      [
        begun(10),
        state(20, 'running', 'suspended'),
        touched(80),
        state(90, 'suspended', 'running'),
        delta(95),
      ],
      15_000,
    ],
    [
      'not for a turn whose worker was taken while it waited',
      [
        begun(10),
        state(20, 'running', 'awaiting'),
        exited(30, 10_000, 'stopped'),
        state(90, 'awaiting', 'running'),
        delta(95),
      ],
      10_000,
    ],
    [
      'not before the answer where a worker started meanwhile',
      [
        begun(10),
        state(20, 'running', 'awaiting'),
        started(30, 10_000),
        touched(80),
        state(90, 'awaiting', 'running'),
        delta(95),
      ],
      15_000,
    ],
    [
      'not while no supervisor ran, nor while it queues behind others',
      [begun(10), delta(40), residency(500, 'hibernated', 'queued'), touched(900)],
      30_000,
    ],
    ['no time that a clock took back', [begun(50), delta(20)], 0],
    ['nothing of a turn that an older version began', [begun(10, {}), delta(40)], undefined],
    ['on where an older version began it', [begun(10, {}), started(30, 0), delta(40)], 10_000],
  ])('%s', (_, facts, expected) => {
    expect(spentMs(facts)).toBe(expected);
  });

  test('a record of an older version is what it was, whatever comes behind it', () => {
    const old = [
      begun(10, {}),
      state(20, 'running', 'awaiting'),
      residency(30, 'hibernated', 'starting'),
    ];
    const { open_turn: open } = fold([...old, state(40, 'awaiting', 'running')]);
    expect(open).not.toHaveProperty('time');
    const time: SpentTime | undefined = fold([begun(10)]).open_turn?.time;
    expect(time).toEqual({ ms: 0, since: stamp(10) });
  });
});
