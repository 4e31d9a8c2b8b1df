/** What a sweep did: the answer of POST /api/v1/sweep. */
import { z } from 'zod';

export const sweepViewSchema = z.object({
  /** Processes of earlier lives that had no reason to live on. */
  killed: z.array(
    z.object({
      kind: z.enum(['worker', 'gateway', 'sandbox', 'mcp', 'unregistered']),
      pid: z.number(),
    }),
  ),
  /** Files and folders of such processes: paths below the state dir, `cgroup NAME`, and in full
   *  where temporary files lie elsewhere. */
  removed: z.array(z.string()),
  /** Entries of the process registry whose process is gone. */
  forgotten: z.number(),
});
export type SweepView = z.infer<typeof sweepViewSchema>;
