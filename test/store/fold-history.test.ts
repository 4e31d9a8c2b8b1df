import { describe, expect, it } from '@jest/globals';
import type { EventData, EventEnvelope, EventType } from '../../protocol/events.ts';
import { foldHistory } from '../../store/fold-history.ts';
import { effectId, inputId, sessionId } from './setup-events.ts';

/** Numbers the events in order. */
function journal(...parts: readonly (EventEnvelope | readonly EventEnvelope[])[]) {
  return parts.flat().map((event, index) => ({ ...event, seq: index + 1 }));
}

function of<T extends EventType>(type: T, data: EventData<T>, turn?: number): EventEnvelope {
  const place = { session: sessionId(1), seq: 0, epoch: 1, time: '' };
  return { ...place, type, ...(turn === undefined ? {} : { turn }), data };
}

const content = (text: string) => [{ type: 'text' as const, text }];
const said = (id: string) => ({ input_id: inputId(id), content: content(id) });

const input = (id: string) =>
  of('input.accepted', { ...said(id), source: 'x', on_busy: 'enqueue' });
const start = (turn: number, id = `in_${turn}`, attempt = 1) => [
  ...(attempt === 1 ? [input(id)] : []),
  of('turn.started', { turn, input_id: inputId(id), attempt }, turn),
];
const usage = { input_tokens: 1, output_tokens: 1 };
const end = (turn: number, outcome: EventData<'turn.completed'>['outcome'] = 'completed') =>
  of(
    'turn.completed',
    { turn, input_id: inputId(`in_${turn}`), outcome, usage, cost_usd: 0, steps: 1 },
    turn,
  );
const ask = (turn: number, step: number, purpose: 'step' | 'compaction' = 'step') =>
  of('model.started', { step, attempt: 1, model: 'm', request_digest: 'd', purpose }, turn);
const calls = (n: number) =>
  Array.from({ length: n }, (_, i) => ({ id: `c${i + 1}`, name: 'shell', arguments: '{}' }));
const answer = (
  turn: number,
  step: number,
  toolCalls = 0,
  finish_reason: EventData<'model.completed'>['finish_reason'] = 'stop',
) =>
  of(
    'model.completed',
    {
      step,
      attempt: 1,
      message: { text: `${turn}.${step}`, tool_calls: calls(toolCalls) },
      usage,
      cost_usd: 0,
      finish_reason,
      latency_ms: 1,
    },
    turn,
  );
const toolStart = (id: string) =>
  of('tool.started', { call_id: effectId(id), level: 'none', limits: {} }, 1);
const ok = { status: 'ok' as const, output: 'done', duration_ms: 1, truncated: false };
const toolEnd = (id: string) => of('tool.completed', { call_id: effectId(id), ...ok }, 1);
const compacted = (turn: number, step: number, from_turn: number, from_step: number) =>
  of(
    'context.compacted',
    {
      step,
      strategy: 'summarize',
      summary: `up to ${from_turn}.${from_step}`,
      from_turn,
      from_step,
      before_tokens: 9,
      after_tokens: 1,
    },
    turn,
  );
const step = (turn: number, n: number) => ({
  step: n,
  steer: [],
  message: { text: `${turn}.${n}`, tool_calls: [] },
  results: [],
});
const missing = { duration_ms: 0, truncated: false, output: expect.any(String) };

