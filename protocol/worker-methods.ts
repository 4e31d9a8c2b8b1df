/** Supervisor ↔ worker. The worker asks; it never acts. Effect ids are deterministic, so a worker
 *  that was restarted replays its turn by asking the same things again: the supervisor answers
 *  from the journal what is committed, and joins what is running. */
import { z } from 'zod';
import {
  acceptedInputSchema,
  compactionRecordSchema,
  modelOutcomeSchema,
  providerMessageSchema,
  sessionHistorySchema,
  toolOutcomeSchema,
  turnOutcomeSchema,
} from './content.ts';
import { sessionIdSchema } from './ids.ts';
import { toolSpecSchema } from './tools.ts';

/** What a worker knows of its agent: no key, no path but the workspace's name for the prompt. */
export const agentManifestSchema = z.object({
  agent: z.string(),
  model: z.string(),
  instructions: z.string(),
  workspace: z.string(),
  maxTurns: z.number(),
  maxToolCallsPerTurn: z.number(),
  parallelToolCalls: z.boolean(),
  compactionThresholdTokens: z.number(),
  compactionStrategy: z.enum(['summarize', 'truncate']),
  tools: z.array(toolSpecSchema),
});
export type AgentManifest = z.infer<typeof agentManifestSchema>;

const turnStep = { turn: z.number(), step: z.number() };

/** What a step begins with: the inputs that steer it, and whether it is to begin at all. */
export const stepStartSchema = z.object({
  steer: z.array(acceptedInputSchema),
  interrupted: z.boolean(),
});
export type StepStart = z.infer<typeof stepStartSchema>;

/** Requests the supervisor sends to a worker. */
export const workerRequests = {
  /** Once per worker: makes a spare into the worker of one session. */
  'worker/initialize': {
    params: z.object({
      sessionId: sessionIdSchema,
      generation: z.number(),
      manifest: agentManifestSchema,
      history: sessionHistorySchema,
    }),
    result: z.object({}),
  },
  /** Runs one turn to its end. Answered with the outcome; cancelled is an outcome, not an error. */
  'turn/run': {
    params: z.object({
      turn: z.number(),
      input: acceptedInputSchema,
      /** The answer to `turn/step` 1, where it is known already: it is then not asked for. */
      first: stepStartSchema.optional(),
    }),
    result: z.object({
      outcome: turnOutcomeSchema,
      reason: z.string().optional(),
      error: z.object({ code: z.string(), message: z.string() }).optional(),
      steps: z.number(),
    }),
  },
  /** Memory is short: give back what can be given back. Not to be answered in time is no fault. */
  'worker/collect': { params: z.object({}), result: z.object({ rssBytes: z.number() }) },
  'worker/ping': {
    params: z.object({}),
    /** loopLagMs: longest delay of the event loop since the last ping. */
    result: z.object({ loopLagMs: z.number(), rssBytes: z.number() }),
  },
} as const;

/** Notifications the supervisor sends to a worker. */
export const workerNotifications = {
  /** Stop this turn at the next point; running asks are answered `cancelled` by the gate. */
  'turn/interrupt': z.object({ turn: z.number() }),
  /** To a spare: run a turn about nothing, so that the code is compiled when a session comes. */
  'worker/warm': z.object({}),
} as const;

/** Requests a worker sends to the supervisor: the only way it can reach the world. */
export const askRequests = {
  /** Before each model call: the inputs that steer this step (the same ones after a restart). */
  'turn/step': {
    params: z.object(turnStep),
    result: stepStartSchema,
  },
  'model/generate': {
    params: z.object({
      ...turnStep,
      purpose: z.enum(['step', 'compaction']),
      messages: z.array(providerMessageSchema),
      tools: z.array(toolSpecSchema),
    }),
    result: modelOutcomeSchema,
  },
  'tool/call': {
    params: z.object({
      ...turnStep,
      call: z.number(),
      name: z.string(),
      /** The model's JSON text. */
      arguments: z.string(),
    }),
    result: toolOutcomeSchema,
  },
  'context/compact': { params: compactionRecordSchema, result: z.object({}) },
} as const;

export const askNotifications = {
  /** First message of every worker: the process is up and reads. */
  'worker/ready': z.object({ pid: z.number(), confinement: z.array(z.string()) }),
} as const;
