/** The stop of one running turn. Asks in flight are answered `cancelled` by the gate, and what
 *  they brought so far belongs to the history; so they get a short grace. A gate that stays
 *  silent does not hold the turn: behind the grace its asks are abandoned. */
import type { Clock, Timer } from '../base/clock.ts';

/** How long an interrupted turn waits for the answers to its running asks. */
export const INTERRUPT_GRACE_MS = 2_000;

export interface Interrupt {
  isRequested(): boolean;
  /** Idempotent. */
  request(): void;
  /** Aborted when the grace is over. */
  readonly abandoned: AbortSignal;
  /** The turn has ended: no timer is left. */
  close(): void;
}

export function createInterrupt(clock: Pick<Clock, 'setTimer'>): Interrupt {
  const abandon = new AbortController();
  let timer: Timer | undefined;
  return {
    isRequested: () => timer !== undefined,
    request() {
      timer ??= clock.setTimer(INTERRUPT_GRACE_MS, () => abandon.abort());
    },
    abandoned: abandon.signal,
    close: () => timer?.cancel(),
  };
}
