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
  spentMs(): number;
}

export interface TurnClockSpec {
  /** 0: no limit. */
  readonly limitMs: number;
  readonly spentMs: number;
}

export function createTurnClock(
  clock: Clock,
  { limitMs, spentMs: earlierMs }: TurnClockSpec,
  onLimit: () => void,
): TurnClock {
  let spentMs = earlierMs;
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
      if (sinceMs !== undefined) return;
      sinceMs = clock.nowMs();
      if (limitMs > 0) timer = clock.setTimer(Math.max(0, limitMs - spentMs), onTimer);
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
    spentMs: () => spentMs + (sinceMs === undefined ? 0 : clock.nowMs() - sinceMs),
  };
}

export interface PassedLimit {
  readonly limit: string;
  /** Seconds. */
  readonly max: number;
  readonly reason: string;
}

interface TurnClocks extends Pick<TurnClock, 'run' | 'pause' | 'spentMs'> {
  /** A chunk, some output, a step. */
  onProgress(): void;
}

/** Milliseconds; 0: no such limit. */
export interface TurnLimits {
  readonly turnMs: number;
  readonly progressMs: number;
}

/** The clocks of the open turn; without one they stand still. */
export interface TurnTime extends TurnClocks {
  /** A turn begins, or goes on (then nothing changes). */
  open(turn: number, onLimit: (passed: PassedLimit) => void): void;
  close(): void;
}

export interface TurnTimeDeps {
  readonly clock: Clock;
  readonly limits: () => TurnLimits;
  /** The turn that an earlier supervisor left open, and how long it had been executing. */
  readonly earlier: { readonly turn: number; readonly spentMs: number } | undefined;
}

export function createTurnTime({ clock, limits, earlier }: TurnTimeDeps): TurnTime {
  let current: { readonly turn: number; readonly clocks: TurnClocks } | undefined;
  return {
    open(turn, onLimit) {
      if (current?.turn === turn) return;
      current?.clocks.pause();
      const spentMs = earlier?.turn === turn ? earlier.spentMs : 0;
      current = { turn, clocks: createTurnClocks(clock, { ...limits(), spentMs }, onLimit) };
    },
    close() {
      current?.clocks.pause();
      current = undefined;
    },
    run: () => current?.clocks.run(),
    pause: () => current?.clocks.pause(),
    onProgress: () => current?.clocks.onProgress(),
    spentMs: () => current?.clocks.spentMs() ?? 0,
  };
}

/** Both clocks of one turn. */
function createTurnClocks(
  clock: Clock,
  { turnMs, progressMs, spentMs }: TurnLimits & { readonly spentMs: number },
  onLimit: (passed: PassedLimit) => void,
): TurnClocks {
  const [max, quietMax] = [turnMs / 1000, progressMs / 1000];
  const reason = `the turn ran longer than ${max} s`;
  const whole = createTurnClock(clock, { limitMs: turnMs, spentMs }, () => {
    onLimit({ limit: 'session_timeout_secs', max, reason });
  });
  const progress = createTurnClock(clock, { limitMs: progressMs, spentMs: 0 }, () => {
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
    spentMs: whole.spentMs,
  };
}
