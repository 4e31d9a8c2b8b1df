/** What `policy explain` asks and hears. */
import { z } from 'zod';

export const explainPolicySchema = z.strictObject({
  tool: z.string().min(1).max(256),
  arguments: z.unknown().optional(),
  agent: z.string().min(1).max(64).optional(),
  /** Absolute; absent: paths and kept rules are judged as for a folder of its own. */
  workspace: z.string().startsWith('/').max(4096).optional(),
});
export type ExplainPolicy = z.infer<typeof explainPolicySchema>;

const placeSchema = z.object({
  /** The rule as events name it. */
  rule: z.string(),
  /** Where it is written. */
  file: z.string().optional(),
  line: z.number().optional(),
});

export const policyViewSchema = placeSchema.extend({
  tool: z.string(),
  agent: z.string(),
  decision: z.enum(['allow', 'ask', 'deny']),
  by: z.string(),
  reason: z.string().optional(),
  /** The sandbox level in force. */
  level: z.string(),
  /** Why no tool runs at this level, whatever the policy says. */
  refusal: z.string().optional(),
  /** What is wrong with the arguments: the call would not get as far as policy. */
  problem: z.string().optional(),
  /** Commands, paths and domains of the call, each decided by itself. */
  parts: z.array(
    placeSchema.extend({
      decision: z.enum(['allow', 'ask', 'deny']),
      text: z.string().optional(),
    }),
  ),
  /** decision ask: what approvals with scope session and rule would stand for. */
  covers: z.array(z.string()),
  keeps: z.string().optional(),
});
export type PolicyView = z.infer<typeof policyViewSchema>;
