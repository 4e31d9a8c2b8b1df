/** A small history in which all is well: one session, one turn with a shell call, one client. Each
 *  test breaks one thing in it. */
import {
  createHistory,
  digestEvent,
  type History,
  type InjectedFault,
} from '../../chaos/history.ts';
import type { TurnScript } from '../../chaos/script.ts';
import type { EventEnvelope } from '../../protocol/events.ts';

export const SESSION = 's_0123456789abcdef';
export const KEY = 'key-1';
export const TOKEN = `${KEY}.0.0`;
const T0 = Date.parse('2026-01-01T00:00:00.000Z');

export const script: TurnScript = {
  chaos: KEY,
  steps: [
    {
      say: 'one two',
      pauseMs: 0,
      calls: [{ tool: 'shell', arguments: { command: `echo ${TOKEN} >> effects` }, token: TOKEN }],
      faults: [],
    },
    { say: 'three four', pauseMs: 0, calls: [], faults: [] },
  ],
};

type Row = readonly [type: string, data: unknown, turn?: number];

const usage = { input_tokens: 1, output_tokens: 1 };
const call = { id: 'c1', name: 'shell', arguments: '{}' };

const modelEnd = (step: number, text: string, tool_calls: readonly unknown[]): unknown => ({
  step,
  attempt: 1,
  message: { text, tool_calls },
  usage,
  cost_usd: 0,
  finish_reason: tool_calls.length > 0 ? 'tool_calls' : 'stop',
  latency_ms: 1,
});
const modelStart = (step: number): unknown => ({
  step,
  attempt: 1,
  model: 'm',
  request_digest: `d${step}`,
});
const text = (step: number, words: string): unknown => ({
  step,
  attempt: 1,
  kind: 'text',
  text: words,
});

export const goodRows: readonly Row[] = [
  [
    'session.created',
    {
      agent: 'default',
      workspace: '/w',
      private_workspace: false,
      labels: {},
      approve: 'ask',
      source: 'test',
    },
  ],
  [
    'input.accepted',
    {
      input_id: 'in_1',
      source: 'test',
      content: [{ type: 'text', text: JSON.stringify(script) }],
      on_busy: 'enqueue',
      idempotency_key: KEY,
    },
  ],
  ['worker.started', { generation: 1, pid: 10, warm: true }],
  ['turn.started', { turn: 1, input_id: 'in_1', attempt: 1 }, 1],
  ['model.started', modelStart(1), 1],
  ['model.delta', text(1, 'one'), 1],
  ['model.delta', text(1, ' two'), 1],
  ['model.completed', modelEnd(1, 'one two', [call]), 1],
  [
    'tool.requested',
    {
      call_id: '1.1.1',
      tool: 'shell',
      arguments: { command: `echo ${TOKEN} >> effects` },
      effect: 'write',
    },
    1,
  ],
  ['tool.started', { call_id: '1.1.1', level: 'none', limits: {}, attempt: 1 }, 1],
  [
    'tool.completed',
    { call_id: '1.1.1', status: 'ok', output: '', duration_ms: 1, truncated: false },
    1,
  ],
  ['model.started', modelStart(2), 1],
  ['model.delta', text(2, 'three four'), 1],
  ['model.completed', modelEnd(2, 'three four', []), 1],
  [
    'turn.completed',
    { turn: 1, input_id: 'in_1', outcome: 'completed', usage, cost_usd: 0, steps: 2 },
    1,
  ],
];

export function toEvents(rows: readonly Row[], session = SESSION): EventEnvelope[] {
  return rows.map(([type, data, turn], index) => ({
    session: session as EventEnvelope['session'],
    seq: index + 1,
    epoch: 1,
    time: new Date(T0 + index * 1000).toISOString(),
    type,
    ...(turn === undefined ? {} : { turn }),
    data,
  }));
}

/** When the event of this row happens, wall ms. */
export const timeOf = (row: number): number => T0 + row * 1000;

export const fault = (kind: InjectedFault['kind'], atMs: number): InjectedFault => ({
  kind,
  pid: 1,
  fromMs: atMs,
  toMs: atMs,
});

const request = (index: number): History['requests'][number] => ({
  key: KEY,
  index,
  wallMs: T0,
  fault: undefined,
  problems: [],
});

/** @param rows  the journal; its client saw exactly that */
export function makeHistory(
  rows: readonly Row[] = goodRows,
  change: Partial<Omit<History, 'facts'>> = {},
): History {
  const journal = toEvents(rows);
  return createHistory({
    journals: new Map([[SESSION, journal]]),
    clients: [{ session: SESSION, client: 'a', digests: journal.map(digestEvent), problems: [] }],
    inputs: [
      { session: SESSION, key: KEY, answers: [{ input_id: 'in_1', seq: 2 }], refused: false },
    ],
    effects: new Map([[TOKEN, 1]]),
    requests: [request(0), request(1)],
    faults: [],
    startsMs: [T0 - 1000],
    ...change,
  });
}

/** The good rows with some of one type replaced: by nothing, by one, by several. */
export function change(type: string, nth: number, by: readonly Row[]): readonly Row[] {
  let seen = 0;
  return goodRows.flatMap((row) => {
    if (row[0] !== type) return [row];
    seen += 1;
    return seen === nth ? by : [row];
  });
}

/** The n-th good row of a type, with other data. */
export function edit(type: string, nth: number, data: Readonly<Record<string, unknown>>): Row {
  const row = goodRows.filter(([each]) => each === type)[nth - 1];
  if (row === undefined) throw new RangeError(`there is no ${type} number ${nth}`);
  return [row[0], { ...(row[1] as object), ...data }, row[2]] as Row;
}
