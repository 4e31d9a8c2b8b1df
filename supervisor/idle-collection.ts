/** Gives back, once it is quiet, what the work before it left on the heap. The runtime itself
 *  collects when it needs room; a supervisor whose sessions have all gone to sleep needs none, and
 *  would keep what thousands of them have touched. Never while it works: a whole collection holds
 *  the loop for tens of milliseconds. */
import type { Clock } from '../base/clock.ts';

export interface Heap {
  usedBytes(): number;
  /** Share of the time since the last call in which the loop was busy, 0 to 1. */
  busyShare(): number;
  collect(): void;
}

const LOOK_MS = 5000;
/** Heartbeats and samples of idle children are below it. */
const QUIET_SHARE = 0.03;
/** Less is not worth the pause. */
const GROWTH_BYTES_MIN = 4 * 2 ** 20;

/** Looks at each interval; two quiet looks in a row, and growth since the last collection, and it
 *  collects. @returns how to stop. */
export function startIdleCollection(clock: Clock, heap: Heap): () => void {
  let keptBytes = heap.usedBytes();
  let quietLooks = 0;
  heap.busyShare();
  const look = (): void => {
    timer = clock.setTimer(LOOK_MS, look);
    quietLooks = heap.busyShare() < QUIET_SHARE ? quietLooks + 1 : 0;
    // The runtime may have collected itself.
    keptBytes = Math.min(keptBytes, heap.usedBytes());
    if (quietLooks < 2 || heap.usedBytes() - keptBytes < GROWTH_BYTES_MIN) return;
    heap.collect();
    keptBytes = heap.usedBytes();
  };
  let timer = clock.setTimer(LOOK_MS, look);
  return () => timer.cancel();
}
