/** The journal's events: one envelope, one schema of `data` per type, in the past tense. What is
 *  written here is read back by every later version: fields are only ever added, as optional.
 *  `power` events are synced before anyone hears of them; `process` events are written, not
 *  synced (HOUSE invariant 1). */
import { z } from 'zod';
import {
  assistantMessageSchema,
  compactionRecordSchema,
  contentPartSchema,
  effectClassSchema,
  finishReasonSchema,
  onBusySchema,
  toolOutcomeSchema,
  turnOutcomeSchema,
  usageSchema,
} from './content.ts';
import { effectIdSchema, inputIdSchema, sessionIdSchema } from './ids.ts';
import { keptRuleBodySchema, keptRuleSchema } from './kept-rules.ts';
import { networkRequestSchema } from './network.ts';
import { processEndSchema, processStartSchema } from './processes.ts';
import { residencySchema, sessionStateSchema } from './states.ts';

export type Durability = 'power' | 'process';

const id = effectIdSchema;
const step = z.number();
const attempt = z.number();
const generation = z.number();
const pid = z.number();
/** How long the open turn has been executing by now: what session_timeout_secs limits. */
const spentMs = z.number().optional();
const problem = z.object({ code: z.string(), message: z.string() });

/** type → [durability, schema of data]. */
export const eventTable = {
  'session.created': [
    'power',
    z.object({
      name: z.string().optional(),
      agent: z.string(),
      model: z.string().optional(),
      workspace: z.string(),
      /** True: made by us under the state dir, removed with the session. */
      private_workspace: z.boolean(),
      labels: z.record(z.string(), z.string()),
      limits: z.record(z.string(), z.number()).optional(),
      /** approval mode of this session: see SURFACE `--approve`. */
      approve: z.enum(['never', 'ask', 'all']),
      source: z.string(),
      forked_from: z.object({ session: z.string(), seq: z.number() }).optional(),
    }),
  ],
  'session.state': [
    'power',
    z.object({ from: sessionStateSchema, to: sessionStateSchema, reason: z.string() }),
  ],
  'session.residency': [
    'process',
    z.object({ from: residencySchema, to: residencySchema, reason: z.string() }),
  ],
  'session.renamed': ['power', z.object({ name: z.string() })],
  /** Deaths and quarantines before this no longer count, whatever the state was. */
  'session.restarted': ['power', z.object({ by: z.string() })],
  'input.accepted': [
    'power',
    z.object({
      input_id: inputIdSchema,
      source: z.string(),
      content: z.array(contentPartSchema),
      on_busy: onBusySchema,
      idempotency_key: z.string().optional(),
    }),
  ],
  /** A steering input was given to this step of the running turn. */
  'input.steered': ['power', z.object({ input_id: inputIdSchema, step })],
  'input.quarantined': [
    'power',
    z.object({
      input_id: inputIdSchema,
      reason: z.string(),
      /** How many by now, with nothing done in between; absent: it does not count. */
      in_a_row: z.number().optional(),
    }),
  ],
  /** The tombstone of a turn: written before anything is signalled, so nothing starts after it. */
  'interrupt.accepted': [
    'power',
    z.object({
      source: z.string(),
      /** How the turn ends because of it, whoever writes that; absent: interrupted. */
      outcome: turnOutcomeSchema.optional(),
      reason: z.string().optional(),
    }),
  ],
  'turn.started': [
    'power',
    z.object({ turn: z.number(), input_id: inputIdSchema, attempt, spent_ms: spentMs }),
  ],
  'turn.completed': [
    'power',
    z.object({
      turn: z.number(),
      input_id: inputIdSchema,
      outcome: turnOutcomeSchema,
      reason: z.string().optional(),
      error: problem.optional(),
      usage: usageSchema,
      cost_usd: z.number(),
      steps: z.number(),
    }),
  ],
  'model.started': [
    'power',
    z.object({
      step,
      attempt,
      model: z.string(),
      request_digest: z.string(),
      purpose: z.enum(['step', 'compaction']).optional(),
    }),
  ],
  'model.delta': [
    'process',
    z.object({
      step,
      attempt,
      kind: z.enum(['text', 'reasoning', 'tool_call']),
      text: z.string(),
      /** Spool offset behind this delta, bytes: where a later supervisor goes on reading. */
      offset: z.number().optional(),
    }),
  ],
  'model.completed': [
    'power',
    z.object({
      step,
      attempt,
      message: assistantMessageSchema,
      usage: usageSchema,
      cost_usd: z.number(),
      finish_reason: finishReasonSchema,
      latency_ms: z.number(),
      first_token_ms: z.number().optional(),
      model: z.string().optional(),
    }),
  ],
  'model.failed': [
    'power',
    z.object({
      step,
      attempt,
      error: problem,
      /** null: no further attempt; this is the outcome. */
      retry_in_ms: z.number().nullable(),
      /** The next attempt asks this one; absent: the same again. */
      next_model: z.string().optional(),
    }),
  ],
  /** The request of a repeated ask differs from the committed one; the committed outcome stands. */
  'model.mismatched': ['process', z.object({ step, expected: z.string(), actual: z.string() })],
  'tool.requested': [
    'power',
    z.object({
      call_id: id,
      tool: z.string(),
      /** The model's JSON text as parsed, or as text where it did not parse. */
      arguments: z.unknown(),
      effect: effectClassSchema,
    }),
  ],
  'tool.decided': [
    'power',
    z.object({
      call_id: id,
      decision: z.enum(['allow', 'ask', 'deny']),
      by: z.string(),
      rule: z.string(),
    }),
  ],
  'approval.requested': [
    'power',
    z.object({
      call_id: id,
      digest: z.string(),
      tool: z.string(),
      arguments: z.unknown(),
      expires_at: z.string(),
      /** Why somebody is asked. */
      rule: z.string().optional(),
      /** What an answer with scope `session` approves; absent: the tool. */
      covers: z.array(z.string()).optional(),
      /** What an answer with scope `rule` would keep; absent: it cannot. */
      keeps: keptRuleBodySchema.optional(),
    }),
  ],
  'approval.resolved': [
    'power',
    z.object({
      call_id: id,
      decision: z.enum(['approve', 'deny', 'timeout', 'cancelled']),
      by: z.string(),
      reason: z.string().optional(),
      scope: z.enum(['once', 'session', 'rule']).optional(),
      arguments: z.unknown().optional(),
      /** Of the edited call. */
      digest: z.string().optional(),
      /** What a person said to ask_user. */
      answer: z.string().optional(),
      /** Id of the rule that was kept. */
      kept: z.string().optional(),
    }),
  ],
  /** What became of telling the webhook. */
  'approval.notified': [
    'power',
    z.object({
      call_id: id,
      ok: z.boolean(),
      attempts: z.number(),
      problem: z.string().optional(),
    }),
  ],
  'tool.started': [
    'power',
    z.object({
      call_id: id,
      level: z.string(),
      limits: z.record(z.string(), z.number()),
      /** Digest of the sandbox policy. */
      policy: z.string().optional(),
      /** Absent: the first. Another one follows an indeterminate call that may run again. */
      attempt: attempt.optional(),
    }),
  ],
  'tool.output': [
    'process',
    z.object({
      call_id: id,
      stream: z.enum(['stdout', 'stderr']),
      text: z.string(),
      offset: z.number().optional(),
      attempt: attempt.optional(),
    }),
  ],
  'tool.completed': ['power', toolOutcomeSchema.extend({ call_id: id })],
  'rule.kept': ['power', keptRuleSchema],
  'rule.removed': ['power', z.object({ id: z.string(), by: z.string() })],
  'worker.started': [
    'process',
    z.object({ generation, pid, warm: z.boolean(), spent_ms: spentMs }),
  ],
  'worker.exited': [
    'power',
    z.object({
      generation,
      pid,
      cause: z.enum([
        'completed',
        'stopped',
        'crashed',
        'memory',
        'timeout',
        'unresponsive',
        'protocol',
      ]),
      code: z.number().nullable(),
      signal: z.string().nullable(),
      stderr_tail: z.string(),
      peak_rss_bytes: z.number().nullable(),
      /** The newest samples of its memory, oldest first. */
      memory_curve: z
        .array(z.object({ ago_ms: z.number(), rss_bytes: z.number() }))
        .max(32)
        .optional(),
      /** It died in a turn (the envelope's): whether it had committed anything of it. */
      progress: z.boolean().optional(),
      spent_ms: spentMs,
    }),
  ],
  'worker.restarting': ['process', z.object({ attempt, delay_ms: z.number() })],
  'effect.adopted': ['process', z.object({ id, how: z.string() })],
  'effect.resolved': ['power', z.object({ id, how: z.string() })],
  'supervisor.started': [
    'process',
    z.object({ pid, version: z.string(), epoch: z.number(), level: z.string() }),
  ],
  'supervisor.stopped': ['power', z.object({ pid, reason: z.string() })],
  /** Another level than at the start: a probe that was lost then, or a machine that was mended. */
  'sandbox.changed': [
    'process',
    z.object({ from: z.string(), to: z.string(), reason: z.string() }),
  ],
  /** Never the value, and no more of its hash than names it. */
  'token.created': [
    'power',
    z.object({
      name: z.string(),
      scopes: z.array(z.string()),
      expires_at: z.string().optional(),
      fingerprint: z.string(),
      by: z.string(),
    }),
  ],
  'token.revoked': [
    'power',
    z.object({ name: z.string(), fingerprint: z.string(), by: z.string() }),
  ],
  /** An MCP server was started, or is gone. */
  'mcp.changed': [
    'process',
    z.object({
      server: z.string(),
      state: z.enum(['started', 'failed']),
      tools: z.number(),
      reason: z.string(),
    }),
  ],
  'store.degraded': ['process', z.object({ reason: z.string() })],
  'store.repaired': ['power', z.object({ reason: z.string() })],
  /** A request of a tool to the network is over, or was refused. */
  'network.request': ['process', networkRequestSchema.extend({ attempt: attempt.optional() })],
  /** The reserve of a background process: written before it runs. */
  'process.started': ['power', processStartSchema],
  /** Its end; exactly one follows each start. */
  'process.exited': ['power', processEndSchema.extend({ call_id: id })],
  'limit.exceeded': [
    'process',
    z.object({
      limit: z.string(),
      value: z.number(),
      max: z.number(),
      /** soft: a warning, something was done about it; absent or hard: what ran was ended. */
      level: z.enum(['soft', 'hard']).optional(),
      /** Which of several watchers saw it. */
      source: z.string().optional(),
    }),
  ],
  'context.compacted': ['power', compactionRecordSchema.omit({ turn: true }).extend({ step })],
} as const satisfies Record<string, readonly [Durability, z.ZodType]>;

