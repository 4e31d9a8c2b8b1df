/** What the HTTP api shows and takes: one schema each, from which the OpenAPI document, the typed
 *  client and the validation come. Field names are the wire's (snake_case). */
import { z } from 'zod';
import {
  contentPartSchema,
  effectClassSchema,
  isBlank,
  onBusySchema,
  turnOutcomeSchema,
  usageSchema,
} from './content.ts';
import { eventEnvelopeSchema, SYSTEM_SESSION } from './events.ts';
import { effectIdSchema, inputIdSchema, sessionIdSchema } from './ids.ts';
import { journalReportSchema } from './journal.ts';
import { keptRuleBodySchema } from './kept-rules.ts';
import { processStartSchema } from './processes.ts';
import { activitySchema, residencySchema, sessionStateSchema } from './states.ts';

export const labelsSchema = z
  .record(
    z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,63}$/, "a label's key has letters, digits, . _ -, at most 63"),
    z.string().max(255, 'a label has at most 255 characters'),
  )
  .describe('Free key-value pairs to find sessions by.');

export const approveModeSchema = z.enum(['never', 'ask', 'all']);
export type ApproveMode = z.infer<typeof approveModeSchema>;

export const createSessionSchema = z.strictObject({
  agent: z.string().min(1).max(64).optional(),
  name: z
    .string()
    .regex(
      /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
      'a name has letters, digits, . _ - (the first a letter or digit), at most 64',
    )
    .refine((name) => name !== SYSTEM_SESSION, "'system' is the journal of the supervisor itself")
    .optional(),
  model: z.string().min(1).max(256).optional(),
  workspace: z.string().max(4096).optional().describe('Absolute path; absent: a private one.'),
  labels: labelsSchema.optional(),
  limits: z
    .strictObject({
      max_turns: z.number().int().min(1).optional(),
      max_tool_calls_per_turn: z.number().int().min(1).optional(),
      session_timeout_secs: z.number().min(0).optional(),
      max_cost_usd: z.number().min(0).optional(),
      max_tokens: z.number().int().min(0).optional(),
    })
    .optional(),
  approve: approveModeSchema.optional().describe('never: what needs approval is denied.'),
  idempotency_key: z.string().min(1).max(255).optional(),
});
export type CreateSession = z.infer<typeof createSessionSchema>;

export const sessionViewSchema = z.object({
  id: sessionIdSchema,
  name: z.string().optional(),
  agent: z.string(),
  model: z.string(),
  workspace: z.string(),
  workspace_notice: z.string().optional(),
  labels: z.record(z.string(), z.string()),
  approve: approveModeSchema,
  state: sessionStateSchema,
  /** Why it is in this state: the reason of the last transition. */
  state_reason: z.string(),
  activity: activitySchema,
  residency: residencySchema,
  backoff: z.object({ attempt: z.number(), next_at: z.string() }).optional(),
  generation: z.number(),
  worker_pid: z.number().optional(),
  /** The longest delay of its event loop between the last two heartbeats, ms. */
  worker_loop_lag_ms: z.number().optional(),
  created_at: z.string(),
  updated_at: z.string(),
  last_seq: z.number(),
  epoch: z.number(),
  /** Number of the newest turn, 0 before the first. */
  turn: z.number(),
  last_outcome: turnOutcomeSchema.optional(),
  last_reason: z.string().optional(),
  queued_inputs: z.number(),
  pending_approvals: z.number(),
  usage: usageSchema,
  cost_usd: z.number(),
  restarts: z.number(),
  /** Background processes that run, oldest first; long commands are cut. Absent: none. */
  background_processes: z.array(processStartSchema).optional(),
});
export type SessionView = z.infer<typeof sessionViewSchema>;

export const sendInputSchema = z
  .strictObject({
    text: z.string().max(8_000_000).optional(),
    content: z.array(contentPartSchema).min(1).max(64).optional(),
    idempotency_key: z.string().min(1).max(255).optional(),
    on_busy: onBusySchema.optional(),
    /** True: refused with SESSION_BUSY unless the session is idle. */
    if_idle: z.boolean().optional(),
  })
  .refine((v) => (v.text === undefined) !== (v.content === undefined), {
    message: 'give either text or content',
  })
  .refine(({ text, content }) => text?.trim() !== '' && !(content && isBlank(content)), {
    message: 'the input is empty; say something',
  });
export type SendInput = z.infer<typeof sendInputSchema>;

export const inputAcceptedSchema = z.object({
  input_id: inputIdSchema,
  seq: z.number(),
  /** True: this key was accepted before; nothing new happened. */
  duplicate: z.boolean(),
});
export type InputAccepted = z.infer<typeof inputAcceptedSchema>;

export const eventPageSchema = z.object({
  events: z.array(eventEnvelopeSchema),
  /** `since` of the next page; equal to the last event's seq. */
  next: z.number(),
  /** The newest sequence number of the session when the page was read. */
  last_seq: z.number(),
});
export type EventPage = z.infer<typeof eventPageSchema>;

