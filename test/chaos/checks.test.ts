/** Each checker of a chaos run passes a history in which all is well, and flags one that was
 *  doctored: a checker that cannot fail proves nothing. */
import { describe, expect, test } from '@jest/globals';
import { checkHistory } from '../../chaos/checks/all.ts';
import { digestEvent, type History } from '../../chaos/history.ts';
import {
  change,
  edit,
  fault,
  goodRows,
  KEY,
  makeHistory,
  SESSION,
  TOKEN,
  timeOf,
  toEvents,
} from './good-history.ts';

const found = (history: History): string[] =>
  checkHistory(history).map(({ check, message }) => `${check}: ${message}`);

test('a history in which all is well has no violation', () => {
  expect(found(makeHistory())).toEqual([]);
});

const swap = (type: string, nth: number, data: Readonly<Record<string, unknown>>) =>
  change(type, nth, [edit(type, nth, data)]);

const clients = (digests: readonly string[], problems: readonly string[] = []) => ({
  clients: [{ session: SESSION, client: 'a', digests, problems }],
});
const goodDigests = toEvents(goodRows).map(digestEvent);
const withSeq = (seqs: (seq: number) => number): History => {
  const journal = toEvents(goodRows).map((event) => ({ ...event, seq: seqs(event.seq) }));
  return makeHistory(goodRows, {
    journals: new Map([[SESSION, journal]]),
    ...clients(journal.map(digestEvent)),
  });
};
const withEpoch = (): History => {
  const journal = toEvents(goodRows).map((event) => ({ ...event, epoch: event.seq > 5 ? 2 : 1 }));
  return makeHistory(goodRows, {
    journals: new Map([[SESSION, journal]]),
    ...clients(journal.map(digestEvent)),
  });
};
const input = (answers: readonly { input_id: string; seq: number }[], refused = false) => ({
  inputs: [{ session: SESSION, key: KEY, answers, refused }],
});
const requests = (...indexes: readonly number[]) => ({
  requests: indexes.map((index) => ({
    key: KEY,
    index,
    wallMs: 0,
    fault: undefined,
    problems: [],
  })),
});
const failed = (code: string, retry: number | null = 0) =>
  [
    'model.failed',
    { step: 2, attempt: 1, error: { code, message: 'm' }, retry_in_ms: retry },
    1,
  ] as const;
/** The second step fails once and is asked for again. */
const retried = (code: string, retry: number | null = 0) => [
  ...change('model.started', 2, [
    edit('model.started', 2, {}),
    failed(code, retry),
    edit('model.started', 2, { attempt: 2 }),
  ]).slice(0, -3),
  edit('model.delta', 3, { attempt: 2 }),
  edit('model.completed', 2, { attempt: 2 }),
  edit('turn.completed', 1, {}),
];
/** Row of the first attempt of the second step. */
const SECOND_STEP = 11;

