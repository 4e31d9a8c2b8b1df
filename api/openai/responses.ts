/** A turn as a response. Tools that the agent ran are items of the type mcp_call, which is how this
 *  API shows what a server ran itself; an approval that waits ends the response with an item
 *  mcp_approval_request, and the client's mcp_approval_response goes on with the same turn.
 *
 *  Items and events are a function of the journal alone, sequence numbers included: a stream can
 *  be taken up again behind any of them, after any restart. */
import { assert } from '../../base/assert.ts';
import type { Usage } from '../../protocol/content.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { StreamFrame } from '../route.ts';
import type { Activity, TurnEnd } from './activity.ts';
import { toId } from './address.ts';
import { findFailure, toError, toSummary } from './chat.ts';
import type { OpenaiError } from './error.ts';
import type { Turn } from './turn.ts';

type Json = Readonly<Record<string, unknown>>;

interface ResponseEvent extends Json {
  readonly type: string;
}

type Status = 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled';

export interface ResponseOptions {
  readonly previousResponseId?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly background?: boolean | undefined;
  readonly instructions?: string | undefined;
}

/** The label of tools that run here. */
const SERVER_LABEL = 'prx';

export interface ResponseBuilder {
  /** The events of one step of the turn; empty when it shows nothing. */
  push(activity: Activity): readonly ResponseEvent[];
  /** The response as it stands. */
  view(): Json;
  /** No further event follows. */
  isEnded(): boolean;
}

interface Item {
  readonly id: string;
  readonly index: number;
  value: Json;
}

/** @param attempts  `fail`: text that was shown and is replaced ends the response as failed, for
 *  streams; `replace`: the newer text simply stands, for answers that are read whole. */
export function createResponseBuilder(
  turn: Turn,
  options: ResponseOptions,
  attempts: 'fail' | 'replace',
): ResponseBuilder {
  const items: Item[] = [];
  const calls = new Map<EffectId, Item>();
  let message: { item: Item; step: number; text: string } | undefined;
  let status: Status = 'in_progress';
  let rest: Json = {};
  const view = (): Json => toResponse(turn, options, { status, items, rest });

  const add = (id: string, value: Json): Item => {
    const item = { id, index: items.length, value: { id, ...value } };
    items.push(item);
    return item;
  };
  const finish = (end: Status, fields: Json): ResponseEvent[] => {
    status = end;
    rest = fields;
    // A call that waits for an approval completes its response, and goes on in the next.
    if (end !== 'completed') cutOff(items);
    // There is no event response.cancelled: who interrupts is told by the status.
    const type = end === 'cancelled' ? 'incomplete' : end;
    return [{ type: `response.${type}`, response: view() }];
  };
  const fail = (error: OpenaiError): ResponseEvent[] =>
    finish('failed', { error: { code: 'server_error', message: error.message } });

  const text = (step: number, delta: string): ResponseEvent[] => {
    const opened: ResponseEvent[] = [];
    if (message?.step !== step) {
      const item = add(`msg_${turn.seq}_${step}`, toMessage('in_progress', ''));
      message = { item, step, text: '' };
      opened.push(...openMessage(item));
    }
    message.text += delta;
    message.item.value = { id: message.item.id, ...toMessage('in_progress', message.text) };
    return [
      ...opened,
      { type: 'response.output_text.delta', ...at(message.item), delta, logprobs: [] },
    ];
  };
  const endMessage = (step: number, whole: string): ResponseEvent[] => {
    if (whole === '' && message === undefined) return [];
    const opened = message === undefined ? text(step, whole) : [];
    assert(message !== undefined, 'a text opens its message');
    const { item } = message;
    item.value = { id: item.id, ...toMessage('completed', whole) };
    message = undefined;
    return [...opened, ...closeMessage(item, whole)];
  };

  const push = (activity: Activity): readonly ResponseEvent[] => {
    switch (activity.kind) {
      case 'started':
        return [{ type: 'response.in_progress', response: view() }];
      case 'text':
        return text(activity.step, activity.text);
      case 'reasoning':
        return [];
      case 'step-ended':
        return endMessage(activity.step, activity.text);
      case 'superseded':
        if (attempts === 'fail') return fail(toError(activity));
        // Calls are asked for behind the text of their step: the message is the last item.
        if (message !== undefined) items.pop();
        message = undefined;
        return [];
      case 'tool-requested': {
        const item = add(`mcp_${turn.seq}_${activity.callId}`, toCall(activity, 'in_progress'));
        calls.set(activity.callId, item);
        return openCall(item, activity.arguments);
      }
      case 'tool-ended': {
        const item = calls.get(activity.callId);
        return item === undefined ? [] : closeCall(item, activity);
      }
      case 'approval-requested': {
        const id = toApprovalId(activity.callId);
        const { tool: name, arguments: args } = activity;
        const value = { type: 'mcp_approval_request', server_label: SERVER_LABEL, name };
        const item = add(id, { ...value, arguments: args });
        return [...openItem(item), ...closeItem(item), ...finish('completed', {})];
      }
      case 'approval-resolved':
        return [];
      case 'lost':
        return fail(toError(activity));
      case 'ended':
        return end(activity);
    }
  };
  const end = (ended: Extract<Activity, { kind: 'ended' }>): ResponseEvent[] => {
    const failure = findFailure(ended.end);
    const told = { usage: toUsage(ended.end.usage), prx: toSummary(turn, ended) };
    if (failure !== undefined) {
      return finish('failed', {
        ...told,
        error: { code: 'server_error', message: failure.message },
      });
    }
    const [as, reason] = toStatus(ended.end);
    const details = reason === undefined ? {} : { incomplete_details: { reason } };
    return finish(as, { ...told, ...details });
  };
  return { push, view, isEnded: () => status !== 'in_progress' };
}

