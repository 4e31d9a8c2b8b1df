/** Bytes ↔ JSON-RPC messages: `Content-Length: n` framing for vscode-jsonrpc, our own because the
 *  stock one has no frame limit, no back-pressure on reading, and never recovers from (nor
 *  reports) a stray byte. Any violation ends the connection: the owner kills and restarts.
 *  Invariant: memory held for one peer is at most one frame plus one chunk of the pipe. */
import type { Readable, Writable } from 'node:stream';
import { Emitter, type Message, type MessageReader, type MessageWriter } from 'vscode-jsonrpc/node';
import { PrxError, toPrxError } from '../base/errors.ts';

/** Largest body, bytes: a whole transcript of a long session fits, a runaway does not. */
export const FRAME_BYTES_MAX = 64 * 1024 * 1024;
/** `Content-Length: ` plus a number of at most 10 digits, with room to spare. */
const HEADER_BYTES_MAX = 64;
const HEADER_END = Buffer.from('\r\n\r\n');
const HEADER = /^Content-Length: (0|[1-9]\d{0,9})$/;

export interface FrameParser {
  /** Takes the next bytes; returns the bodies they complete. Throws FRAME_INVALID or
   *  FRAME_TOO_LARGE; the parser is of no use afterwards. */
  push(chunk: Buffer): readonly Buffer[];
  /** Bytes of an unfinished frame: not 0 at the end of the stream means it was cut off. */
  pendingBytes(): number;
}

/** A parser for one stream; any chunking of the same bytes gives the same bodies. */
export function createFrameParser(bytesMax = FRAME_BYTES_MAX): FrameParser {
  let head = Buffer.alloc(0);
  let body: Buffer | undefined;
  let filled = 0;

  function takeHeader(chunk: Buffer): Buffer {
    const joined = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const end = joined.indexOf(HEADER_END);
    if (end < 0 ? joined.length > HEADER_BYTES_MAX : end > HEADER_BYTES_MAX) {
      throw invalidHeader(joined);
    }
    if (end < 0) {
      head = Buffer.from(joined);
      return Buffer.alloc(0);
    }
    body = Buffer.allocUnsafe(parseLength(joined.subarray(0, end), bytesMax));
    filled = 0;
    head = Buffer.alloc(0);
    return joined.subarray(end + HEADER_END.length);
  }

  return {
    push(chunk) {
      const bodies: Buffer[] = [];
      let rest = chunk;
      while (rest.length > 0 || (body !== undefined && filled === body.length)) {
        if (body === undefined) {
          rest = takeHeader(rest);
          continue;
        }
        const count = rest.copy(body, filled);
        filled += count;
        rest = rest.subarray(count);
        if (filled < body.length) break;
        bodies.push(body);
        body = undefined;
      }
      return bodies;
    },
    pendingBytes: () => head.length + (body === undefined ? 0 : filled + 1),
  };
}

function parseLength(header: Buffer, bytesMax: number): number {
  const match = HEADER.exec(header.toString('latin1'));
  if (match === null) throw invalidHeader(header);
  const length = Number(match[1]);
  if (length > bytesMax) {
    const message = `a frame of ${length} bytes was announced; the limit is ${bytesMax} bytes`;
    throw new PrxError('FRAME_TOO_LARGE', message, { data: { length, limit: bytesMax } });
  }
  return length;
}

function invalidHeader(bytes: Buffer): PrxError {
  const seen = JSON.stringify(bytes.subarray(0, HEADER_BYTES_MAX).toString('latin1'));
  return new PrxError(
    'FRAME_INVALID',
    `expected a "Content-Length: n" header, found ${seen}; only the protocol may be written here`,
    { data: { seen } },
  );
}

export interface ReaderOptions {
  readonly frameBytesMax?: number;
  /** Asked before each message; a returned promise holds the reading (and, through the full
   *  pipe, the writer) until it settles. */
  readonly holdReading?: () => Promise<void> | undefined;
}

/** Reads one message per turn of the event loop; a flood blocks its sender, not us. */
export function createFrameReader(stream: Readable, options: ReaderOptions = {}): MessageReader {
  const errors = new Emitter<Error>();
  const closes = new Emitter<void>();
  const partials = new Emitter<never>();
  const parser = createFrameParser(options.frameBytesMax);
  let disposed = false;

  async function pump(deliver: (message: Message) => void): Promise<void> {
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        for (const body of parser.push(chunk)) {
          await options.holdReading?.();
          if (disposed) return;
          deliver(parseBody(body));
          await nextLoopTurn();
        }
      }
      const cutBytes = parser.pendingBytes();
      if (cutBytes > 0) {
        throw new PrxError('FRAME_INVALID', `the stream ended inside a frame (${cutBytes} bytes)`, {
          data: { truncated: true },
        });
      }
    } catch (error) {
      if (!disposed) errors.fire(toPrxError(error));
    }
    if (!disposed) closes.fire();
  }

  return {
    onError: errors.event,
    onClose: closes.event,
    onPartialMessage: partials.event,
    listen(deliver) {
      void pump(deliver);
      return { dispose: () => undefined };
    },
    dispose() {
      disposed = true;
      stream.destroy();
    },
  };
}

/** Writes one buffer per message and resolves when the pipe has taken it: awaiting a send is the
 *  back-pressure towards whoever produces. */
export function createFrameWriter(stream: Writable): MessageWriter {
  const errors = new Emitter<[Error, Message | undefined, number | undefined]>();
  const closes = new Emitter<void>();
  stream.on('close', () => closes.fire());
  return {
    onError: errors.event,
    onClose: closes.event,
    write: (message) =>
      new Promise((resolve, reject) => {
        stream.write(encodeFrame(message), (error) => {
          if (error) reject(error);
          else resolve();
        });
      }),
    end: () => void stream.end(),
    dispose: () => undefined,
  };
}

export function encodeFrame(message: Message): Buffer {
  const json = JSON.stringify(message);
  return Buffer.from(`Content-Length: ${Buffer.byteLength(json)}\r\n\r\n${json}`);
}

function parseBody(body: Buffer): Message {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value === 'object' && value !== null && 'jsonrpc' in value) {
      // The connection checks the rest: id, method, params, result.
      return value as Message;
    }
  } catch {
    // Reported below: not JSON and not JSON-RPC are the same violation.
  }
  const seen = JSON.stringify(body.subarray(0, 80).toString('utf8'));
  throw new PrxError('FRAME_INVALID', `a frame of ${body.length} bytes is no JSON-RPC: ${seen}`);
}

function nextLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
