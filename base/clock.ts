/** The only door to time. Elapsed time and deadlines use `nowMs` (monotonic: a jump of the wall
 *  clock changes nothing); `wallMs` is for stamps and display only. Timers longer than the 2^31
 *  limit of the runtime are chained, so that a 30-day deadline does not fire at once. */

import { assert } from './assert.ts';

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic milliseconds since an arbitrary origin. */
  nowMs(): number;
  /** Wall clock, milliseconds since 1970. */
  wallMs(): number;
  /** Calls `fire` once after `delayMs`; Infinity never fires. Does not keep the process alive. */
  setTimer(delayMs: number, fire: () => void): Timer;
  /** Resolves after `delayMs`, or at once (without error) when the signal aborts. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

const TIMER_MS_MAX = 2 ** 31 - 1;

function setChainedTimer(delayMs: number, fire: () => void): Timer {
  assert(!Number.isNaN(delayMs), 'a delay is a number');
  if (delayMs === Number.POSITIVE_INFINITY) return { cancel: () => undefined };
  const deadlineMs = performance.now() + Math.max(0, delayMs);
  let handle: NodeJS.Timeout;
  const arm = (): void => {
    const leftMs = Math.max(0, deadlineMs - performance.now());
    handle = setTimeout(leftMs > TIMER_MS_MAX ? arm : fire, Math.min(leftMs, TIMER_MS_MAX));
    handle.unref();
  };
  arm();
  return { cancel: () => clearTimeout(handle) };
}

/** `sleep` for any clock, built on its `setTimer`. */
export function sleepWith(
  clock: Pick<Clock, 'setTimer'>,
  delayMs: number,
  signal?: AbortSignal,
): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      timer.cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = clock.setTimer(delayMs, done);
    signal?.addEventListener('abort', done, { once: true });
  });
}

export const realClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer: setChainedTimer,
  sleep: (delayMs, signal) => sleepWith(realClock, delayMs, signal),
};

/** RFC 3339 UTC stamp of a wall time in milliseconds. */
export function toTimestamp(wallMs: number): string {
  return new Date(wallMs).toISOString();
}
