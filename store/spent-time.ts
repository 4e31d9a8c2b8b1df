/** How long the open turn has been executing, as far as its events say: from a start of its worker
 *  (or of the turn on a worker that is there) to its end, less the time in which the session was
 *  not `running`. A supervisor that dies says nothing more: what it wrote last counts as its end.
 *  All of it is pure, and does nothing for turns that a version before this one began. */
import type { SpentTime } from './contract.ts';

/** A worker executes the turn from now on; `spentMs` before. */
export function startTime(spentMs: number, at: string, isRunning: boolean): SpentTime {
  return isRunning ? { ms: spentMs, since: at } : { ms: spentMs, paused: true };
}

/** The session leaves `running`; its worker waits. */
export function pauseTime(time: SpentTime, at: string): SpentTime {
  return time.since === undefined ? time : { ms: toSpentMs(time, at), paused: true };
}

export function resumeTime(time: SpentTime, at: string): SpentTime {
  return time.paused === true ? { ms: time.ms, since: at } : time;
}

/** Nobody executes it any more; it did until `lastAt` at least. */
export function cutTime(time: SpentTime, lastAt: string): SpentTime {
  return { ms: toSpentMs(time, lastAt) };
}

/** @param at now, or the newest time at which it was seen to execute. A clock that was set back
 *  costs the time since the last stamp, and never gives any. */
export function toSpentMs({ ms, since }: SpentTime, at: string): number {
  return since === undefined ? ms : ms + Math.max(0, Date.parse(at) - Date.parse(since));
}
