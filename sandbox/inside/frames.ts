/** Keeps the pipe to the sandbox host clean where code of others runs in our process. Imported
 *  before anything else: from then on whatever writes to `process.stdout` lands on stderr. What is
 *  written straight to descriptor 1 breaks the frames, and the process with it. */
import type { Writable } from 'node:stream';

export const framesOut: Writable = process.stdout;

Object.defineProperty(process, 'stdout', {
  configurable: false,
  enumerable: true,
  get: () => process.stderr,
});
