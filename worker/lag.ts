/** The longest delay of the event loop since it was last asked for. Sampled by a timer that runs
 *  only while a turn does: hundreds of idle workers must not wake up for it. */
import type { Clock, Timer } from '../base/clock.ts';

const SAMPLE_MS = 500;

export interface LagMeter {
  start(): void;
  stop(): void;
  /** Milliseconds; resets the maximum. */
  takeMaxMs(): number;
}

export function createLagMeter(clock: Pick<Clock, 'nowMs' | 'setTimer'>): LagMeter {
  let timer: Timer | undefined;
  let expectedMs = 0;
  let maxMs = 0;

  const measure = (): void => {
    maxMs = Math.max(maxMs, clock.nowMs() - expectedMs);
  };
  const arm = (): void => {
    expectedMs = clock.nowMs() + SAMPLE_MS;
    timer = clock.setTimer(SAMPLE_MS, () => {
      measure();
      arm();
    });
  };
  return {
    start() {
      if (timer === undefined) arm();
    },
    stop() {
      timer?.cancel();
      timer = undefined;
    },
    takeMaxMs() {
      // A sample that is overdue counts as well: the answer may come before its timer.
      if (timer !== undefined) measure();
      const taken = Math.max(0, maxMs);
      maxMs = 0;
      return taken;
    },
  };
}
