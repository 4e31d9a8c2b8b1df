/** A session with nothing to do: it waits to be woken, and says when its worker is to be given
 *  back: because it is no longer open, because others wait for the slot, or because that lasts. */
import type { Clock } from '../../base/clock.ts';
import type { SessionState } from '../../protocol/states.ts';
import type { Resident } from './resident.ts';

/** Why a slot is given back that another session waits for. */
export const CONTENDED = 'another session waits for the slot';

export interface IdlenessDeps {
  readonly clock: Clock;
  readonly resident: Pick<Resident, 'isHolding' | 'worker' | 'settled'>;
  readonly state: () => SessionState;
  readonly isOpen: () => boolean;
  /** Somebody waits for a slot. */
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
}

export function createIdleness(deps: IdlenessDeps): Idleness {
  const { clock, resident } = deps;
  let sinceMs: number | undefined;
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
    },
  };
}
