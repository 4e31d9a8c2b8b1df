/** Timers of base/clock.ts do not keep a process alive, and neither does a promise. A command that
 *  waits for either holds this open. */

/** Keeps the process alive until the returned function is called. */
export function stayAlive(): () => void {
  const channel = new MessageChannel();
  // A listening port counts as open work; nothing is ever sent.
  channel.port1.onmessage = () => undefined;
  return () => channel.port1.close();
}
