/** A clock that moves when it is told to; `skip` is a machine that stood still: everything due
 *  fires late. */
import { type Clock, sleepWith } from '../../base/clock.ts';

export interface SteppedClock extends Clock {
  /** Moves on and fires what is due, each at its time. */
  advance(deltaMs: number): void;
  /** Jumps, then fires what became due meanwhile. */
  skip(deltaMs: number): void;
  /** Resolves when a timer of exactly this length waits. */
  armed(delayMs: number): Promise<void>;
  waiting(): number;
}

interface Pending {
  readonly atMs: number;
  readonly delayMs: number;
  readonly fire: () => void;
}

export function createSteppedClock(wallStartMs = 1_700_000_000_000): SteppedClock {
  const pending = new Set<Pending>();
  const watchers = new Set<() => void>();
  let nowMs = 0;
  const fireDue = (untilMs: number, moves: boolean): void => {
    for (let due = findDue(pending, untilMs); due; due = findDue(pending, untilMs)) {
      pending.delete(due);
      if (moves) nowMs = Math.max(nowMs, due.atMs);
      due.fire();
    }
  };
  const clock: SteppedClock = {
    nowMs: () => nowMs,
    wallMs: () => wallStartMs + nowMs,
    setTimer(delayMs, fire) {
      const timer = { atMs: nowMs + delayMs, delayMs, fire };
      pending.add(timer);
      for (const check of [...watchers]) check();
      return { cancel: () => void pending.delete(timer) };
    },
    sleep: (delayMs, signal) => sleepWith(clock, delayMs, signal),
    advance(deltaMs) {
      const untilMs = nowMs + deltaMs;
      fireDue(untilMs, true);
      nowMs = untilMs;
    },
    skip(deltaMs) {
      nowMs += deltaMs;
      fireDue(nowMs, false);
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
