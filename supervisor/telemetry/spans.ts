/** From the journaled events of one turn to its spans: the turn, its model calls, its tool calls,
 *  and the waits for a person. Pure. Ids are digests of what a span is about, so that whoever
 *  builds a span again, in another process and after any death, builds the same one. No content of
 *  the conversation is read: no prompt, answer, argument or output can be in a span.
 *  Source: OpenTelemetry semantic conventions for generative AI (in development), as of
 *  @opentelemetry/semantic-conventions 1.45. */
import { createHash } from 'node:crypto';
import type { EventData, EventEnvelope, EventType } from '../../protocol/events.ts';

export type Attributes = Readonly<Record<string, string | number | boolean | readonly string[]>>;

export interface Span {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
  /** Absent: the turn itself. */
  readonly parentSpanId?: string;
  readonly name: string;
  /** client: another system answers; internal: it happens here. */
  readonly kind: 'client' | 'internal';
  /** Wall time, ms. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Attributes;
  readonly isError: boolean;
}

export interface TurnFacts {
  readonly session: string;
  readonly turn: number;
  readonly agent: string;
  /** Who answers model calls, as gen_ai.provider.name names it. */
  readonly provider: string;
}

export interface TurnSpans {
  /** @param event  of this turn, oldest first.
   *  @returns the spans that it ended. */
  take(event: EventEnvelope): readonly Span[];
}

/** What the spans of a turn are made of. */
export const spanEventTypes = [
  'turn.started',
  'model.started',
  'model.completed',
  'model.failed',
  'tool.requested',
  'tool.decided',
  'approval.requested',
  'approval.resolved',
  'tool.started',
  'tool.completed',
  'worker.exited',
  'turn.completed',
] as const satisfies readonly EventType[];

interface Open {
  readonly name: string;
  readonly kind: Span['kind'];
  startMs: number;
  attributes: Attributes;
}

type Known = {
  [T in (typeof spanEventTypes)[number]]: readonly [T, EventData<T>];
}[(typeof spanEventTypes)[number]];

export function createTurnSpans(facts: TurnFacts): TurnSpans {
  const { session, turn } = facts;
  const traceId = digest(`trace/${session}/${turn}`, 32);
  const root = toSpanId(facts, 'turn');
  const common: Attributes = { 'gen_ai.conversation.id': session, 'prx.turn': turn };
  const open = new Map<string, Open>();
  let startMs: number | undefined;
  let restarts = 0;

  function begin(key: string, span: Open): void {
    // Another attempt, or a repeated ask: it began with the first.
    if (!open.has(key)) open.set(key, span);
  }

  function note(key: string, attributes: Attributes): void {
    const span = open.get(key);
    if (span !== undefined) span.attributes = { ...span.attributes, ...attributes };
  }

  function end(key: string, endMs: number, last: Attributes): readonly Span[] {
    const span = open.get(key);
    // What began before the first event that is still there cannot be shown.
    if (span === undefined) return [];
    open.delete(key);
    const { name, kind } = span;
    const attributes = { ...common, ...span.attributes, ...last };
    const ids = { traceId, spanId: toSpanId(facts, key), parentSpanId: root };
    return [{ ...ids, name, kind, ...toTimes(span.startMs, endMs), ...judge(attributes) }];
  }

  function endTurn(atMs: number, data: EventData<'turn.completed'>): readonly Span[] {
    // The turn ended without them: a death whose outcome nobody knew.
    const left = [...open.keys()].flatMap((key) => end(key, atMs, { 'error.type': 'unfinished' }));
    const isFine = data.outcome === 'completed' || data.outcome === 'interrupted';
    const attributes: Attributes = {
      ...common,
      'gen_ai.operation.name': 'invoke_agent',
      'gen_ai.provider.name': facts.provider,
      'gen_ai.agent.name': facts.agent,
      ...toUsage(data.usage),
      'prx.outcome': data.outcome,
      'prx.steps': data.steps,
      'prx.cost_usd': data.cost_usd,
      'prx.worker_deaths': restarts,
      ...(isFine ? {} : { 'error.type': data.error?.code ?? data.outcome }),
    };
    const name = `invoke_agent ${facts.agent}`;
    const times = toTimes(startMs ?? atMs, atMs);
    return [
      ...left,
      { traceId, spanId: root, name, kind: 'internal', ...times, ...judge(attributes) },
    ];
  }

  return {
    take({ type, time, data: untyped }) {
      const atMs = Date.parse(time);
      startMs ??= atMs;
      // The schema of its type was applied before it was journaled.
      const [kind, data] = [type, untyped] as unknown as Known;
      switch (kind) {
        case 'model.started':
          begin(toModelKey(data), toModelSpan(atMs, data, facts.provider));
          return [];
        case 'model.completed':
          return end(toModelKey(data), atMs, toModelResult(data));
        case 'model.failed':
          return end(toModelKey(data), atMs, { 'error.type': data.error.code });
        case 'tool.requested':
          begin(`tool/${data.call_id}`, toToolSpan(atMs, data));
          return [];
        case 'tool.decided': {
          const { call_id: id, decision, by } = data;
          note(`tool/${id}`, { 'prx.policy.decision': decision, 'prx.policy.by': by });
          return [];
        }
        case 'approval.requested':
          begin(`approval/${data.call_id}`, toApprovalSpan(atMs, data));
          return [];
        case 'approval.resolved': {
          const { call_id: id, decision, by } = data;
          return end(`approval/${id}`, atMs, { 'prx.approval.decision': decision, 'prx.by': by });
        }
        case 'tool.started': {
          const { call_id: id, level, attempt = 1 } = data;
          const span = open.get(`tool/${id}`);
          // The execution, without the wait for a person.
          if (span !== undefined && attempt === 1) span.startMs = atMs;
          note(`tool/${id}`, { 'prx.sandbox.level': level, 'prx.attempt': attempt });
          return [];
        }
        case 'tool.completed':
          return end(`tool/${data.call_id}`, atMs, toToolResult(data));
        case 'worker.exited':
          restarts += 1;
          return [];
        case 'turn.completed':
          return endTurn(atMs, data);
        default:
          return [];
      }
    },
  };
}

