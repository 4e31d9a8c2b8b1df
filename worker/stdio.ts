/** Keeps the pipe to the supervisor clean. This module is imported before any other, so that it
 *  runs first: from then on whatever writes to `process.stdout` (console.log, a stray dependency)
 *  lands on stderr; only the connection holds the real stream. What is written past the stream,
 *  straight to descriptor 1, cannot be caught here: the supervisor sees it as a protocol
 *  violation and replaces the worker. */
import type { Readable, Writable } from 'node:stream';

/** The one stream frames are written to. */
export const framesOut: Writable = process.stdout;
export const framesIn: Readable = process.stdin;

Object.defineProperty(process, 'stdout', {
  configurable: false,
  enumerable: true,
  get: () => process.stderr,
});
