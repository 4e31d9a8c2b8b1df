/** Sandbox host ↔ tool host: what the trusted side asks the process in which a custom tool runs.
 *  One thing at a time. */
import { z } from 'zod';
import { descriptionSchema } from '../../../protocol/custom-tools.ts';

/** A tool file as it stands inside. */
const place = {
  /** The file itself. */
  file: z.string(),
  /** The folder that was listed, or the file: what is loaded from there is part of the digest. */
  root: z.string(),
};
const bounds = { heapBytes: z.number(), timeoutMs: z.number() };

export const customRequests = {
  /** Loads the file and takes out what it says of its tool. */
  'custom/describe': { params: z.object({ ...place, ...bounds }), result: descriptionSchema },
  'custom/check': {
    params: z.object({ ...place, ...bounds, digest: z.string(), arguments: z.unknown() }),
    result: z.object({ problem: z.string().optional() }),
  },
  'custom/call': {
    params: z.object({
      ...place,
      ...bounds,
      digest: z.string(),
      arguments: z.unknown(),
      workspace: z.string(),
    }),
    result: z.object({
      status: z.enum(['ok', 'error', 'timeout', 'memory', 'cancelled']),
      output: z.string(),
      /** Something of the call is left that only the end of the process ends. */
      isSpent: z.boolean(),
    }),
  },
} as const;
export type CallParams = z.infer<(typeof customRequests)['custom/call']['params']>;
export type CallResult = z.infer<(typeof customRequests)['custom/call']['result']>;

export const customNotifications = {
  /** Of the call that runs. */
  'custom/cancel': z.object({}),
} as const;

export const customReports = {
  'custom/ready': z.object({}),
  /** What a call logged. */
  'custom/log': z.object({ text: z.string() }),
} as const;
