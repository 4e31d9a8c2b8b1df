/** When a stream that a server cut is opened again: after the pause that the server asks for, but
 *  not without a pause for ever. The SDK begins to count anew with each stream that could be
 *  opened, so one that is cut at once, over and over, has no bound there. */
import type { Clock } from '../../base/clock.ts';

/** So often in a window as the server likes; then after the longest pause. */
const REOPENS_MAX = 10;
const WINDOW_MS = 10_000;
export const PAUSE_MS_MAX = 30_000;

/** @returns what the SDK asks for each reopening; that returns how it is called off. */
export function createReopening(clock: Clock): (reopen: () => void, pauseMs: number) => () => void {
  let recent: readonly number[] = [];
  return (reopen, pauseMs) => {
    const nowMs = clock.nowMs();
    recent = recent.filter((atMs) => nowMs - atMs < WINDOW_MS);
    const isOften = recent.length >= REOPENS_MAX;
    if (!isOften) recent = [...recent, nowMs];
    const timer = clock.setTimer(isOften ? PAUSE_MS_MAX : Math.min(pauseMs, PAUSE_MS_MAX), reopen);
    return () => timer.cancel();
  };
}
