/** Supervisor ↔ MCP host (one per configured server, or one per session where the server keeps
 *  state). The host owns the server: it starts and confines it or speaks to its URL, checks
 *  arguments, bounds what comes back, and spools each outcome before it reports it. One life of the
 *  host is one life of the server: when the server is gone, so is the host. */
import { z } from 'zod';
import { toolOutcomeSchema } from './content.ts';
import { fingerprintsSchema, noFingerprints } from './fingerprints.ts';
import { effectIdSchema, sessionIdSchema } from './ids.ts';
import { sandboxPolicySchema } from './sandbox-methods.ts';
import { toolSpecSchema } from './tools.ts';

/** A header of every request, with a value of the vault in it. */
export const mcpHeaderSchema = z.object({
  header: z.string(),
  secret: z.string(),
  /** With {value} in it. */
  format: z.string(),
});
export type McpHeader = z.infer<typeof mcpHeaderSchema>;

/** How the server is reached. */
export const mcpReachSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('stdio'),
    /** Program and arguments; never empty. */
    command: z.array(z.string()).min(1),
    policy: sandboxPolicySchema,
  }),
  z.object({
    kind: z.literal('url'),
    url: z.string(),
    /** A redirect may go to these and below; empty: anywhere within the origin. */
    within: z.array(z.string()),
    headers: z.array(mcpHeaderSchema),
  }),
]);
export type McpReach = z.infer<typeof mcpReachSchema>;

/** A tool as its server names it, and as a model is told of it: cleaned, cut, and marked as text
 *  that somebody else wrote. */
export const mcpToolSchema = z.object({ name: z.string(), spec: toolSpecSchema });
export type McpTool = z.infer<typeof mcpToolSchema>;

export const mcpListingSchema = z.object({
  tools: z.array(mcpToolSchema),
  /** What of the server's list was left out, and why; bounded. */
  problems: z.array(z.string()),
});
export type McpListing = z.infer<typeof mcpListingSchema>;

export const mcpRequests = {
  /** Starts the server and asks for its tools. Throws MCP_UNAVAILABLE, SANDBOX_UNAVAILABLE. */
  'mcp/initialize': {
    params: z.object({
      server: z.string(),
      reach: mcpReachSchema,
      timeoutMs: z.number(),
      maxOutputBytes: z.number(),
      /** Below it one folder a session: whole outputs, images, files. */
      artifactsDir: z.string(),
    }),
    result: mcpListingSchema.extend({ level: z.string(), notice: z.string().optional() }),
  },
  /** What is wrong with these arguments, as a sentence; absent: nothing. Here, because a schema
   *  is the server's text too, and may be made to keep its reader busy for ever. */
  'mcp/check': {
    params: z.object({ tool: z.string(), arguments: z.unknown() }),
    result: z.object({ problem: z.string().optional() }),
  },
  /** Runs one call to its end. A tool the server does not have is an outcome with status error. */
  'mcp/call': {
    params: z.object({
      session: sessionIdSchema,
      effect: effectIdSchema,
      /** As the model knows it. */
      tool: z.string(),
      arguments: z.unknown(),
      attempt: z.number().default(1),
      spoolPath: z.string(),
      /** What is not to be shown; with each call, because a host outlives many sessions. */
      fingerprints: fingerprintsSchema.default(noFingerprints),
    }),
    result: toolOutcomeSchema,
  },
  'mcp/ping': { params: z.object({}), result: z.object({ running: z.number() }) },
} as const;

export const mcpNotifications = {
  /** Gives the call up; its outcome has status cancelled. */
  'mcp/cancel': z.object({ session: sessionIdSchema, effect: effectIdSchema }),
} as const;

/** What the host asks of the supervisor, which alone has the vault. */
export const mcpAsks = {
  /** The secrets that the headers of its server name, for one request; recorded, also when one is
   *  refused. There is no other to be had by this. */
  'mcp/secrets': {
    params: z.object({}),
    result: z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('values'), values: z.record(z.string(), z.string()) }),
      z.object({ kind: z.literal('refused'), reason: z.string() }),
    ]),
  },
} as const;
export type McpSecrets = z.infer<(typeof mcpAsks)['mcp/secrets']['result']>;

/** Notifications the host sends. */
export const mcpReports = {
  'mcp/ready': z.object({ pid: z.number() }),
  /** The server changed its list. */
  'mcp/tools': mcpListingSchema,
  /** Why the host is about to end. */
  'mcp/ending': z.object({ reason: z.string() }),
} as const;
