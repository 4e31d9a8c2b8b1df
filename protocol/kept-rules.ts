/** A rule that a person kept with an approval (`--scope rule`): one narrow thing, in one workspace,
 *  for one agent. It answers where a person would be asked, and never where a rule denies. */
import { z } from 'zod';

export const keptRuleBodySchema = z.object({
  tool: z.string(),
  agent: z.string(),
  workspace: z.string(),
  /** Exactly this command line. */
  command: z.string().optional(),
  /** These paths and no other, behind all links; relative to the workspace. */
  paths: z.array(z.string()).optional(),
  /** Exactly these arguments, as JSON with sorted keys; for tools without command and path, and for
   *  a command that gets secrets. */
  arguments: z.string().optional(),
});
export type KeptRuleBody = z.infer<typeof keptRuleBodySchema>;

export const keptRuleSchema = keptRuleBodySchema.extend({
  id: z.string(),
  by: z.string(),
  kept_at: z.string(),
});
export type KeptRule = z.infer<typeof keptRuleSchema>;