/** [what is wrong, how the report names it, the doctored history] */
const cases: readonly (readonly [string, RegExp, History])[] = [
  ['a gap in the journal', /sequence: .*event 7 in place 6/, withSeq((s) => (s > 5 ? s + 1 : s))],
  ['an epoch that rose', /sequence: .*epoch rose to 2/, withEpoch()],
  [
    'a client that saw another event',
    /sequence: client a saw another event 1/,
    makeHistory(goodRows, clients(['x', ...goodDigests.slice(1)])),
  ],
  [
    'a client that missed the end',
    /sequence: client a saw 14 of 15/,
    makeHistory(goodRows, clients(goodDigests.slice(0, -1))),
  ],
  [
    'a client that complains',
    /sequence: client a: got event 3 after 1/,
    makeHistory(goodRows, clients(goodDigests, ['got event 3 after 1'])),
  ],
  [
    'an input without an end',
    /input exactly once: .*0 turn.completed/,
    makeHistory(change('turn.completed', 1, [])),
  ],
  [
    'an input with two turns',
    /input exactly once: .*2 turn.completed/,
    makeHistory([
      ...goodRows,
      edit('turn.started', 1, { turn: 2 }),
      edit('turn.completed', 1, { turn: 2 }),
    ]),
  ],
  [
    'an input that was accepted twice',
    /input exactly once: key key-1 was accepted 2 times/,
    makeHistory([...goodRows, edit('input.accepted', 1, { input_id: 'in_2' })]),
  ],
  [
    'a 202 that the journal does not know',
    /input exactly once: key key-1 was answered with 202/,
    makeHistory(change('input.accepted', 1, [edit('input.accepted', 1, { idempotency_key: 'x' })])),
  ],
  [
    'a 202 with another number',
    /input exactly once: key key-1 was answered as in_9/,
    makeHistory(goodRows, input([{ input_id: 'in_9', seq: 2 }])),
  ],
  [
    'a refused input that was accepted',
    /input exactly once: key key-1 was refused/,
    makeHistory(goodRows, input([], true)),
  ],
  [
    'a call that acted twice',
    /tool at most once: call 1.1.1 acted 2 times/,
    makeHistory(goodRows, { effects: new Map([[TOKEN, 2]]) }),
  ],
  [
    'a call that is ok and did nothing',
    /tool at most once: call 1.1.1 is ok and has not acted/,
    makeHistory(goodRows, { effects: new Map() }),
  ],
  [
    'a call that acted though it was never started',
    /tool at most once: call 1.1.1 acted, yet its status is error/,
    makeHistory(
      swap('tool.completed', 1, { status: 'error' }).filter(([type]) => type !== 'tool.started'),
    ),
  ],
  [
    'a writing call that was started twice',
    /tool at most once: call 1.1.1 ran again/,
    makeHistory(
      change('tool.started', 1, [
        edit('tool.started', 1, {}),
        edit('tool.started', 1, { attempt: 2 }),
      ]),
    ),
  ],
  [
    'a call without an end',
    /tool at most once: call 1.1.1 has no end in a turn that completed/,
    makeHistory(change('tool.completed', 1, []).filter(([type]) => type !== 'tool.requested')),
  ],
  [
    'a mark of no call',
    /tool at most once: 'stray' acted and is in no journal/,
    makeHistory(goodRows, {
      effects: new Map([
        [TOKEN, 1],
        ['stray', 1],
      ]),
    }),
  ],
  [
    'a call that ran although it was denied',
    /tool at most once: call 1.1.1 was started although nobody approved/,
    makeHistory(
      change('tool.started', 1, [
        [
          'approval.requested',
          { call_id: '1.1.1', digest: 'd', tool: 'shell', arguments: {}, expires_at: '' },
          1,
        ],
        ['approval.resolved', { call_id: '1.1.1', decision: 'deny', by: 'a' }, 1],
        edit('tool.started', 1, {}),
      ]),
    ),
  ],
  [
    'a call that was denied by nobody',
    /tool at most once: call 1.1.1 was denied by nobody: no sandbox/,
    makeHistory(swap('tool.completed', 1, { status: 'denied', output: 'no sandbox' })),
  ],
  [
    'a request that was paid twice',
    /model call: step 1 .* asked for 2 times; the journal has 1/,
    makeHistory(goodRows, requests(0, 1, 1)),
  ],
  [
    'an answer that nobody gave',
    /model call: step 1 .* asked for 0 times/,
    makeHistory(goodRows, requests(0)),
  ],
  [
    'a request for a step that is in no journal',
    /model call: step 7 of key-1 is in no journal/,
    makeHistory(goodRows, requests(0, 1, 7)),
  ],
  [
    'a lost gateway that nobody killed',
    /model call: step 1 .* failed \(attempt 1, .*\) without a cause: GATEWAY_LOST/,
    makeHistory(retried('GATEWAY_LOST'), requests(0, 1, 1)),
  ],
  [
    'an attempt after the last one',
    /model call: step 1 .* went on after its last attempt/,
    makeHistory(retried('CANCELLED', null), requests(0, 1, 1)),
  ],
  [
    'two attempts in one text',
    /model call: step 1 .* 'three three four'/,
    makeHistory(
      change('model.completed', 2, [
        edit('model.completed', 2, { message: { text: 'three three four', tool_calls: [] } }),
      ]),
    ),
  ],
  [
    'a delta of an attempt that is over',
    /model call: step 1 .* delta of attempt 1 out of its time/,
    makeHistory(
      retried('GATEWAY_LOST').flatMap((row) =>
        row[0] === 'model.delta' && (row[1] as { attempt: number }).attempt === 2
          ? [edit('model.delta', 3, { attempt: 1 }), row]
          : [row],
      ),
      requests(0, 1, 1),
    ),
  ],
  [
    'a worker that asked differently',
    /model call: a worker asked differently/,
    makeHistory([...goodRows, ['model.mismatched', { step: 1, expected: 'a', actual: 'b' }, 1]]),
  ],
  [
    'a transcript that is not well formed',
    /transcript: step 0 of key-1: bad/,
    makeHistory(goodRows, {
      requests: [
        { key: KEY, index: 0, wallMs: 0, fault: undefined, problems: ['bad'] },
        ...requests(1).requests,
      ],
    }),
  ],
  [
    'a second worker before the first one ended',
    /one worker: generation 2 started before 1/,
    makeHistory([...goodRows, edit('worker.started', 1, { generation: 2 })]),
  ],
  [
    'a generation that was given twice',
    /one worker: generation 1 follows 1/,
    makeHistory([...goodRows, edit('worker.started', 1, {})]),
  ],
  [
    'a turn that failed',
    /turn outcome: turn 1 ended as failed/,
    makeHistory(swap('turn.completed', 1, { outcome: 'failed', reason: 'why' })),
  ],
  [
    'an interrupt that nobody asked for',
    /turn outcome: turn 1 ended as interrupted/,
    makeHistory(swap('turn.completed', 1, { outcome: 'interrupted' })),
  ],
  [
    'a session that failed',
    /session failed: why/,
    makeHistory([...goodRows, ['session.state', { from: 'running', to: 'failed', reason: 'why' }]]),
  ],
];

