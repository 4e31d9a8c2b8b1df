/** Supervisor ↔ gateway. One `model/generate` is one attempt: one provider request. The gateway
 *  decides whether and when another attempt makes sense; the supervisor journals the failure and
 *  the new attempt before it asks again, so that requests seen by the provider equal attempts in
 *  the journal. What happens is appended to the attempt's spool before it is reported. */
import { z } from 'zod';
import {
  assistantMessageSchema,
  finishReasonSchema,
  providerMessageSchema,
  usageSchema,
} from './content.ts';
import { effectIdSchema, sessionIdSchema } from './ids.ts';
import { toolSpecSchema } from './tools.ts';

export const modelPriceSchema = z.object({
  /** US dollars per million tokens. */
  input: z.number(),
  output: z.number(),
  cached_input: z.number().optional(),
});
export type ModelPrice = z.infer<typeof modelPriceSchema>;

/** Everything a gateway needs but the key, which it has from its own environment. */
export const providerSettingsSchema = z.object({
  kind: z.enum(['openai', 'offline']),
  baseUrl: z.string().optional(),
  api: z.enum(['chat', 'responses']),
  apiKeyEnv: z.string(),
  connectTimeoutMs: z.number(),
  firstTokenTimeoutMs: z.number(),
  idleTimeoutMs: z.number(),
  totalTimeoutMs: z.number(),
  maxRetries: z.number(),
  retryBaseMs: z.number(),
  retryMaxMs: z.number(),
  /** Models tried in order when the first one keeps failing. */
  fallbacks: z.array(z.string()),
  prices: z.record(z.string(), modelPriceSchema),
});
export type ProviderSettings = z.infer<typeof providerSettingsSchema>;

const attemptKey = { session: sessionIdSchema, effect: effectIdSchema, attempt: z.number() };

/** How one attempt ended; also the spool's terminal record. */
export const attemptOutcomeSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('completed'),
    message: assistantMessageSchema,
    /** The end of its text that is in no delta: the disk was full. */
    unsaid: z.string().optional(),
    finish_reason: finishReasonSchema,
    usage: usageSchema,
    cost_usd: z.number(),
    latency_ms: z.number(),
    first_token_ms: z.number().optional(),
    /** As the provider names it. */
    model: z.string(),
  }),
  z.object({
    kind: z.literal('failed'),
    code: z.string(),
    message: z.string(),
    /** null: another attempt would not help. */
    retry_in_ms: z.number().nullable(),
    /** The model to use for the next attempt, when it is a fallback. */
    next_model: z.string().optional(),
  }),
]);
export type AttemptOutcome = z.infer<typeof attemptOutcomeSchema>;

export const deltaSchema = z.object({
  ...attemptKey,
  kind: z.enum(['text', 'reasoning', 'tool_call']),
  text: z.string(),
  offset: z.number(),
});
export type ModelDelta = z.infer<typeof deltaSchema>;

/** A record in a model attempt's spool: deltas, then exactly one end. */
export const modelSpoolRecordSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('delta'),
    delta: z.enum(['text', 'reasoning', 'tool_call']),
    text: z.string(),
  }),
  z.object({ kind: z.literal('end'), outcome: attemptOutcomeSchema }),
]);
export type ModelSpoolRecord = z.infer<typeof modelSpoolRecordSchema>;

export const gatewayRequests = {
  'gateway/initialize': {
    params: z.object({ provider: providerSettingsSchema }),
    /** keyPresent: the key's variable is set and not empty. */
    result: z.object({ keyPresent: z.boolean() }),
  },
  'gateway/models': {
    params: z.object({}),
    result: z.object({ models: z.array(z.string()) }),
  },
  'model/generate': {
    params: z.object({
      ...attemptKey,
      /** The attempt's spool file, created by the gateway (mode 0600). */
      spoolPath: z.string(),
      model: z.string(),
      messages: z.array(providerMessageSchema),
      tools: z.array(toolSpecSchema),
      parallelToolCalls: z.boolean(),
    }),
    result: attemptOutcomeSchema,
  },
  'gateway/ping': { params: z.object({}), result: z.object({ running: z.number() }) },
} as const;

export const gatewayNotifications = {
  /** The running attempt of this effect ends as completed with finish_reason cancelled and what
   *  has arrived so far. */
  'model/cancel': z.object({ session: sessionIdSchema, effect: effectIdSchema }),
} as const;

/** Notifications the gateway sends. */
export const gatewayReports = {
  'gateway/ready': z.object({ pid: z.number() }),
  'model/delta': deltaSchema,
} as const;
