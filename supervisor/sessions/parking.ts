/** A turn that waits for a person needs no process. While all that is under way in it are calls
 *  that wait for an answer, its worker is taken away: at once when another session waits for a
 *  slot, otherwise when that has lasted as long as idleness may. The calls stay in the journal and
 *  in the gate; a later worker asks for them again and joins them. */
import type { Clock, Timer } from '../../base/clock.ts';
import { CONTENDED } from './idleness.ts';

export interface ParkingDeps {
  readonly clock: Clock;
  /** A worker runs the turn, and only a person can make it go on. */
  readonly isWaiting: () => boolean;
  /** Slots are short: see Admission. */
  readonly isContended: () => boolean;
  readonly idleHibernateMs: () => number;
  /** Takes the worker from the turn. */
  readonly park: (reason: string) => void;
}

export interface Parking {
  /** Something changed: looks again. */
  look(): void;
  /** Since when it waits, monotonic ms; undefined: it works, or its worker is being taken. */
  sinceMs(): number | undefined;
  /** @returns false: it does not wait (any more). */
  park(reason: string): boolean;
  /** The worker no longer runs the turn. */
  stop(): void;
}

export function createParking(deps: ParkingDeps): Parking {
  const { clock } = deps;
  let waiting: { readonly sinceMs: number; readonly timer: Timer } | undefined;
  let isParking = false;

  function stop(): void {
    waiting?.timer.cancel();
    waiting = undefined;
    isParking = false;
  }

  function park(reason: string): boolean {
    if (isParking || !deps.isWaiting()) return false;
    stop();
    isParking = true;
    deps.park(reason);
    return true;
  }

  return {
    park,
    stop,
    sinceMs: () => (deps.isWaiting() ? waiting?.sinceMs : undefined),
    look() {
      if (isParking) return;
      if (!deps.isWaiting()) return stop();
      if (deps.isContended()) {
        park(CONTENDED);
        return;
      }
      if (waiting !== undefined) return;
      const reason = 'an approval was pending for idle_hibernate_secs';
      const timer = clock.setTimer(deps.idleHibernateMs(), () => park(reason));
      waiting = { sinceMs: clock.nowMs(), timer };
    },
  };
}
