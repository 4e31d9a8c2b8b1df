/** The event loop under the simulation's hand. Every `setImmediate` of the code under test goes
 *  into a queue of ours, so that "nothing more happens at this instant" is known exactly, and the
 *  virtual clock moves only then. Promises and ticks run as always, in the order Node defines. */
import { setImmediate as realImmediate } from 'node:timers';
import { assert } from '../../base/assert.ts';

interface Entry {
  run: (() => void) | undefined;
}

export interface Loop {
  /** Runs until nothing is left to do at this instant. `onTurn` is called after each turn.
   *  Throws when that takes more than `turnsMax` turns: a loop without end. */
  settle(onTurn: () => void, turnsMax: number): Promise<void>;
  /** Gives the real functions back. */
  release(): void;
}

const nextRealTurn = (): Promise<void> =>
  new Promise((resolve) => {
    realImmediate(resolve);
  });

/** One simulation a process at a time: the functions it replaces are global. */
export function takeLoop(): Loop {
  const { setImmediate, clearImmediate } = globalThis;
  let queue: Entry[] = [];

  const enqueue = (callback: (...args: unknown[]) => void, ...args: unknown[]): Entry => {
    const entry: Entry = { run: () => callback(...args) };
    queue.push(entry);
    return entry;
  };
  const cancel = (entry: unknown): void => {
    if (typeof entry === 'object' && entry !== null) (entry as Entry).run = undefined;
  };
  // The handle is opaque to all who get one; nobody here refs or unrefs it.
  globalThis.setImmediate = enqueue as unknown as typeof setImmediate;
  globalThis.clearImmediate = cancel as typeof clearImmediate;

  return {
    async settle(onTurn, turnsMax) {
      let turns = 0;
      await nextRealTurn();
      onTurn();
      while (queue.length > 0) {
        // One turn of Node's loop: what is queued now; promises run between any two of them.
        const batch = queue;
        queue = [];
        for (const entry of batch) {
          entry.run?.();
          turns += 1;
          assert(turns <= turnsMax, `the instant does not end: ${turnsMax} turns at one time`);
          await nextRealTurn();
          onTurn();
        }
      }
    },
    release() {
      queue = [];
      globalThis.setImmediate = setImmediate;
      globalThis.clearImmediate = clearImmediate;
    },
  };
}