/** The frames of a streamed response, numbered from 0; those up to `after` are left out. */
export async function* toResponseFrames(
  builder: ResponseBuilder,
  activities: AsyncIterable<Activity>,
  after: number,
): AsyncGenerator<StreamFrame> {
  let number = 0;
  const toFrames = (events: readonly ResponseEvent[]): StreamFrame[] =>
    events.flatMap((event) => {
      const sequence = number;
      number += 1;
      if (sequence <= after) return [];
      const data = JSON.stringify({ ...event, sequence_number: sequence });
      return [{ event: event.type, data }];
    });
  yield* toFrames([{ type: 'response.created', response: builder.view() }]);
  for await (const activity of activities) {
    yield* toFrames(builder.push(activity));
    if (builder.isEnded()) return;
  }
}

/** The whole response, once it has ended; as far as it got when the activities end before. */
export async function toWholeResponse(
  builder: ResponseBuilder,
  activities: AsyncIterable<Activity> | Iterable<Activity>,
): Promise<Json> {
  for await (const activity of activities) {
    builder.push(activity);
    if (builder.isEnded()) break;
  }
  return builder.view();
}

function toApprovalId(callId: EffectId): string {
  return `mcpr_${callId}`;
}

function toStatus({ outcome, finishReason }: TurnEnd): [Status, string?] {
  switch (outcome) {
    case 'completed':
      if (finishReason === 'length') return ['incomplete', 'max_output_tokens'];
      if (finishReason === 'content_filter') return ['incomplete', 'content_filter'];
      return ['completed'];
    case 'interrupted':
      return ['cancelled'];
    case 'refused':
      return ['incomplete', 'content_filter'];
    case 'max_turns':
    case 'budget':
    case 'timeout':
    case 'failed':
      return ['incomplete', 'max_output_tokens'];
  }
}

function toResponse(
  turn: Turn,
  { previousResponseId, metadata, background, instructions }: ResponseOptions,
  state: { status: Status; items: readonly Item[]; rest: Json },
): Json {
  return {
    id: toId('resp', turn),
    object: 'response',
    created_at: turn.createdAt,
    status: state.status,
    background: background ?? false,
    error: null,
    incomplete_details: null,
    instructions: instructions ?? null,
    max_output_tokens: null,
    metadata: metadata ?? {},
    model: turn.agent,
    output: state.items.map(({ value }) => value),
    parallel_tool_calls: true,
    previous_response_id: previousResponseId ?? null,
    reasoning: { effort: null, summary: null },
    store: true,
    temperature: null,
    text: { format: { type: 'text' } },
    tool_choice: 'auto',
    tools: [],
    top_p: null,
    truncation: 'auto',
    usage: null,
    prx: { session: turn.session },
    ...state.rest,
  };
}

/** Nothing more comes to what is still open. */
function cutOff(items: readonly Item[]): void {
  for (const item of items) {
    if (item.value['status'] !== 'in_progress') continue;
    item.value = { ...item.value, status: 'incomplete' };
  }
}

function at(item: Item): Json {
  return { item_id: item.id, output_index: item.index, content_index: 0 };
}

function toMessage(status: string, text: string): Json {
  return { type: 'message', role: 'assistant', status, content: [toPart(text)] };
}

function toPart(text: string): Json {
  return { type: 'output_text', text, annotations: [], logprobs: [] };
}

function openItem({ index, value }: Item): ResponseEvent[] {
  return [{ type: 'response.output_item.added', output_index: index, item: value }];
}

function closeItem({ index, value }: Item): ResponseEvent[] {
  return [{ type: 'response.output_item.done', output_index: index, item: value }];
}

function openMessage(item: Item): ResponseEvent[] {
  const empty = { ...item, value: { ...item.value, content: [] } };
  return [
    ...openItem(empty),
    { type: 'response.content_part.added', ...at(item), part: toPart('') },
  ];
}

function closeMessage(item: Item, text: string): ResponseEvent[] {
  return [
    { type: 'response.output_text.done', ...at(item), text, logprobs: [] },
    { type: 'response.content_part.done', ...at(item), part: toPart(text) },
    ...closeItem(item),
  ];
}

type Requested = Extract<Activity, { kind: 'tool-requested' | 'approval-requested' }>;

function toCall({ tool, arguments: args }: Requested, status: string): Json {
  const call = { type: 'mcp_call', server_label: SERVER_LABEL, name: tool, arguments: args };
  return { ...call, status, output: null, error: null };
}

function openCall(item: Item, args: string): ResponseEvent[] {
  const place = { item_id: item.id, output_index: item.index };
  return [
    ...openItem(item),
    { type: 'response.mcp_call.in_progress', ...place },
    { type: 'response.mcp_call_arguments.done', ...place, arguments: args },
  ];
}

function closeCall(
  item: Item,
  { status, output }: Extract<Activity, { kind: 'tool-ended' }>,
): ResponseEvent[] {
  const isOk = status === 'ok';
  const error = isOk ? null : `${status}: ${output}`;
  const state = isOk ? 'completed' : 'failed';
  item.value = { ...item.value, status: state, output: isOk ? output : null, error };
  const place = { item_id: item.id, output_index: item.index };
  return [{ type: `response.mcp_call.${state}`, ...place }, ...closeItem(item)];
}

function toUsage(usage: Usage): Json {
  const { input_tokens, output_tokens } = usage;
  return {
    input_tokens,
    input_tokens_details: { cached_tokens: usage.cached_input_tokens ?? 0 },
    output_tokens,
    output_tokens_details: { reasoning_tokens: usage.reasoning_tokens ?? 0 },
    total_tokens: input_tokens + output_tokens,
  };
}