describe('flagged', () => {
  test.each(cases)('%s', (_, message, history) => {
    expect(found(history)).toEqual(expect.arrayContaining([expect.stringMatching(message)]));
  });
});

describe('not flagged', () => {
  test.each([
    ['killed', 'kill gateway' as const],
    ['frozen for longer than its heartbeat allows', 'freeze gateway' as const],
  ])('a lost gateway that was %s in that time', (_, kind) => {
    const faults = [fault(kind, timeOf(SECOND_STEP))];
    const history = makeHistory(retried('GATEWAY_LOST'), { ...requests(0, 1, 1), faults });
    expect(found(history)).toEqual([]);
  });

  test('a call whose sandbox was killed as it started', () => {
    const output = 'the sandbox could not be started; nothing ran: killed';
    const rows = swap('tool.completed', 1, { status: 'denied', output }).filter(
      ([type]) => type !== 'tool.started',
    );
    const faults = [fault('kill call', timeOf(8))];
    expect(found(makeHistory(rows, { effects: new Map(), faults }))).toEqual([]);
    expect(found(makeHistory(rows, { effects: new Map() }))).toHaveLength(1);
  });

  test('a turn that opened while its session was being closed', () => {
    const closing = ['session.state', { from: 'running', to: 'stopping', reason: 'r' }] as const;
    const end = edit('turn.completed', 1, { outcome: 'interrupted' });
    expect(found(makeHistory(change('turn.completed', 1, [closing, end])))).toEqual([]);
  });

  test('a second worker after a new start of the supervisor', () => {
    const rows = [...goodRows, edit('worker.started', 1, { generation: 2 })];
    expect(found(makeHistory(rows, { startsMs: [timeOf(10)] }))).toEqual([]);
  });

  test('what a fork copied from a session that was in the middle of a turn', () => {
    const rows = [...goodRows.slice(0, 10), edit('session.created', 1, {})];
    const history = makeHistory(rows, { ...requests(), inputs: [], effects: new Map() });
    expect(found(history)).toEqual([]);
  });
});
