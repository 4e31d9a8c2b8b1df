/** The pipe to the supervisor. Importing this file, first of all, turns `process.stdout` into
 *  stderr: whatever prints (console.log, a library) cannot corrupt the protocol. */
import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';

const STDOUT = 1;

const original = Object.getOwnPropertyDescriptor(process, 'stdout');
Object.defineProperty(process, 'stdout', { configurable: true, get: () => process.stderr });

export interface ProtocolPipes {
  readonly input: Readable;
  readonly output: Writable;
}

/** Call once. A pipe is written without blocking, so that a stalled reader holds only those who
 *  wait for it; anything else (a file, a terminal) is written as Node does. */
export function openProtocolPipes(): ProtocolPipes {
  const stat = fstatSync(STDOUT);
  if (stat.isFIFO() || stat.isSocket()) {
    const output = new Socket({ fd: STDOUT, readable: false, writable: true });
    // A reader that went away shows as the end of the input; the failed write says nothing new.
    output.on('error', () => undefined);
    return { input: process.stdin, output };
  }
  return { input: process.stdin, output: original?.get?.call(process) as Writable };
}
