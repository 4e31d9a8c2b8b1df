/** A session with nothing to do: it waits to be woken, and says when its worker is to be given
 *  back: because it is no longer open, because others wait for the slot, or because that lasts. */
import type { Clock } from '../../base/clock.ts';
import type { SessionState } from '../../protocol/states.ts';
import type { Resident } from './resident.ts';

/** Why a slot is given back while slots are short. */
export const CONTENDED = 'its slot is needed';
/** A session with further inputs keeps a slot that others wait for as long as this, and to the end
 *  of its turn. Another worker and another sandbox host cost a good part of a second on a machine
 *  that is that busy: where slots were given at each turn, ten times fewer short ones were done. */
export const TURNS_MS = 2000;

export interface IdlenessDeps {
  readonly clock: Clock;
  readonly resident: Pick<Resident, 'isHolding' | 'worker' | 'settled'>;
  readonly state: () => SessionState;
  readonly isOpen: () => boolean;
  /** Slots are short: see Admission. */
  readonly isContended: () => boolean;
  readonly idleHibernateMs: () => number;
  /** An idle worker died or was replaced: by policy another one takes its place at once. */
  readonly replace: () => Promise<unknown>;
}

export interface Idleness {
  /** Until something changed. @returns why the worker is to be given back; undefined: it is not. */
  rest(): Promise<string | undefined>;
  wake(): void;
  /** Since when it is idle, monotonic ms; undefined: it is not, or is not open. */
  sinceMs(): number | undefined;
  /** The worker is to be given back when there is nothing to do. */
  hibernate(reason: string): void;
  /** There is something to do: what was said before no longer counts. */
  end(): void;
  /** Asked between two turns: it had its time, and its slot is for who waits. */
  mustYield(): boolean;
}

export function createIdleness(deps: IdlenessDeps): Idleness {
  const { clock, resident } = deps;
  let sinceMs: number | undefined;
  let busySinceMs: number | undefined;
  let reason: string | undefined;
  let wake: () => void = () => undefined;

  async function wait(woken: Promise<void>): Promise<void> {
    const timer = new AbortController();
    const limitMs = resident.isHolding() ? deps.idleHibernateMs() : Number.POSITIVE_INFINITY;
    const slept = clock.sleep(limitMs, timer.signal).then(() => {
      if (!timer.signal.aborted) reason = 'idle_hibernate_secs passed';
    });
    const died = resident.worker() === undefined ? [] : [resident.settled()];
    sinceMs = deps.isOpen() ? clock.nowMs() : undefined;
    await Promise.race([woken, slept, ...died]);
    sinceMs = undefined;
    timer.abort();
  }

  async function rest(): Promise<string | undefined> {
    busySinceMs = undefined;
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const isHolding = resident.isHolding();
    if (isHolding && !deps.isOpen()) reason = `the session is ${deps.state()}`;
    else if (isHolding && deps.isContended()) reason = CONTENDED;
    if (reason === undefined && isHolding && resident.worker() === undefined) {
      await deps.replace();
      return undefined;
    }
    if (reason === undefined) await wait(woken);
    const given = reason;
    reason = undefined;
    return given;
  }

  return {
    rest,
    wake: () => wake(),
    sinceMs: () => sinceMs,
    hibernate(given) {
      reason = given;
      wake();
    },
    end() {
      reason = undefined;
      busySinceMs ??= clock.nowMs();
    },
    mustYield() {
      const busyMs = busySinceMs === undefined ? 0 : clock.nowMs() - busySinceMs;
      if (busyMs < TURNS_MS || !deps.isContended()) return false;
      busySinceMs = undefined;
      return true;
    },
  };
}
