/** What a session's events come to on its page: the conversation, the timeline, the curves. Pure:
 *  events in, the next reading out; the page draws it. */
import type { ToolOutcome, Usage } from '../protocol/content.ts';
import type { EventData, EventEnvelope, EventType } from '../protocol/events.ts';

export type Item =
  | { readonly kind: 'user'; readonly key: string; readonly text: string; readonly by: string }
  | {
      readonly kind: 'text' | 'reasoning';
      readonly key: string;
      readonly text: string;
      /** Still being written. */
      readonly isLive: boolean;
      /** Another attempt took its place. */
      readonly isVoid: boolean;
    }
  | {
      readonly kind: 'tool';
      readonly key: string;
      readonly tool: string;
      readonly arguments: unknown;
      readonly output: string;
      readonly state: string;
      readonly outcome: ToolOutcome | undefined;
    }
  | { readonly kind: 'note'; readonly key: string; readonly text: string; readonly isBad: boolean };

export interface Moment {
  readonly seq: number;
  readonly time: string;
  readonly text: string;
  readonly isBad: boolean;
}

export interface Reading {
  readonly items: readonly Item[];
  readonly timeline: readonly Moment[];
  /** Input and output tokens of each model call. */
  readonly tokens: readonly Usage[];
  /** The newest events, oldest first. */
  readonly raw: readonly EventEnvelope[];
  readonly firstSeq: number;
}

export const emptyReading: Reading = {
  items: [],
  timeline: [],
  tokens: [],
  raw: [],
  firstSeq: 0,
};

/** What a page keeps; older ones are in the journal. */
const ITEMS_MAX = 2000;
const RAW_MAX = 500;
const OUTPUT_CHARS_MAX = 20_000;

export function advance(reading: Reading, events: readonly EventEnvelope[]): Reading {
  const items = [...reading.items];
  const timeline = [...reading.timeline];
  const tokens = [...reading.tokens];
  for (const event of events) {
    addToTalk(items, event);
    const moment = toMoment(event);
    if (moment !== undefined) timeline.push(moment);
    if (is(event, 'model.completed')) tokens.push(event.data.usage);
  }
  return {
    items: items.slice(-ITEMS_MAX),
    timeline: timeline.slice(-ITEMS_MAX),
    tokens: tokens.slice(-ITEMS_MAX),
    raw: [...reading.raw, ...events].slice(-RAW_MAX),
    firstSeq: reading.firstSeq || (events[0]?.seq ?? 0),
  };
}

function is<T extends EventType>(
  event: EventEnvelope,
  type: T,
): event is EventEnvelope & { type: T; data: EventData<T> } {
  return event.type === type;
}

function addToTalk(items: Item[], event: EventEnvelope): void {
  if (is(event, 'input.accepted')) {
    const { input_id: key, content, source: by } = event.data;
    const text = content.map((part) => (part.type === 'text' ? part.text : '(image)')).join('\n');
    items.push({ kind: 'user', key, text, by });
  } else if (is(event, 'model.started')) {
    startAttempt(items, event);
  } else if (is(event, 'model.delta')) {
    addDelta(items, event);
  } else if (is(event, 'model.completed')) {
    endMessage(items, event);
  } else if (is(event, 'tool.requested')) {
    const { call_id: key, tool, arguments: args } = event.data;
    const state = 'requested';
    items.push({ kind: 'tool', key, tool, arguments: args, output: '', state, outcome: undefined });
  } else if (is(event, 'approval.requested')) {
    changeTool(items, event.data.call_id, { state: 'waits for an answer' });
  } else if (is(event, 'tool.started')) {
    changeTool(items, event.data.call_id, { state: 'running' });
  } else if (is(event, 'tool.output')) {
    const { call_id: key, text } = event.data;
    const before = findTool(items, key)?.output ?? '';
    changeTool(items, key, { output: `${before}${text}`.slice(-OUTPUT_CHARS_MAX) });
  } else if (is(event, 'tool.completed')) {
    const { call_id: key, ...outcome } = event.data;
    const output = outcome.output.slice(0, OUTPUT_CHARS_MAX);
    changeTool(items, key, { state: outcome.status, outcome, output });
  } else if (is(event, 'turn.completed') && event.data.outcome !== 'completed') {
    const { turn, outcome, reason, error } = event.data;
    const why = error?.message ?? reason;
    const text = `turn ${turn} ended: ${outcome}${why === undefined ? '' : ` (${why})`}`;
    items.push({ kind: 'note', key: `turn-${turn}`, text, isBad: outcome !== 'interrupted' });
  }
}

