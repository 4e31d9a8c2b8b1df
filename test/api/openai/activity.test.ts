/** The reading of one turn, and its two shapes: from a written history to what a client gets. */
import { describe, expect, test } from '@jest/globals';
import { type Activity, createTurnReader } from '../../../api/openai/activity.ts';
import { parseResponseId, toId } from '../../../api/openai/address.ts';
import { toChatCompletion, toChatFrames } from '../../../api/openai/chat.ts';
import { toOpenaiError } from '../../../api/openai/error.ts';
import { createResponseBuilder, toResponseFrames } from '../../../api/openai/responses.ts';
import type { Turn } from '../../../api/openai/turn.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';
import {
  type EffectId,
  type InputId,
  inputIdSchema,
  sessionIdSchema,
} from '../../../protocol/ids.ts';

const inputId: InputId = inputIdSchema.parse('in_mine');
const session = sessionIdSchema.parse('s_0123456789abcdef');
const turn: Turn = { session, seq: 4, agent: 'default', createdAt: 7, of: { inputId } };
const usage = { input_tokens: 10, output_tokens: 5, cached_input_tokens: 3 };

type Fact = readonly [type: string, data: object, turn?: number];

const started = (step: number, attempt: number, purpose = 'step'): Fact => [
  'model.started',
  { step, attempt, model: 'm', request_digest: 'd', purpose },
];
const delta = (step: number, attempt: number, text: string): Fact => [
  'model.delta',
  { step, attempt, kind: 'text', text },
];
const completed = (step: number, attempt: number, text: string, finish = 'stop'): Fact => [
  'model.completed',
  {
    ...{ step, attempt, usage, cost_usd: 0, latency_ms: 1, finish_reason: finish },
    message: { text, tool_calls: [] },
  },
];
const begin: Fact = ['turn.started', { turn: 2, input_id: inputId, attempt: 1 }];
const end = (outcome: string, id: string = inputId): Fact => [
  'turn.completed',
  { turn: 2, input_id: id, outcome, usage, cost_usd: 0.5, steps: 1, reason: 'why' },
];

function toEvents(facts: readonly Fact[]): EventEnvelope[] {
  return facts.map(([type, data, number = 2], index) => ({
    ...{ session, seq: index + 5, epoch: 1, time: '2026-01-01T00:00:00.000Z' },
    ...{ type, turn: number, data },
  }));
}

function read(facts: readonly Fact[]): Activity[] {
  const reader = createTurnReader({ inputId });
  return toEvents(facts).flatMap((event) => [...reader(event)]);
}

