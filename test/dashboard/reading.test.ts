/** What the session page makes of events: pure, so the whole of it is a table. */
import { describe, expect, test } from '@jest/globals';
import { advance, emptyReading, type Item } from '../../dashboard/reading.ts';
import type { EventEnvelope } from '../../protocol/events.ts';

type Fact = readonly [type: string, data: object];

function read(...facts: readonly Fact[]) {
  const events: EventEnvelope[] = facts.map(([type, data], at) => ({
    ...{ session: 'system', seq: at + 1, epoch: 1, time: '2026-01-01T00:00:00.000Z', turn: 1 },
    ...{ type, data },
  }));
  // One by one and all at once must come to the same.
  const once = advance(emptyReading, events);
  const steps = events.reduce((reading, event) => advance(reading, [event]), emptyReading);
  expect(steps).toEqual(once);
  return once;
}

const delta = (attempt: number, text: string, kind = 'text'): Fact => [
  'model.delta',
  { step: 1, attempt, kind, text },
];
const started = (attempt: number): Fact => ['model.started', { step: 1, attempt }];
const completed = (attempt: number, text: string): Fact => [
  'model.completed',
  {
    step: 1,
    attempt,
    message: { text, tool_calls: [] },
    usage: { input_tokens: 3, output_tokens: 2 },
  },
];
const texts = (items: readonly Item[]) =>
  items.map((item) =>
    item.kind === 'text' || item.kind === 'reasoning'
      ? [item.kind, item.text, item.isLive, item.isVoid]
      : [item.kind],
  );

describe('the conversation', () => {
  test('grows by deltas and ends with the whole message', () => {
    const { items, tokens } = read(started(1), delta(1, 'a'), delta(1, 'b'), completed(1, 'abc'));
    expect(texts(items)).toEqual([['text', 'abc', false, false]]);
    expect(tokens).toEqual([{ input_tokens: 3, output_tokens: 2 }]);
  });

  test('keeps text and reasoning apart', () => {
    const { items } = read(started(1), delta(1, 'why', 'reasoning'), delta(1, 'so'));
    expect(texts(items)).toEqual([
      ['reasoning', 'why', true, false],
      ['text', 'so', true, false],
    ]);
  });

  test('strikes out what a new attempt replaces', () => {
    const { items } = read(started(1), delta(1, 'old'), started(2), delta(2, 'new'));
    expect(texts(items)).toEqual([
      ['text', 'old', false, true],
      ['text', 'new', true, false],
    ]);
  });

  test('shows a message of which no delta came', () => {
    expect(texts(read(started(1), completed(1, 'whole')).items)).toEqual([
      ['text', 'whole', false, false],
    ]);
  });

  test('follows a tool call from its request to its outcome', () => {
    const call_id = '1.1.1';
    const { items } = read(
      ['tool.requested', { call_id, tool: 'shell', arguments: { command: 'ls' } }],
      ['approval.requested', { call_id }],
      ['tool.started', { call_id }],
      ['tool.output', { call_id, text: 'o' }],
      ['tool.completed', { call_id, status: 'ok', output: 'out', duration_ms: 1, level: 'x' }],
    );
    expect(items).toMatchObject([
      { kind: 'tool', tool: 'shell', state: 'ok', output: 'out', outcome: { level: 'x' } },
    ]);
  });
});

test.each([
  ['completed', 0],
  ['interrupted', 1],
  ['failed', 1],
])('a turn that ended as %s leaves %d notes', (outcome, count) => {
  const { items } = read(['turn.completed', { turn: 1, outcome, steps: 1 }]);
  expect(items.filter(({ kind }) => kind === 'note')).toHaveLength(count);
});

test('the timeline names deaths and limits, and marks them', () => {
  const { timeline } = read(
    ['worker.started', { generation: 1, pid: 7, warm: true }],
    ['worker.exited', { generation: 1, cause: 'memory', signal: 'SIGKILL' }],
    ['limit.exceeded', { limit: 'memory', value: 2, max: 1 }],
  );
  expect(timeline.map(({ text, isBad }) => [text, isBad])).toEqual([
    ['worker 1 started (warm)', false],
    ['worker 1 memory (SIGKILL)', true],
    ['limit memory: 2 of 1', true],
  ]);
});

test('what is kept is bounded', () => {
  const many = Array.from({ length: 600 }, (_, at): Fact => ['tool.decided', { at }]);
  expect(read(...many).raw).toHaveLength(500);
});
