/** Virtual time. It stands still while anything can run and then jumps to the next timer. Every
 *  simulated process has a view of its own, which dies with it and is frozen with it: timers that
 *  came due meanwhile fire late, as after SIGCONT. */
import { assert } from '../../base/assert.ts';
import { type Clock, sleepWith, type Timer } from '../../base/clock.ts';

export interface ClockView extends Clock {
  /** The process died: nothing of it fires any more. */
  kill(): void;
  freeze(): void;
  thaw(): void;
}

export interface Time extends Clock {
  createView(): ClockView;
  /** Jumps to the next timer and fires it. False: none is left. */
  advance(): boolean;
  /** Somebody sets the wall clock; no timer hears of it. */
  setWall(byMs: number): void;
}

interface Pending {
  readonly atMs: number;
  readonly order: number;
  fire: (() => void) | undefined;
}

const WALL_START_MS = 1_800_000_000_000;

export function createTime(): Time {
  const heap: Pending[] = [];
  let nowMs = 0;
  let wallStartMs = WALL_START_MS;
  let orders = 0;

  function setTimer(delayMs: number, fire: () => void): Timer {
    assert(!Number.isNaN(delayMs), 'a delay is a number');
    if (delayMs === Number.POSITIVE_INFINITY) return { cancel: () => undefined };
    orders += 1;
    const pending: Pending = { atMs: nowMs + Math.max(0, delayMs), order: orders, fire };
    push(heap, pending);
    return {
      cancel() {
        pending.fire = undefined;
      },
    };
  }

  const base: Clock = {
    nowMs: () => nowMs,
    wallMs: () => wallStartMs + Math.round(nowMs),
    setTimer,
    sleep: (delayMs, signal) => sleepWith(base, delayMs, signal),
  };
  return {
    ...base,
    createView: () => createView(base),
    setWall(byMs) {
      wallStartMs += Math.round(byMs);
    },
    advance() {
      for (let next = pop(heap); next !== undefined; next = pop(heap)) {
        if (next.fire === undefined) continue;
        nowMs = next.atMs;
        next.fire();
        return true;
      }
      return false;
    },
  };
}

function createView(base: Clock): ClockView {
  let alive = true;
  let frozen = false;
  let overdue: (() => void)[] = [];
  const view: ClockView = {
    nowMs: base.nowMs,
    wallMs: base.wallMs,
    setTimer(delayMs, fire) {
      let cancelled = false;
      const run = (): void => {
        if (cancelled || !alive) return;
        if (frozen) overdue.push(run);
        else fire();
      };
      const timer = base.setTimer(delayMs, run);
      return {
        cancel() {
          cancelled = true;
          timer.cancel();
        },
      };
    },
    sleep: (delayMs, signal) => sleepWith(view, delayMs, signal),
    kill() {
      alive = false;
      overdue = [];
    },
    freeze() {
      frozen = true;
    },
    thaw() {
      frozen = false;
      const late = overdue;
      overdue = [];
      for (const run of late) base.setTimer(0, run);
    },
  };
  return view;
}

const isBefore = (one: Pending, other: Pending): boolean =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);

function push(heap: Pending[], item: Pending): void {
  let index = heap.length;
  heap.push(item);
  while (index > 0) {
    const up = (index - 1) >> 1;
    const parent = heap[up];
    if (parent === undefined || !isBefore(item, parent)) break;
    heap[index] = parent;
    index = up;
  }
  heap[index] = item;
}

function pop(heap: Pending[]): Pending | undefined {
  const [top] = heap;
  const last = heap.pop();
  if (top === undefined || last === undefined || heap.length === 0) return top;
  let index = 0;
  for (;;) {
    const left = index * 2 + 1;
    const one = heap[left];
    const other = heap[left + 1];
    if (one === undefined) break;
    const isRight = other !== undefined && isBefore(other, one);
    const child = isRight ? other : one;
    if (!isBefore(child, last)) break;
    heap[index] = child;
    index = isRight ? left + 1 : left;
  }
  heap[index] = last;
  return top;
}
