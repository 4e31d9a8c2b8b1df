/** What a gateway or a sandbox host answers on its owner-only socket, mostly to a supervisor that
 *  did not start it: who it is, what still runs in it, and the request to end one effect. Nothing
 *  can be started this way. */
import { join } from 'node:path';
import { z } from 'zod';
import { effectIdSchema, sessionIdSchema } from './ids.ts';

export const orphanKindSchema = z.enum(['gateway', 'sandbox', 'mcp']);
export type OrphanKind = z.infer<typeof orphanKindSchema>;

export const runningEffectSchema = z.object({
  session: sessionIdSchema,
  effect: effectIdSchema,
  attempt: z.number(),
  started_at: z.string(),
  /** When it has ended by itself, whatever happens; counted from the moment of the answer, so a
   *  clock that jumped meanwhile does not move it. */
  deadline_at: z.string(),
});
export type RunningEffect = z.infer<typeof runningEffectSchema>;

export const orphanStatusSchema = z.object({
  kind: orphanKindSchema,
  pid: z.number(),
  /** A sandbox host's one session; absent before it is initialized, and for a gateway. */
  session: sessionIdSchema.optional(),
  /** Its supervisor is gone and all it had said was heard: `running` can only shrink. */
  orphaned: z.boolean(),
  running: z.array(runningEffectSchema),
});
export type OrphanStatus = z.infer<typeof orphanStatusSchema>;

export const orphanRequests = {
  'orphan/status': { params: z.object({}), result: orphanStatusSchema },
  /** Ends what runs for this effect; its outcome goes to its spool as always. */
  'orphan/cancel': {
    params: z.object({ session: sessionIdSchema, effect: effectIdSchema }),
    result: z.object({}),
  },
} as const;

/** The folder of the sockets, below the state dir. */
export const RUN_FOLDER = 'run';

/** How a process is told where to listen. */
export const RUN_DIR_OPTION = '--run-dir=';

export function toOrphanSocketPath(runDir: string, kind: OrphanKind, pid: number): string {
  return join(runDir, `${kind}-${pid}.sock`);
}

/** The kind and pid of a socket's file name; undefined: not one of these. */
export function parseOrphanSocketName(
  name: string,
): { readonly kind: OrphanKind; readonly pid: number } | undefined {
  const found = /^(gateway|sandbox|mcp)-(\d{1,10})\.sock$/.exec(name);
  const kind = orphanKindSchema.safeParse(found?.[1]);
  return kind.success ? { kind: kind.data, pid: Number(found?.[2]) } : undefined;
}

/** The folder given on the command line; undefined: none, and nothing is listened on. */
export function findRunDir(args: readonly string[]): string | undefined {
  const found = args.find((arg) => arg.startsWith(RUN_DIR_OPTION))?.slice(RUN_DIR_OPTION.length);
  return found === '' ? undefined : found;
}
