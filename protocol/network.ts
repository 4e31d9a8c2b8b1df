/** What a session's tools may reach, and what is said about each request. */
import { z } from 'zod';
import { effectIdSchema } from './ids.ts';

export const networkModes = ['none', 'allowlist', 'full'] as const;

/** How a secret goes to a domain; the value is asked for when it is used. */
export const injectionSchema = z.object({
  secret: z.string(),
  domain: z.string(),
  header: z.string(),
  /** Holds `{value}`. */
  format: z.string(),
});
export type Injection = z.infer<typeof injectionSchema>;

export const networkPolicySchema = z.object({
  mode: z.enum(networkModes),
  /** Exact names, wildcards, addresses; each with a port or without. */
  allowedDomains: z.array(z.string()),
  /** Of requests that can be seen (plain HTTP, fetch); empty: all. */
  allowedMethods: z.array(z.string()),
  injections: z.array(injectionSchema),
});
export type NetworkPolicy = z.infer<typeof networkPolicySchema>;

export const noNetwork: NetworkPolicy = {
  mode: 'none',
  allowedDomains: [],
  allowedMethods: [],
  injections: [],
};

/** One request and its end. Never a path or a query: either may carry a secret or a person's
 *  data, and neither is needed to see who was talked to. */
export const networkRequestSchema = z.object({
  /** The call that made it; absent: a process of the session that did not say which. */
  call_id: effectIdSchema.optional(),
  via: z.enum(['proxy', 'fetch']),
  /** CONNECT: a tunnel, whose inside is not seen. */
  method: z.string(),
  host: z.string(),
  port: z.number(),
  /** The address that was connected to. */
  address: z.string().optional(),
  decision: z.enum(['allow', 'deny']),
  rule: z.string(),
  reason: z.string().optional(),
  /** HTTP status that the tool was answered with. */
  status: z.number(),
  bytes_sent: z.number(),
  bytes_received: z.number(),
  duration_ms: z.number(),
  /** Names of the secrets that went with it. */
  secrets: z.array(z.string()).optional(),
  /** Behind its record in the spool of its call, bytes. */
  offset: z.number().optional(),
});
export type NetworkRequest = z.infer<typeof networkRequestSchema>;