async function* each(facts: readonly Fact[]): AsyncGenerator<Activity> {
  yield* read(facts);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const plain = [begin, started(1, 1), delta(1, 1, 'a'), completed(1, 1, 'ab'), end('completed')];

describe('the reading of a turn', () => {
  test('is of its own input: another turn, and what came before, say nothing', () => {
    const other: Fact[] = [
      ['turn.started', { turn: 1, input_id: 'in_other', attempt: 1 }, 1],
      ['model.started', { step: 1, attempt: 1, model: 'm', request_digest: 'd' }, 1],
      ['model.delta', { step: 1, attempt: 1, kind: 'text', text: 'no' }, 1],
    ];
    expect(read(other)).toEqual([]);
    expect(read([...other, ...plain]).map(({ kind }) => kind)).toEqual([
      ...['started', 'text', 'text', 'step-ended', 'ended'],
    ]);
  });

  test('gives the rest of a message whose deltas are not all there', () => {
    expect(read(plain)).toContainEqual({ kind: 'text', step: 1, text: 'b' });
  });

  test('does not repeat a turn that is attempted again', () => {
    const again: Fact = ['turn.started', { turn: 2, input_id: inputId, attempt: 2 }];
    expect(read([begin, again])).toEqual([{ kind: 'started', turn: 2 }]);
  });

  test.each([
    ['text was shown: said', [delta(1, 1, 'a')], true],
    ['nothing was shown: silent', [], false],
  ])('a new attempt, %s', (_name, before, isSaid) => {
    const kinds = read([begin, started(1, 1), ...before, started(1, 2), delta(1, 2, 'z')]);
    expect(kinds.some(({ kind }) => kind === 'superseded')).toBe(isSaid);
  });

  test('a late delta of an earlier attempt is not shown', () => {
    const facts = [begin, started(1, 1), started(1, 2), delta(1, 1, 'old'), delta(1, 2, 'new')];
    expect(read(facts).filter(({ kind }) => kind === 'text')).toEqual([
      { kind: 'text', step: 1, text: 'new' },
    ]);
  });

  test('what a compaction writes is not shown', () => {
    const hidden = [started(1, 1, 'compaction'), delta(1, 1, 'sum'), completed(1, 1, 'sum')];
    expect(read([begin, ...hidden])).toEqual([{ kind: 'started', turn: 2 }]);
  });
});

describe('a chat completion', () => {
  test('joins the texts of the steps, streamed and whole alike', async () => {
    const facts = [
      ...[begin, started(1, 1), delta(1, 1, 'one'), completed(1, 1, 'one', 'tool_calls')],
      ...[started(2, 1), delta(2, 1, 'two'), completed(2, 1, 'two'), end('completed')],
    ];
    const frames = await collect(toChatFrames(turn, each(facts), { includeUsage: true }));
    expect(frames.at(-1)).toEqual({ data: '[DONE]' });
    const chunks = frames.slice(0, -1).map(({ data }) => JSON.parse(data));
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
    expect(text).toBe('one\n\ntwo');
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
    });
    const whole = await toChatCompletion(turn, each(facts));
    expect(whole).toMatchObject({
      kind: 'completion',
      completion: { choices: [{ message: { content: text }, finish_reason: 'stop' }] },
    });
  });

  test.each([
    ['completed', 'stop', 'stop'],
    ['completed', 'length', 'length'],
    ['completed', 'content_filter', 'content_filter'],
    ['interrupted', 'stop', 'stop'],
    ['max_turns', 'tool_calls', 'length'],
    ['budget', 'stop', 'length'],
    ['timeout', 'stop', 'length'],
    ['refused', 'stop', 'content_filter'],
  ])('of a turn that ended as %s, the model for %s: finish_reason %s', async (outcome, by, as) => {
    const facts = [begin, started(1, 1), completed(1, 1, 'x', by), end(outcome)];
    const result = await toChatCompletion(turn, each(facts));
    expect(result).toMatchObject({ completion: { choices: [{ finish_reason: as }] } });
  });

  const superseded = [begin, started(1, 1), delta(1, 1, 'a'), started(1, 2)];
  const failed: Fact[] = [begin, end('failed')];
  const lost: Fact[] = [begin, ['session.state', { from: 'running', to: 'failed', reason: 'r' }]];
  test('of a turn that failed says why, as the event does', async () => {
    const error = { code: 'PROVIDER_REFUSED', message: 'answered 400: no such model' };
    const facts: Fact[] = [begin, ['turn.completed', { ...end('failed')[1], error }]];
    expect(await toChatCompletion(turn, each(facts))).toMatchObject({
      kind: 'failure',
      error: { code: 'turn_failed', message: `the turn failed: ${error.message}` },
    });
  });

  test.each([
    ['is replaced after it was shown', superseded, 'superseded'],
    ['failed', failed, 'turn_failed'],
    ['was parked', lost, 'session_lost'],
    ['is cut off', [begin], 'unfinished'],
  ])('of a turn that %s ends with an error chunk', async (_name, facts, code) => {
    const frames = await collect(toChatFrames(turn, each(facts), { includeUsage: false }));
    expect(JSON.parse(frames.at(-1)?.data ?? '')).toMatchObject({ error: { code } });
  });
});

