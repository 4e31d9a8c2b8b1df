/** The end of what is happening now. */

/** Resolves when this turn of the event loop is over: everything that one read of the network
 *  brought is parsed, and answers that are ready have been written. */
export function nextLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
