/** The reserve of an effect: durable before anything of it exists, and never behind a tombstone or
 *  in a pause. Whether it may be is asked in the same instant in which it is written: between an
 *  answer and whoever awaits it others run, and one of them may write the tombstone (seen in one of
 *  10,000 simulated runs). */
import type { Draft } from '../sessions/journal.ts';
import type { GateDeps } from './ports.ts';

export interface Starting {
  readonly deps: Pick<GateDeps, 'permission' | 'permissionChanged' | 'journal'>;
  /** Aborted when the turn is interrupted. */
  readonly signal: AbortSignal;
}

/** Interrupted, as far as the journal shows: a tombstone that became durable together with a
 *  reserve is known before anybody was told to stop. Nothing that was reserved is sent then. */
export function isOver({ deps, signal }: Starting): boolean {
  return signal.aborted || deps.permission() === 'stop';
}

/** Waits while it is not known, or the session is suspended. False: nothing of the turn starts any
 *  more. */
export async function mayGoOn(starting: Starting): Promise<boolean> {
  const { deps } = starting;
  for (;;) {
    if (isOver(starting)) return false;
    if (deps.permission() === 'go') return true;
    await deps.permissionChanged();
  }
}

/** Appends what it is in the instant in which something may start. False: it was not written, and
 *  never will be. @throws what the journal throws. */
export async function reserve(
  starting: Starting,
  toDrafts: () => readonly Draft[],
): Promise<boolean> {
  const { deps, signal } = starting;
  for (;;) {
    if (!(await mayGoOn(starting))) return false;
    // No await between these two.
    if (deps.permission() !== 'go' || signal.aborted) continue;
    const drafts = toDrafts();
    if (drafts.length > 0) await deps.journal.append(...drafts);
    return true;
  }
}
