/** How long a turn has been executing: runs only while the session works, not while it waits for
 *  a person (SURFACE: session_timeout_secs). */
import type { Clock, Timer } from '../../base/clock.ts';

export interface TurnClock {
  /** Idempotent; counts on from where it paused. */
  run(): void;
  pause(): void;
}

/** @param limitMs 0: no limit. */
export function createTurnClock(clock: Clock, limitMs: number, onLimit: () => void): TurnClock {
  let spentMs = 0;
  let sinceMs: number | undefined;
  let timer: Timer | undefined;
  return {
    run() {
      if (sinceMs !== undefined || limitMs === 0) return;
      sinceMs = clock.nowMs();
      timer = clock.setTimer(limitMs - spentMs, onLimit);
    },
    pause() {
      if (sinceMs === undefined) return;
      spentMs += clock.nowMs() - sinceMs;
      sinceMs = undefined;
      timer?.cancel();
    },
  };
}
