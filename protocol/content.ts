/** What is said: inputs, model messages, outcomes of effects. These shapes are journaled, so they
 *  only ever grow by optional fields. */
import { z } from 'zod';
import { inputIdSchema } from './ids.ts';

/** One part of an input. Images are passed to the provider as they are. */
export const contentPartSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text'), text: z.string() }),
  z.strictObject({ type: z.literal('image_url'), url: z.string().max(4_000_000) }),
]);
export type ContentPart = z.infer<typeof contentPartSchema>;

/** True when nothing is said: an input has a word or an image. */
export function isBlank(content: readonly ContentPart[]): boolean {
  return content.every((part) => part.type === 'text' && part.text.trim() === '');
}

/** A tool call as the model asked for it; `arguments` is the model's JSON text, unparsed. */
export const modelToolCallSchema = z.object({
  id: z.string(),
  name: z.string(),
  arguments: z.string(),
});
export type ModelToolCall = z.infer<typeof modelToolCallSchema>;

/** What one model call answered. */
export const assistantMessageSchema = z.object({
  text: z.string(),
  reasoning: z.string().optional(),
  tool_calls: z.array(modelToolCallSchema),
});
export type AssistantMessage = z.infer<typeof assistantMessageSchema>;

export const usageSchema = z.object({
  input_tokens: z.number(),
  output_tokens: z.number(),
  cached_input_tokens: z.number().optional(),
  reasoning_tokens: z.number().optional(),
});
export type Usage = z.infer<typeof usageSchema>;

export const finishReasonSchema = z.enum([
  'stop',
  'tool_calls',
  'length',
  'content_filter',
  'cancelled',
]);
export type FinishReason = z.infer<typeof finishReasonSchema>;

/** What a provider is sent: the transcript in a provider-neutral form, oldest first. Always well
 *  formed: every tool call of an assistant message is followed by exactly one tool message. */
export const providerMessageSchema = z.discriminatedUnion('role', [
  z.object({ role: z.literal('system'), text: z.string() }),
  z.object({ role: z.literal('user'), content: z.array(contentPartSchema) }),
  z.object({ role: z.literal('assistant'), message: assistantMessageSchema }),
  z.object({ role: z.literal('tool'), call_id: z.string(), name: z.string(), text: z.string() }),
]);
export type ProviderMessage = z.infer<typeof providerMessageSchema>;

export const effectClassSchema = z.enum(['read', 'idempotent', 'write']);
/** What a tool does to the world; decides what happens to a call whose outcome is unknown:
 *  `read` runs again, `idempotent` runs again with the same key, `write` is reported. */
export type EffectClass = z.infer<typeof effectClassSchema>;

export const toolStatusSchema = z.enum([
  'ok',
  'error',
  'denied',
  'timeout',
  'memory',
  'killed',
  'cancelled',
  'indeterminate',
]);
export type ToolStatus = z.infer<typeof toolStatusSchema>;

/** A limit that was reached, by the name and in the unit of its configuration key. */
export const exceededSchema = z.object({ limit: z.string(), value: z.number(), max: z.number() });

/** The one result of a tool call; also the `data` of tool.completed beside its call_id. */
export const toolOutcomeSchema = z.object({
  status: toolStatusSchema,
  /** What the model reads; capped, with a sentence in place of what was cut. */
  output: z.string(),
  exit_code: z.number().optional(),
  duration_ms: z.number(),
  truncated: z.boolean(),
  /** Id of the artifact that holds the whole output, when it was cut. */
  artifact: z.string().optional(),
  /** Isolation in force: bubblewrap, none … Absent when nothing ran. */
  level: z.string().optional(),
  /** Digest of the sandbox policy in force. */
  policy: z.string().optional(),
  /** Said with each result: e.g. that the workspace is read-only, and the mend. */
  notice: z.string().optional(),
  usage: z.record(z.string(), z.number()).optional(),
  /** The limit that ended it. */
  exceeded: exceededSchema.optional(),
});
export type ToolOutcome = z.infer<typeof toolOutcomeSchema>;

/** The outcome of one model call as the worker sees it. */
export const modelOutcomeSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('completed'),
    message: assistantMessageSchema,
    finish_reason: finishReasonSchema,
    usage: usageSchema,
  }),
  z.object({ kind: z.literal('failed'), code: z.string(), message: z.string() }),
  z.object({ kind: z.literal('cancelled') }),
  z.object({ kind: z.literal('budget'), message: z.string() }),
]);
export type ModelOutcome = z.infer<typeof modelOutcomeSchema>;

export const turnOutcomeSchema = z.enum([
  'completed',
  'interrupted',
  'max_turns',
  'budget',
  'timeout',
  'refused',
  'failed',
]);
export type TurnOutcome = z.infer<typeof turnOutcomeSchema>;

export const onBusySchema = z.enum(['enqueue', 'interrupt', 'reject', 'steer']);
/** What happens to an input that arrives during a turn. */
export type OnBusy = z.infer<typeof onBusySchema>;

export const acceptedInputSchema = z.object({
  input_id: inputIdSchema,
  content: z.array(contentPartSchema),
});
export type AcceptedInput = z.infer<typeof acceptedInputSchema>;

/** One step of a turn: what steered it, what the model answered, one result a call, in order. */
export const stepRecordSchema = z.object({
  step: z.number(),
  steer: z.array(acceptedInputSchema),
  message: assistantMessageSchema,
  results: z.array(toolOutcomeSchema),
});
export type StepRecord = z.infer<typeof stepRecordSchema>;

export const turnRecordSchema = z.object({
  turn: z.number(),
  input: acceptedInputSchema,
  steps: z.array(stepRecordSchema),
  /** Absent while the turn is open. */
  outcome: turnOutcomeSchema.optional(),
});
export type TurnRecord = z.infer<typeof turnRecordSchema>;

/** A compaction: everything before (from_turn, from_step) is replaced by `summary` (of `truncate`:
 *  that of an earlier compaction, or empty); the input of from_turn always stays. The boundary
 *  lies between steps, so no call is split from its result. */
export const compactionRecordSchema = z.object({
  turn: z.number(),
  step: z.number(),
  strategy: z.enum(['summarize', 'truncate']),
  summary: z.string(),
  from_turn: z.number(),
  from_step: z.number(),
  before_tokens: z.number(),
  after_tokens: z.number(),
});
export type CompactionRecord = z.infer<typeof compactionRecordSchema>;

/** The folded journal, as a worker gets it: closed turns from the last compaction on. Of an open
 *  turn nothing is in it, not its compactions either: the worker replays that turn from its
 *  start. A step without a message (a compaction, a failed or cancelled model call) is in it only
 *  where inputs steered it, with an empty message. */
export const sessionHistorySchema = z.object({
  turns: z.array(turnRecordSchema),
  compaction: compactionRecordSchema.optional(),
});
export type SessionHistory = z.infer<typeof sessionHistorySchema>;
