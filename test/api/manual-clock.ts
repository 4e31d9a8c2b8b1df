/** A clock that moves when told to, so that heartbeats and pauses are tested without waiting. */
import { type Clock, sleepWith } from '../../base/clock.ts';

export interface ManualClock extends Clock {
  /** Moves time on and fires what is due, oldest first. */
  advance(deltaMs: number): void;
  /** Resolves when something waits for a timer of exactly this length. */
  armed(delayMs: number): Promise<void>;
  /** Timers that have not fired. */
  waiting(): number;
}

interface Pending {
  readonly atMs: number;
  readonly delayMs: number;
  readonly fire: () => void;
}

export function createManualClock(): ManualClock {
  const pending = new Set<Pending>();
  const watchers = new Set<() => void>();
  let nowMs = 0;
  const clock: ManualClock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    setTimer(delayMs, fire) {
      const timer = { atMs: nowMs + delayMs, delayMs, fire };
      pending.add(timer);
      for (const check of [...watchers]) check();
      return { cancel: () => void pending.delete(timer) };
    },
    sleep: (delayMs, signal) => sleepWith(clock, delayMs, signal),
    advance(deltaMs) {
      const untilMs = nowMs + deltaMs;
      for (let due = findDue(pending, untilMs); due; due = findDue(pending, untilMs)) {
        pending.delete(due);
        nowMs = due.atMs;
        due.fire();
      }
      nowMs = untilMs;
    },
    armed: (delayMs) =>
      new Promise((resolve) => {
        const check = (): void => {
          if (![...pending].some((timer) => timer.delayMs === delayMs)) return;
          watchers.delete(check);
          resolve();
        };
        watchers.add(check);
        check();
      }),
    waiting: () => pending.size,
  };
  return clock;
}

function findDue(pending: ReadonlySet<Pending>, untilMs: number): Pending | undefined {
  const due = [...pending].filter(({ atMs }) => atMs <= untilMs);
  return due.sort((a, b) => a.atMs - b.atMs)[0];
}
