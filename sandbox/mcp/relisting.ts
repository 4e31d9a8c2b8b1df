/** When a server that says that its list has changed is asked for it: after a while, because it may
 *  say so all the time, and one question at a time, so that no older answer comes after a newer. */
import type { Clock, Timer } from '../../base/clock.ts';

const PAUSE_MS = 2000;

export interface Relisting {
  /** The list has changed. */
  changed(): void;
  stop(): void;
}

/** @param list  asks for it and takes it; never rejects. */
export function createRelisting(clock: Clock, list: () => Promise<void>): Relisting {
  let timer: Timer | undefined;
  let isAsking = false;
  let isStale = false;
  let isStopped = false;

  function plan(): void {
    if (isStopped || isAsking || !isStale) return;
    timer ??= clock.setTimer(PAUSE_MS, () => {
      timer = undefined;
      isStale = false;
      isAsking = true;
      void list().then(() => {
        isAsking = false;
        plan();
      });
    });
  }

  return {
    changed() {
      isStale = true;
      plan();
    },
    stop() {
      isStopped = true;
      timer?.cancel();
    },
  };
}
