/** What a running effect says, on its way into the journal. One batch is under way at a time, so
 *  that nothing is ever written behind a piece that could not be: after a failed write (a full
 *  disk) the feed is closed, and the rest is read from the effect's spool at its end. */
export interface LiveFeed<T> {
  /** Resolves when all that was pushed so far is written, or the feed is closed. Never rejects:
   *  the store says itself when it is degraded. */
  push(piece: T): Promise<void>;
  /** Waits for what is under way. False: something is missing from some piece on. */
  settle(): Promise<boolean>;
}

export function createLiveFeed<T>(write: (batch: readonly T[]) => Promise<unknown>): LiveFeed<T> {
  let queue: T[] = [];
  let writing: Promise<void> | undefined;
  let isWhole = true;

  async function writeAll(): Promise<void> {
    while (isWhole && queue.length > 0) {
      const batch = queue;
      queue = [];
      try {
        await write(batch);
      } catch {
        isWhole = false;
      }
    }
    writing = undefined;
  }

  return {
    push(piece) {
      if (!isWhole) return Promise.resolve();
      queue.push(piece);
      writing ??= writeAll();
      return writing;
    },
    async settle() {
      await writing;
      return isWhole;
    },
  };
}