describe('foldHistory', () => {
  it('is empty without a closed turn', () => {
    expect(foldHistory([])).toEqual({ turns: [] });
    expect(foldHistory(journal(start(1), ask(1, 1), answer(1, 1)))).toEqual({ turns: [] });
  });

  it('gives each tool call of a message its one result, in order', () => {
    const events = journal(
      start(1),
      answer(1, 1, 2),
      toolStart('1.1.1'),
      toolStart('1.1.2'),
      toolEnd('1.1.2'),
      toolEnd('1.1.1'),
      answer(1, 2),
      end(1),
    );
    expect(foldHistory(events)).toEqual({
      turns: [
        {
          turn: 1,
          input: said('in_1'),
          outcome: 'completed',
          steps: [
            {
              step: 1,
              steer: [],
              message: { text: '1.1', tool_calls: calls(2) },
              results: [ok, ok],
            },
            step(1, 2),
          ],
        },
      ],
    });
  });

  it('says of a call without an outcome whether it may have run', () => {
    const events = journal(start(1), answer(1, 1, 2), toolStart('1.1.1'), end(1, 'interrupted'));
    expect(foldHistory(events).turns[0]?.steps[0]?.results).toEqual([
      { ...missing, status: 'indeterminate' },
      { ...missing, status: 'cancelled' },
    ]);
  });

  it('keeps the text of a cancelled call and drops its tool calls', () => {
    const events = journal(start(1), answer(1, 1, 1, 'cancelled'), end(1, 'interrupted'));
    expect(foldHistory(events).turns[0]?.steps).toEqual([step(1, 1)]);
  });

  it('puts steering inputs before the step they steered, answered or not', () => {
    const steer = (id: string, n: number) => [
      input(id),
      of('input.steered', { input_id: inputId(id), step: n }, 1),
    ];
    const events = journal(
      start(1),
      answer(1, 1),
      steer('in_s', 2),
      answer(1, 2),
      steer('in_t', 3),
    );
    expect(foldHistory([...events, end(1, 'interrupted')]).turns[0]?.steps).toEqual([
      step(1, 1),
      { ...step(1, 2), steer: [said('in_s')] },
      { step: 3, steer: [said('in_t')], message: { text: '', tool_calls: [] }, results: [] },
    ]);
  });

  it('leaves out the model call of a compaction', () => {
    const events = journal(
      start(1),
      ask(1, 1, 'compaction'),
      answer(1, 1),
      ask(1, 2),
      answer(1, 2),
      end(1),
    );
    expect(foldHistory(events).turns[0]?.steps).toEqual([step(1, 2)]);
  });

  it('drops turns and steps before the boundary of the last compaction', () => {
    const events = journal(
      [start(1), answer(1, 1), end(1)].flat(),
      [start(2), answer(2, 1), answer(2, 2), end(2)].flat(),
      [start(3), compacted(3, 1, 2, 2), answer(3, 2), end(3)].flat(),
    );
    const { turns, compaction } = foldHistory(events);
    expect(turns.map((turn) => [turn.turn, turn.steps])).toEqual([
      [2, [step(2, 2)]],
      [3, [step(3, 2)]],
    ]);
    expect(compaction).toMatchObject({ turn: 3, step: 1, from_turn: 2, summary: 'up to 2.2' });
  });

  it('keeps the boundary before an open turn, so that its replay starts from the same', () => {
    const events = journal(
      [start(1), answer(1, 1), end(1)].flat(),
      [start(2), compacted(2, 1, 2, 1)].flat(),
    );
    expect(foldHistory(events)).toEqual({
      turns: [{ turn: 1, input: said('in_1'), outcome: 'completed', steps: [step(1, 1)] }],
    });
  });

  it('takes a second attempt as the same turn', () => {
    const events = journal(start(1), answer(1, 1), start(1, 'in_1', 2), answer(1, 2), end(1));
    expect(foldHistory(events).turns).toMatchObject([{ steps: [{ step: 1 }, { step: 2 }] }]);
  });

  it('closes the turn that was open where a fork was cut', () => {
    const data = {
      agent: 'a',
      workspace: '/w',
      private_workspace: false,
      labels: {},
      approve: 'ask' as const,
      source: 'fork',
      forked_from: { session: 's_0', seq: 3 },
    };
    const events = journal(start(1), answer(1, 1, 1), of('session.created', data));
    expect(foldHistory(events).turns).toMatchObject([
      { outcome: 'interrupted', steps: [{ results: [{ status: 'cancelled' }] }] },
    ]);
  });

  it('ignores a type that it does not know (FAULTS 59)', () => {
    const unknown = { ...input('in_x'), type: 'of.tomorrow' };
    expect(foldHistory(journal(start(1), unknown, answer(1, 1), end(1))).turns).toHaveLength(1);
  });
});
