/** Back-pressure for work that is started but not awaited: counts what is under way and holds the
 *  source while there is too much of it. */
import { assert } from './assert.ts';

export interface FlowLimit {
  /** Counts `work` until it settles. */
  track(work: Promise<unknown>): void;
  /** Undefined while there is room; else a promise that resolves when half of it has settled. */
  hold(): Promise<void> | undefined;
}

export function createFlowLimit(max: number): FlowLimit {
  assert(max >= 2, 'a flow limit leaves room for two');
  let running = 0;
  let waiters: (() => void)[] = [];
  const settled = (): void => {
    running -= 1;
    if (running > max / 2) return;
    const free = waiters;
    waiters = [];
    for (const resolve of free) resolve();
  };
  return {
    track(work) {
      running += 1;
      work.then(settled, settled);
    },
    hold() {
      if (running < max) return undefined;
      return new Promise((resolve) => waiters.push(resolve));
    },
  };
}
