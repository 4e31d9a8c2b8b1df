/** Whether a process that nobody speaks to may live on. Pure. */

export interface OrphanFacts {
  /** It has answered at least once. */
  readonly isKnown: boolean;
  readonly runningCount: number;
  /** Since nothing runs there; 0 while something does. */
  readonly idleForMs: number;
  /** Behind the deadline of the last effect that runs there; below 0: before it. */
  readonly overdueMs: number;
  /** Since the last of all that runs there was cancelled; 0: not all of it was. */
  readonly cancelledForMs: number;
  readonly silentForMs: number;
  /** Never known: the journal has an effect that may run there and was not cancelled. */
  readonly isWanted: boolean;
  readonly foundForMs: number;
  /** The longest that anything may run there. */
  readonly limitMs: number;
}

export type OrphanDeath = 'idle' | 'overdue' | 'cancelled' | 'silent';

/** With nothing to do it exits by itself; a host gives its sandboxes back first. */
export const IDLE_MS_MAX = 3000;
/** Behind a deadline that the process keeps itself. */
export const OVERDUE_MS_MAX = 2000;
/** From the cancel to the end of all that runs. */
export const CANCEL_MS_MAX = 2000;
/** An event loop that is merely busy answers within this. */
export const SILENT_MS_MAX = 5000;

/** Why it is killed; undefined: it lives on. */
export function decideOrphan(facts: OrphanFacts): OrphanDeath | undefined {
  if (facts.isKnown) {
    if (facts.runningCount === 0) return facts.idleForMs > IDLE_MS_MAX ? 'idle' : undefined;
    if (facts.cancelledForMs > CANCEL_MS_MAX) return 'cancelled';
    return facts.overdueMs > OVERDUE_MS_MAX ? 'overdue' : undefined;
  }
  if (facts.silentForMs <= SILENT_MS_MAX) return undefined;
  return !facts.isWanted || facts.foundForMs > facts.limitMs ? 'silent' : undefined;
}