describe('a response', () => {
  const build = async (facts: readonly Fact[], attempts: 'fail' | 'replace') => {
    const builder = createResponseBuilder(turn, {}, attempts);
    const frames = await collect(toResponseFrames(builder, each(facts), -1));
    return { frames: frames.map(({ data }) => JSON.parse(data)), view: builder.view() };
  };

  test('is numbered without a gap, and the same from any position on', async () => {
    const { frames } = await build(plain, 'fail');
    expect(frames.map((frame) => frame.sequence_number)).toEqual(frames.map((_, at) => at));
    const builder = createResponseBuilder(turn, {}, 'fail');
    const later = await collect(toResponseFrames(builder, each(plain), 3));
    expect(later.map(({ data }) => JSON.parse(data))).toEqual(frames.slice(4));
  });

  test('text that was shown and is replaced: the stream fails, the whole has the newer', async () => {
    const facts = [
      ...[begin, started(1, 1), delta(1, 1, 'old'), started(1, 2), delta(1, 2, 'new')],
      ...[completed(1, 2, 'new'), end('completed')],
    ];
    const stream = await build(facts, 'fail');
    expect(stream.frames.at(-1)).toMatchObject({ type: 'response.failed' });
    const whole = await build(facts, 'replace');
    expect(whole.view).toMatchObject({
      status: 'completed',
      output: [{ type: 'message', content: [{ text: 'new' }] }],
    });
  });

  test('a message that is not what was streamed is shown as it is, in the whole', async () => {
    const facts = [begin, started(1, 1), delta(1, 1, 'x'), completed(1, 1, 'y'), end('completed')];
    expect((await build(facts, 'replace')).view).toMatchObject({
      output: [{ content: [{ text: 'y' }] }],
    });
  });

  const id = '2.1.1' as EffectId; // written here, not read from outside
  const call: Fact = [
    'tool.requested',
    { call_id: id, tool: 'shell', arguments: { command: 'ls' }, effect: 'write' },
  ];
  const result = (status: string): Fact => [
    'tool.completed',
    { call_id: id, status, output: 'out', duration_ms: 1, truncated: false },
  ];

  test.each([
    ['ok', { status: 'completed', output: 'out', error: null }],
    ['timeout', { status: 'failed', output: null, error: 'timeout: out' }],
  ])('a tool call that ended %s', async (status, shown) => {
    const { view } = await build([begin, call, result(status), end('completed')], 'fail');
    expect(view).toMatchObject({
      output: [{ type: 'mcp_call', name: 'shell', arguments: '{"command":"ls"}', ...shown }],
    });
  });

  test.each([
    ['failed', [end('failed')]],
    ['was lost', [['session.state', { from: 'running', to: 'failed', reason: 'r' }] as Fact]],
    ['was interrupted', [end('interrupted')]],
  ])('of a turn that %s leaves nothing in progress', async (_name, ending) => {
    const open = [begin, started(1, 1), delta(1, 1, 'par'), call];
    const { view, frames } = await build([...open, ...ending], 'fail');
    const output = [
      { type: 'message', status: 'incomplete', content: [{ text: 'par' }] },
      { type: 'mcp_call', status: 'incomplete' },
    ];
    expect(view).toMatchObject({ output });
    expect(frames.at(-1)).toMatchObject({ response: { output } });
  });

  test('an approval that waits ends it, and the same turn goes on in the next', async () => {
    const asked: Fact = [
      'approval.requested',
      { call_id: id, digest: 'd', tool: 'shell', arguments: {}, expires_at: 'later' },
    ];
    const { view, frames } = await build([begin, call, asked, result('ok')], 'fail');
    expect(view).toMatchObject({
      status: 'completed',
      output: [{ type: 'mcp_call' }, { type: 'mcp_approval_request', id: 'mcpr_2.1.1' }],
    });
    expect(frames.at(-1)).toMatchObject({ type: 'response.completed' });
    const reader = createTurnReader({ turn: 2 });
    const rest = toEvents([result('ok'), end('completed', 'in_any')]).flatMap(reader);
    expect(rest.map(({ kind }) => kind)).toEqual(['tool-ended', 'ended']);
  });

  test('has what its request gave it to carry', () => {
    const given = { instructions: 'be brief', metadata: { a: 'b' }, background: true };
    const { view } = createResponseBuilder(
      turn,
      { ...given, previousResponseId: 'resp_x' },
      'fail',
    );
    expect(view()).toMatchObject({ ...given, previous_response_id: 'resp_x' });
  });

  test.each([
    ['completed', 'stop', 'completed', null],
    ['completed', 'length', 'incomplete', { reason: 'max_output_tokens' }],
    ['interrupted', 'stop', 'cancelled', null],
    ['refused', 'stop', 'incomplete', { reason: 'content_filter' }],
    ['budget', 'stop', 'incomplete', { reason: 'max_output_tokens' }],
    ['failed', 'stop', 'failed', null],
  ])('of a turn that ended as %s, the model for %s: %s', async (outcome, by, status, details) => {
    const facts = [begin, started(1, 1), completed(1, 1, 'x', by), end(outcome)];
    expect((await build(facts, 'fail')).view).toMatchObject({
      status,
      incomplete_details: details,
      usage: { input_tokens: 10, total_tokens: 15, input_tokens_details: { cached_tokens: 3 } },
      prx: { session, turn: 2, outcome, reason: 'why', cost_usd: 0.5 },
    });
  });
});

test('an approval that is answered is told, though its event is of no turn (regression)', () => {
  const resolved = { call_id: '2.1.1', decision: 'approve', by: 'socket' };
  const reader = createTurnReader({ inputId });
  const events = toEvents([begin, ['approval.resolved', resolved]]);
  const told = events.flatMap(({ turn: _, ...rest }) => [...reader(rest)]);
  expect(told.at(-1)).toEqual({ kind: 'approval-resolved', callId: '2.1.1' });
});

test('ids lead back to where their answer begins, and others are not found', () => {
  expect(toId('resp', turn)).toBe('resp_0123456789abcdef_4');
  expect(parseResponseId('resp_0123456789abcdef_4')).toEqual({ session, seq: 4 });
  for (const id of ['resp_1', 'chatcmpl_0123456789abcdef_4', 'resp_0123456789abcdef_4x']) {
    expect(() => parseResponseId(id)).toThrow(`there is no response '${id}'`);
  }
});

test.each([
  [400, { issues: [{ path: 'body.tools' }] }, 'invalid_request_error', 'tools'],
  [400, { issues: [{ path: 'body', keys: ['bogus', 'x'] }] }, 'invalid_request_error', 'bogus'],
  [404, { param: 'model', code: 'model_not_found' }, 'invalid_request_error', 'model'],
  [405, {}, 'invalid_request_error', null],
  [415, {}, 'invalid_request_error', null],
  [429, {}, 'rate_limit_error', null],
  [503, {}, 'server_error', null],
])('a problem of status %d is an error of that API', (status, data, type, param) => {
  const problem = { type: 't', title: 't', status, code: 'X', detail: 'd', data };
  expect(toOpenaiError(problem).error).toMatchObject({ message: 'd', type, param });
});