type Started = EventEnvelope & { data: EventData<'model.started'> };
type Delta = EventEnvelope & { data: EventData<'model.delta'> };
type Completed = EventEnvelope & { data: EventData<'model.completed'> };

const prefixOf = (turn: number | undefined, step: number): string => `${turn ?? 0}.${step}.`;

/** What an earlier attempt of the step said does not stand. */
function startAttempt(items: Item[], { turn, data }: Started): void {
  const prefix = prefixOf(turn, data.step);
  for (const [at, item] of items.entries()) {
    if ((item.kind !== 'text' && item.kind !== 'reasoning') || !item.key.startsWith(prefix))
      continue;
    items[at] = { ...item, isVoid: true, isLive: false };
  }
}

function addDelta(items: Item[], { turn, data }: Delta): void {
  const { step, attempt, kind, text } = data;
  if (kind === 'tool_call') return;
  const key = `${prefixOf(turn, step)}${attempt}.${kind}`;
  const at = items.findLastIndex((item) => item.key === key);
  const before = items[at];
  if (before?.kind === kind) items[at] = { ...before, text: before.text + text };
  else items.push({ kind, key, text, isLive: true, isVoid: false });
}

function endMessage(items: Item[], { turn, data }: Completed): void {
  const prefix = `${prefixOf(turn, data.step)}${data.attempt}.`;
  let isShown = false;
  for (const [at, item] of items.entries()) {
    if (item.key === `${prefix}text` && item.kind === 'text') {
      items[at] = { ...item, text: data.message.text, isLive: false };
      isShown = true;
    } else if (item.key === `${prefix}reasoning` && item.kind === 'reasoning') {
      items[at] = { ...item, isLive: false };
    }
  }
  if (isShown || data.message.text === '') return;
  const text = data.message.text;
  items.push({ kind: 'text', key: `${prefix}text`, text, isLive: false, isVoid: false });
}

type Tool = Extract<Item, { kind: 'tool' }>;

function findTool(items: readonly Item[], key: string): Tool | undefined {
  const found = items.findLast((item) => item.kind === 'tool' && item.key === key);
  return found?.kind === 'tool' ? found : undefined;
}

function changeTool(items: Item[], key: string, changes: Partial<Tool>): void {
  const at = items.findLastIndex((item) => item.kind === 'tool' && item.key === key);
  const before = items[at];
  if (before?.kind === 'tool') items[at] = { ...before, ...changes };
}

function toMoment(event: EventEnvelope): Moment | undefined {
  const told = tell(event);
  if (told === undefined) return undefined;
  const [text, isBad = false] = told;
  return { seq: event.seq, time: event.time, text, isBad };
}

/** Life-cycle in a sentence; undefined for what belongs to the conversation. */
function tell(event: EventEnvelope): readonly [text: string, isBad?: boolean] | undefined {
  if (is(event, 'session.created')) return [`created by ${event.data.source}`];
  if (is(event, 'session.state')) {
    return [
      `${event.data.from} → ${event.data.to}: ${event.data.reason}`,
      event.data.to === 'failed',
    ];
  }
  if (is(event, 'turn.started')) {
    const again = event.data.attempt > 1 ? ` again (${event.data.attempt})` : '';
    return [`turn ${event.data.turn} started${again}`];
  }
  if (is(event, 'turn.completed')) {
    const { turn, outcome, steps } = event.data;
    return [`turn ${turn}: ${outcome}, ${steps} steps`, outcome === 'failed'];
  }
  if (is(event, 'worker.started')) {
    return [`worker ${event.data.generation} started${event.data.warm ? ' (warm)' : ''}`];
  }
  if (is(event, 'worker.exited')) {
    const { generation, cause, signal } = event.data;
    const isBad = cause !== 'completed' && cause !== 'stopped';
    return [`worker ${generation} ${cause}${signal === null ? '' : ` (${signal})`}`, isBad];
  }
  if (is(event, 'model.failed')) return [`model: ${event.data.error.message}`, true];
  if (is(event, 'limit.exceeded')) {
    return [`limit ${event.data.limit}: ${event.data.value} of ${event.data.max}`, true];
  }
  if (is(event, 'context.compacted')) {
    return [`context ${event.data.before_tokens} → ${event.data.after_tokens} tokens`];
  }
  if (is(event, 'input.quarantined')) return [`input set aside: ${event.data.reason}`, true];
  if (is(event, 'effect.adopted')) return [`${event.data.id} adopted: ${event.data.how}`];
  if (is(event, 'effect.resolved')) return [`${event.data.id} resolved: ${event.data.how}`];
  return undefined;
}