export type EventType = keyof typeof eventTable;
export type EventData<T extends EventType> = z.infer<(typeof eventTable)[T][1]>;

export function isEventType(value: string): value is EventType {
  return Object.hasOwn(eventTable, value);
}

export function durabilityOf(type: EventType): Durability {
  return eventTable[type][0];
}

/** The session that owns the supervisor's own events (started, stopped, degraded …). */
export const SYSTEM_SESSION = 'system';

export const eventEnvelopeSchema = z.object({
  session: z.union([sessionIdSchema, z.literal(SYSTEM_SESSION)]),
  seq: z.number(),
  epoch: z.number(),
  /** RFC 3339 UTC; for display, never for order. */
  time: z.string(),
  type: z.string(),
  turn: z.number().optional(),
  data: z.unknown(),
});
/** One fact as clients see it. `type` may be newer than this version: ignore what is unknown. */
export type EventEnvelope = z.infer<typeof eventEnvelopeSchema>;

/** An envelope of a known type, for code that switches on it. */
export type KnownEvent = {
  [T in EventType]: Omit<EventEnvelope, 'type' | 'data'> & { type: T; data: EventData<T> };
}[EventType];

/** Validates the data of a known type; undefined for a type this version does not know.
 *  Throws a ZodError when a known type carries another shape. */
export function parseEvent(event: EventEnvelope): KnownEvent | undefined {
  if (!isEventType(event.type)) return undefined;
  const data = eventTable[event.type][1].parse(event.data);
  // The schema of exactly this type was applied on the line above.
  return { ...event, data } as KnownEvent;
}
