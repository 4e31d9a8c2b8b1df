/** Background processes: a command that outlives its call and its turn. One is named after the call
 *  that started it, so that its name means the same to the model, the journal and the files,
 *  whichever host, worker or supervisor comes next. */
import { z } from 'zod';
import { exceededSchema } from './content.ts';
import { effectIdSchema } from './ids.ts';

/** Why one ended. exited: by itself. stopped: by process_stop. deadline: its time was over. limit:
 *  what it exceeded is named. closed: its session is over. replaced: the settings of its sandbox
 *  changed. orphaned: its supervisor was gone. not_started: it was written down and never ran.
 *  lost: nobody is left who could say; it died with its host. */
export const processEndReasonSchema = z.enum([
  'exited',
  'stopped',
  'deadline',
  'limit',
  'closed',
  'replaced',
  'orphaned',
  'not_started',
  'lost',
]);
export type ProcessEndReason = z.infer<typeof processEndReasonSchema>;

export const processStartSchema = z.object({
  call_id: effectIdSchema,
  command: z.string(),
  /** The sandbox level it runs at. */
  level: z.string(),
  started_at: z.string(),
  /** When it is ended at the latest. */
  deadline_at: z.string(),
});
export type ProcessStart = z.infer<typeof processStartSchema>;

export const processEndSchema = z.object({
  reason: processEndReasonSchema,
  exit_code: z.number().optional(),
  exceeded: exceededSchema.optional(),
  duration_ms: z.number().optional(),
  /** All it printed, also what is no longer kept. */
  output_bytes: z.number().optional(),
});
export type ProcessEnd = z.infer<typeof processEndSchema>;

/** The record file of one: its start, then at most one end. */
export const processRecordSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('start'), start: processStartSchema }),
  z.object({ kind: z.literal('end'), end: processEndSchema }),
]);

/** Its file among the spools of the session. Begins with no digit: spools of effects do. */
export function toProcessFileName(call: string): string {
  return `process-${call}.log`;
}
