/** How many processes may be starting at once; the rest wait in order. A hundred that start
 *  together are not ready sooner than a few at a time, and keep everybody else from working. */

export interface StartGate {
  /** Runs `start` when its turn has come. Bounded by its callers: one waits for each session. */
  run<T>(start: () => Promise<T>): Promise<T>;
}

export function createStartGate(max: number): StartGate {
  const waiting: (() => void)[] = [];
  let running = 0;
  return {
    async run(start) {
      if (running >= max) await new Promise<void>((resolve) => waiting.push(resolve));
      else running += 1;
      try {
        return await start();
      } finally {
        const next = waiting.shift();
        // Whoever is next takes over this place.
        if (next !== undefined) next();
        else running -= 1;
      }
    },
  };
}
