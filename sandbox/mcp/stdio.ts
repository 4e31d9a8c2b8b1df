/** MCP over the standard streams of a sandboxed process: a JSON-RPC message a line. The server may
 *  print what it likes, as much as it likes, and read nothing: each has a bound, and behind it the
 *  server is ended with the reason. */
import {
  deserializeMessage,
  type RequestId,
  serializeMessage,
  type Transport,
} from '@modelcontextprotocol/client';
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import type { FileHostProcess } from '../launch/backend.ts';
import { cleanText } from './listing.ts';
import { NO_MESSAGE, toNoAnswer } from './no-answer.ts';

export interface StdioTransport extends Transport {
  /** Resolves when it is over, with the reason. */
  readonly ended: Promise<string>;
  /** Ends the server. The first reason counts. */
  end(reason: string): void;
}

/** Of one message: larger than any result that is worth having. */
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** Lines that are no messages: a banner, a stray print. */
const STRAY_LINES_MAX = 1000;
/** What waits for a server that does not read. */
const UNREAD_BYTES_MAX = 8 * 1024 * 1024;
const STDERR_CHARS_MAX = 2000;
const STDERR_CHARS_SHOWN = 300;

const answerSchema = z.object({ id: z.number(), method: z.never().optional() });

export function createStdioTransport(server: FileHostProcess): StdioTransport {
  const over = Promise.withResolvers<string>();
  let isOpen = true;
  let said = '';
  let strays = 0;

  const transport: StdioTransport = {
    ended: over.promise,
    end,
    async start() {
      server.stdout.on(
        'data',
        splitLines(onLine, () => end(tooLarge())),
      );
      server.stderr.on('data', (chunk: Buffer) => {
        said = (said + chunk.toString('utf8')).slice(-STDERR_CHARS_MAX);
      });
      server.stdin.on('error', () => undefined);
      void server.exited.then(() => end(`it ended${toTail(said)}`));
    },
    async send(message) {
      if (!isOpen) throw new PrxError('MCP_UNAVAILABLE', 'the server is gone');
      server.stdin.write(serializeMessage(message));
      if (server.stdin.writableLength > UNREAD_BYTES_MAX) end('it does not read what it is sent');
    },
    async close() {
      end('it was closed');
    },
  };

  function onLine(line: string): void {
    if (!isOpen) return;
    // Some print one behind each message: it counts as what nobody asked for, and not for ever.
    if (line.trim() === '') {
      transport.onerror?.(new Error('an empty line'));
      return;
    }
    try {
      transport.onmessage?.(deserializeMessage(line));
    } catch {
      const id = findAnswered(line);
      if (id !== undefined) transport.onmessage?.(toNoAnswer(id, NO_MESSAGE));
      // What is no message is not for us; too much of it is no server.
      strays += 1;
      if (strays > STRAY_LINES_MAX) {
        end(`it printed more than ${STRAY_LINES_MAX} lines that are no messages`);
      }
    }
  }

  function end(reason: string): void {
    if (!isOpen) return;
    isOpen = false;
    server.kill();
    over.resolve(reason);
    transport.onclose?.();
  }

  return transport;
}

/** Of an answer that is no message: who waits for it. */
function findAnswered(line: string): RequestId | undefined {
  try {
    return answerSchema.parse(JSON.parse(line)).id;
  } catch {
    return undefined;
  }
}

function tooLarge(): string {
  return `it sent a message of more than ${MESSAGE_BYTES_MAX} bytes`;
}

function toTail(said: string): string {
  const tail = cleanText(said).trim().slice(-STDERR_CHARS_SHOWN).replaceAll('\n', ' | ');
  return tail === '' ? '' : `; it last wrote: ${tail}`;
}

const NEWLINE = 10;

/** Holds at most one message that is not complete. */
function splitLines(onLine: (line: string) => void, onTooLong: () => void) {
  let parts: Buffer[] = [];
  let bytes = 0;
  return (chunk: Buffer): void => {
    let rest = chunk;
    for (let at = rest.indexOf(NEWLINE); at >= 0; at = rest.indexOf(NEWLINE)) {
      parts.push(rest.subarray(0, at));
      onLine(Buffer.concat(parts).toString('utf8'));
      parts = [];
      bytes = 0;
      rest = rest.subarray(at + 1);
    }
    bytes += rest.length;
    if (bytes > MESSAGE_BYTES_MAX) {
      parts = [];
      bytes = 0;
      onTooLong();
    } else if (rest.length > 0) parts.push(rest);
  };
}
