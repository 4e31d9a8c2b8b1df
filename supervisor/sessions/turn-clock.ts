/** How long a turn has been executing: runs only while the session works, not while it waits for
 *  a person (SURFACE: session_timeout_secs); and for how long nothing came of it
 *  (progress_timeout_secs). */
import type { Clock, Timer } from '../../base/clock.ts';

export interface TurnClock {
  /** Idempotent; counts on from where it paused. */
  run(): void;
  pause(): void;
  /** Counts from zero again. Cheap: it is called for each chunk of a stream. */
  reset(): void;
}

/** @param limitMs 0: no limit. */
export function createTurnClock(clock: Clock, limitMs: number, onLimit: () => void): TurnClock {
  let spentMs = 0;
  let sinceMs: number | undefined;
  let timer: Timer | undefined;

  function onTimer(): void {
    if (sinceMs === undefined) return;
    const leftMs = limitMs - spentMs - (clock.nowMs() - sinceMs);
    // It was reset meanwhile.
    if (leftMs > 0) timer = clock.setTimer(leftMs, onTimer);
    else onLimit();
  }

  return {
    run() {
      if (sinceMs !== undefined || limitMs === 0) return;
      sinceMs = clock.nowMs();
      timer = clock.setTimer(limitMs - spentMs, onTimer);
    },
    pause() {
      if (sinceMs === undefined) return;
      spentMs += clock.nowMs() - sinceMs;
      sinceMs = undefined;
      timer?.cancel();
    },
    reset() {
      spentMs = 0;
      if (sinceMs !== undefined) sinceMs = clock.nowMs();
    },
  };
}

export interface PassedLimit {
  readonly limit: string;
  /** Seconds. */
  readonly max: number;
  readonly reason: string;
}

export interface TurnClocks extends Pick<TurnClock, 'run' | 'pause'> {
  /** A chunk, some output, a step. */
  onProgress(): void;
}

/** Both clocks of one turn. 0: no such limit. */
export function createTurnClocks(
  clock: Clock,
  { turnMs, progressMs }: { readonly turnMs: number; readonly progressMs: number },
  onLimit: (passed: PassedLimit) => void,
): TurnClocks {
  const [max, quietMax] = [turnMs / 1000, progressMs / 1000];
  const reason = `the turn ran longer than ${max} s`;
  const whole = createTurnClock(clock, turnMs, () => {
    onLimit({ limit: 'session_timeout_secs', max, reason });
  });
  const progress = createTurnClock(clock, progressMs, () => {
    const limit = 'agent.worker.progress_timeout_secs';
    const quiet = `no model chunk, tool output or step for ${quietMax} s`;
    onLimit({ limit, max: quietMax, reason: quiet });
  });
  return {
    run() {
      whole.run();
      progress.run();
    },
    pause() {
      whole.pause();
      progress.pause();
    },
    onProgress: () => progress.reset(),
  };
}
