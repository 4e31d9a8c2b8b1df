/** Supervisor ↔ sandbox host (one per session that uses tools). The host appends output and the
 *  one terminal record to the call's spool before it reports them, and finishes what runs when
 *  the supervisor dies. */
import { z } from 'zod';
import { toolOutcomeSchema } from './content.ts';
import { customToolsSchema } from './custom-tools.ts';
import { fingerprintsSchema, noFingerprints } from './fingerprints.ts';
import { effectIdSchema, sessionIdSchema } from './ids.ts';
import { networkPolicySchema, networkRequestSchema } from './network.ts';
import { processEndReasonSchema, processEndSchema, processStartSchema } from './processes.ts';
import { sandboxLevels } from './sandbox-levels.ts';

/** What a session's tools may touch. Empty lists mean: nothing beyond the built-in minimum. */
export const sandboxPolicySchema = z.object({
  /** The level at which tools run, neither more nor less. */
  backend: z.enum(sandboxLevels),
  /** Empty: there is none. */
  workspace: z.string(),
  readOnlyPaths: z.array(z.string()),
  writablePaths: z.array(z.string()),
  /** Never visible inside, whatever else is listed: the state dir, the home, config files. */
  hiddenPaths: z.array(z.string()),
  /** Bound read-only when they lie inside the workspace: our installation, the config file. */
  protectedPaths: z.array(z.string()),
  envAllowlist: z.array(z.string()),
  /** The values of the allowed variables, taken from the supervisor's environment. */
  env: z.record(z.string(), z.string()),
  timeoutMs: z.number(),
  /** Of all processes of a call together; 0: no limit of ours, here and below. */
  memoryLimitBytes: z.number(),
  cpuMs: z.number(),
  /** What a call may add to the workspace and the writable paths. */
  diskBytes: z.number(),
  filesMax: z.number(),
  maxPids: z.number(),
  maxOutputBytes: z.number(),
  tmpBytes: z.number(),
  /** Background processes at once; 0: none. */
  backgroundMax: z.number(),
  /** The longest that one may run. */
  backgroundTimeoutMs: z.number(),
  network: networkPolicySchema,
  /** The user's own tools; absent: there are none. */
  custom: customToolsSchema.optional(),
});
export type SandboxPolicy = z.infer<typeof sandboxPolicySchema>;

export const sandboxReportSchema = z.object({
  /** The isolation in force. */
  level: z.string(),
  uid: z.number(),
  workspaceAccess: z.enum(['write', 'read-only', 'none']),
  /** Why the workspace is read-only and the mend; said with every result. */
  notice: z.string().optional(),
});
export type SandboxReport = z.infer<typeof sandboxReportSchema>;

export const toolOutputSchema = z.object({
  effect: effectIdSchema,
  stream: z.enum(['stdout', 'stderr']),
  text: z.string(),
  offset: z.number(),
});
export type ToolOutput = z.infer<typeof toolOutputSchema>;

/** A record in a tool call's spool: output and requests, then exactly one end. */
export const toolSpoolRecordSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('output'), stream: z.enum(['stdout', 'stderr']), text: z.string() }),
  z.object({ kind: z.literal('network'), request: networkRequestSchema }),
  z.object({ kind: z.literal('end'), outcome: toolOutcomeSchema }),
]);
export type ToolSpoolRecord = z.infer<typeof toolSpoolRecordSchema>;

export const sandboxRequests = {
  /** Sets the sandbox up; parked ones are started ahead. Throws SANDBOX_UNAVAILABLE. */
  'sandbox/initialize': {
    params: z.object({
      sessionId: sessionIdSchema,
      policy: sandboxPolicySchema,
      /** Whole outputs of capped calls go here, one file per artifact, named by its id. */
      artifactDir: z.string(),
      fingerprints: fingerprintsSchema.default(noFingerprints),
    }),
    result: sandboxReportSchema,
  },
  /** Runs one call to its end. Bad arguments are an outcome with status error. */
  'tool/run': {
    params: z.object({
      effect: effectIdSchema,
      tool: z.string(),
      arguments: z.unknown(),
      /** Re-runs of one call are numbered from 1. */
      attempt: z.number().default(1),
      spoolPath: z.string(),
    }),
    result: toolOutcomeSchema,
  },
  /** What is wrong with the arguments of a custom tool, as a sentence; absent: nothing. Its schema
   *  is code of its file, so it is asked where the file may run. */
  'tool/check': {
    params: z.object({ tool: z.string(), arguments: z.unknown() }),
    result: z.object({ problem: z.string().optional() }),
  },
  /** Ends the background processes that there are; answers when all have ended. */
  'process/end_all': {
    params: z.object({ reason: processEndReasonSchema }),
    result: z.object({}),
  },
  'sandbox/ping': { params: z.object({}), result: z.object({ running: z.number() }) },
} as const;

export const sandboxNotifications = {
  /** Kills everything the call started; its outcome has status cancelled. */
  'tool/cancel': z.object({ effect: effectIdSchema }),
  /** What from now on is not to be shown, instead of what was. */
  'sandbox/fingerprints': fingerprintsSchema,
} as const;

/** Notifications the host sends. */
export const sandboxReports = {
  'sandbox/ready': z.object({ pid: z.number() }),
  'tool/output': toolOutputSchema,
  'network/request': networkRequestSchema,
  /** Sent when its end is in its record file. */
  'process/exited': processEndSchema.extend({ call_id: effectIdSchema }),
} as const;

/** What the host asks of the supervisor, which alone has the vault and the journal. */
export const sandboxAsks = {
  /** Answered when the journal has its start; only then it runs. */
  'process/register': { params: processStartSchema, result: z.object({}) },
  /** One use of one secret; recorded, also when it is refused. */
  'secret/read': {
    params: z.object({
      name: z.string(),
      /** A header of a request, or a file for a command. */
      use: z.enum(['header', 'file']),
      /** For the record. */
      purpose: z.string(),
      call_id: effectIdSchema.optional(),
    }),
    result: z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('value'), value: z.string() }),
      z.object({ kind: z.literal('refused'), reason: z.string() }),
    ]),
  },
} as const;
