/** What a server says that nobody asked for: notifications, requests, answers to no question of
 *  ours, events that are none. Over a pipe and behind a URL alike: each one costs its reader, and a
 *  request costs an answer as well, which behind a URL is a request of ours. */
import type { Clock } from '../../base/clock.ts';

const UNASKED_MAX = 2000;
const WINDOW_MS = 10_000;

export interface UnaskedCount {
  /** One more. Calls `onTooMany` with the reason when there were more than so many in a window. */
  add(): void;
}

export function createUnaskedCount(
  clock: Clock,
  onTooMany: (reason: string) => void,
): UnaskedCount {
  let sinceMs = clock.nowMs();
  let count = 0;
  return {
    add() {
      const nowMs = clock.nowMs();
      if (nowMs - sinceMs > WINDOW_MS) {
        sinceMs = nowMs;
        count = 0;
      }
      count += 1;
      if (count <= UNASKED_MAX) return;
      onTooMany(`it sent more than ${UNASKED_MAX} messages in ${WINDOW_MS / 1000} s unasked`);
    },
  };
}