export const approvalViewSchema = z.object({
  session: sessionIdSchema,
  call_id: effectIdSchema,
  tool: z.string(),
  arguments: z.unknown(),
  digest: z.string(),
  requested_at: z.string(),
  expires_at: z.string(),
  /** Why somebody is asked. */
  rule: z.string().optional(),
  /** What scope `session` approves; absent: the tool. */
  covers: z.array(z.string()).optional(),
  /** What scope `rule` would keep; absent: it cannot. */
  keeps: keptRuleBodySchema.optional(),
});
export type ApprovalView = z.infer<typeof approvalViewSchema>;

export const resolveApprovalSchema = z.strictObject({
  decision: z.enum(['approve', 'deny']),
  /** Edited arguments, validated against the tool's schema. */
  arguments: z.unknown().optional(),
  scope: z.enum(['once', 'session', 'rule']).optional(),
  reason: z.string().max(2000).optional(),
  /** To ask_user: what the person says. */
  answer: z.string().max(100_000).optional(),
  /** Of the call that was looked at: another one is not answered. */
  digest: z.string().max(128).optional(),
});
export type ResolveApproval = z.infer<typeof resolveApprovalSchema>;

export const processViewSchema = z.object({
  kind: z.enum(['supervisor', 'worker', 'gateway', 'sandbox', 'mcp']),
  pid: z.number(),
  started_at: z.string(),
  generation: z.number().optional(),
  rss_bytes: z.number().optional(),
});
export type ProcessView = z.infer<typeof processViewSchema>;

const deepStatusSchema = z.object({
  node: z.string(),
  sqlite: z.string(),
  processes: z.array(processViewSchema),
  /** The whole journal, read and checked for this answer. */
  journal: journalReportSchema,
});
export type DeepStatus = z.infer<typeof deepStatusSchema>;

export const statusViewSchema = z.object({
  status: z.enum(['ok', 'degraded', 'stopping']),
  /** Why it is not ok; empty when it is. */
  reasons: z.array(z.string()),
  /** Degraded and true: what is wrong concerns single sessions (a damaged journal), the others
   *  work. Absent: as `status` says. */
  takes_work: z.boolean().optional(),
  version: z.string(),
  pid: z.number(),
  started_at: z.string(),
  state_dir: z.string(),
  config_file: z.string().optional(),
  socket: z.string(),
  listen: z.string().optional(),
  epoch: z.number(),
  model: z.string(),
  provider: z.string(),
  sandbox: z.object({
    /** In force; none where tool calls are refused, too. */
    level: z.string(),
    /** What this machine gives, where that is not what is in force. */
    offered: z.string().optional(),
    /** The digest of the policy without a workspace; absent where tool calls are refused. */
    policy: z.string().optional(),
    reason: z.string().optional(),
    mend: z.string().optional(),
  }),
  /** The configured MCP servers; absent: none. */
  mcp: z
    .array(
      z.object({
        server: z.string(),
        /** idle: no session has asked for it yet. */
        state: z.enum(['idle', 'running', 'failed']),
        /** Processes: one, or one a session where it is not shared. */
        processes: z.number(),
        tools: z.number(),
        level: z.string().optional(),
        /** Why it failed, and what of its tools was left out. */
        problems: z.array(z.string()),
      }),
    )
    .optional(),
  /** The files with custom tools; absent: none. */
  custom_tools: z
    .array(
      z.object({
        file: z.string(),
        /** As the model knows it; absent: the file has none that could be used. */
        tool: z.string().optional(),
        effect: effectClassSchema.optional(),
        /** Of the file and all it loads, when it was read. */
        digest: z.string().optional(),
        problem: z.string().optional(),
      }),
    )
    .optional(),
  /** What confines a worker, by name; empty until the first one has started. */
  worker_confinement: z.array(z.string()),
  /** What keeps a worker within its memory limit: monitor, scan, cgroup v1 or v2. */
  memory_enforcement: z.array(z.string()).optional(),
  capacity: z.object({
    max_concurrent_sessions: z.number(),
    resident: z.number(),
    queued: z.number(),
    warm: z.number(),
  }),
  sessions: z.record(z.string(), z.number()),
  /** With `deep`: processes, journal check, node and package versions. */
  deep: deepStatusSchema.optional(),
});
export type StatusView = z.infer<typeof statusViewSchema>;

/** Where to go on, of a cursor that is refused. */
export const resumeSchema = z
  .object({ epoch: z.number(), last_good_seq: z.number(), first_seq: z.number() })
  .partial();

/** RFC 9457. */
export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  code: z.string(),
  detail: z.string(),
  data: z.record(z.string(), z.unknown()).optional(),
  ...resumeSchema.shape,
});
export type Problem = z.infer<typeof problemSchema>;