const toModelKey = ({ step, attempt }: { step: number; attempt: number }): string =>
  `model/${step}/${attempt}`;

function toModelSpan(startMs: number, data: EventData<'model.started'>, provider: string): Open {
  const { model, step, attempt, purpose = 'step' } = data;
  return {
    name: `chat ${model}`,
    kind: 'client',
    startMs,
    attributes: {
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': provider,
      'gen_ai.request.model': model,
      'prx.step': step,
      'prx.attempt': attempt,
      'prx.purpose': purpose,
    },
  };
}

function toModelResult(data: EventData<'model.completed'>): Attributes {
  const { model, usage, finish_reason: reason, first_token_ms: firstMs, cost_usd: cost } = data;
  return {
    ...toUsage(usage),
    'gen_ai.response.finish_reasons': [reason],
    'prx.cost_usd': cost,
    ...(model === undefined ? {} : { 'gen_ai.response.model': model }),
    // Seconds, as the convention says.
    ...(firstMs === undefined ? {} : { 'gen_ai.response.time_to_first_chunk': firstMs / 1000 }),
  };
}

function toToolSpan(startMs: number, data: EventData<'tool.requested'>): Open {
  const { tool, call_id: id, effect } = data;
  return {
    name: `execute_tool ${tool}`,
    kind: 'internal',
    startMs,
    attributes: {
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': tool,
      'gen_ai.tool.call.id': id,
      'gen_ai.tool.type': 'function',
      'prx.effect': effect,
    },
  };
}

function toToolResult(data: EventData<'tool.completed'>): Attributes {
  const { status, exit_code: exitCode, truncated } = data;
  return {
    'prx.status': status,
    'prx.truncated': truncated,
    ...(exitCode === undefined ? {} : { 'prx.exit_code': exitCode }),
    ...(status === 'ok' ? {} : { 'error.type': status }),
  };
}

function toApprovalSpan(startMs: number, data: EventData<'approval.requested'>): Open {
  const { tool, call_id: id } = data;
  return {
    name: `await_approval ${tool}`,
    kind: 'internal',
    startMs,
    attributes: { 'gen_ai.tool.name': tool, 'gen_ai.tool.call.id': id },
  };
}

function toUsage(usage: EventData<'turn.completed'>['usage']): Attributes {
  const { cached_input_tokens: cached, reasoning_tokens: reasoning } = usage;
  return {
    'gen_ai.usage.input_tokens': usage.input_tokens,
    'gen_ai.usage.output_tokens': usage.output_tokens,
    ...(cached === undefined ? {} : { 'gen_ai.usage.cache_read.input_tokens': cached }),
    ...(reasoning === undefined ? {} : { 'gen_ai.usage.reasoning.output_tokens': reasoning }),
  };
}

function judge(attributes: Attributes): Pick<Span, 'attributes' | 'isError'> {
  return { attributes, isError: attributes['error.type'] !== undefined };
}

/** A clock that went back makes no span that ends before it begins. */
function toTimes(startMs: number, endMs: number): Pick<Span, 'startMs' | 'endMs'> {
  return { startMs, endMs: Math.max(startMs, endMs) };
}

function toSpanId({ session, turn }: TurnFacts, key: string): string {
  return digest(`span/${session}/${turn}/${key}`, 16);
}

/** Never all zeros, which is no id, but for one in 2^64. */
function digest(text: string, digits: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, digits);
}
