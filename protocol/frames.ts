/** Bytes ↔ JSON-RPC messages: `Content-Length: n` framing for vscode-jsonrpc, our own because the
 *  stock one has no frame limit, no back-pressure on reading, and never recovers from (nor
 *  reports) a stray byte. Any violation ends the connection: the owner kills and restarts.
 *  Invariant: memory held for one peer is at most one frame plus one chunk of the pipe where it
 *  speaks, and ANSWERS_BYTES_MAX plus one frame where it does not listen. */
import { isUtf8 } from 'node:buffer';
import type { Readable, Writable } from 'node:stream';
import { Emitter, Message, type MessageReader, type MessageWriter } from 'vscode-jsonrpc/node';
import { isPrxError, PrxError, toPrxError } from '../base/errors.ts';

/** Largest body, bytes: a whole transcript of a long session fits, a runaway does not. */
const FRAME_BYTES_MAX = 64 * 1024 * 1024;
/** Answers that a peer has asked for and does not read, bytes. An honest one waits for what it
 *  asked, and has a few unread; our own requests and notices are bounded by who sends them. */
const ANSWERS_BYTES_MAX = 16 * 1024 * 1024;
/** `Content-Length: ` plus a number of at most 10 digits, with room to spare. */
const HEADER_BYTES_MAX = 64;
const HEADER_START = Buffer.from('Content-Length: ');
const HEADER_END = Buffer.from('\r\n\r\n');
/** What may stand behind `Content-Length: ` before the header is whole. */
const HEADER_REST = /^(\d{1,10}(\r(\n\r?)?)?)?$/;
const HEADER = /^Content-Length: (0|[1-9]\d{0,9})$/;

export interface FrameParser {
  /** Takes the next bytes; yields the bodies they complete, and must be iterated to the end.
   *  Throws FRAME_INVALID or FRAME_TOO_LARGE behind the bodies that are whole; the parser is of no
   *  use afterwards. Bytes that can be no header throw at once: a stray line is not waited on. */
  push(chunk: Buffer): Generator<Buffer, void>;
  /** Bytes of an unfinished frame: not 0 at the end of the stream means it was cut off. */
  pendingBytes(): number;
}

/** A parser for one stream; any chunking of the same bytes gives the same bodies. */
export function createFrameParser(bytesMax = FRAME_BYTES_MAX): FrameParser {
  let head: Buffer = Buffer.alloc(0);
  let body: Buffer | undefined;
  let filled = 0;

  /** Returns the bytes behind the header, or nothing while it is not whole. */
  function takeHeader(chunk: Buffer): Buffer {
    const joined = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    const end = joined.subarray(0, HEADER_BYTES_MAX).indexOf(HEADER_END);
    if (end >= 0) {
      body = Buffer.allocUnsafe(parseLength(joined.subarray(0, end), bytesMax));
      filled = 0;
      head = Buffer.alloc(0);
      return joined.subarray(end + HEADER_END.length);
    }
    if (joined.length >= HEADER_BYTES_MAX || !isHeaderStart(joined)) throw invalidHeader(joined);
    head = Buffer.from(joined);
    return Buffer.alloc(0);
  }

  return {
    *push(chunk) {
      let rest = chunk;
      while (rest.length > 0) {
        if (body === undefined) rest = takeHeader(rest);
        // An empty body is complete without a byte, so this does not wait for one.
        if (body === undefined) continue;
        const count = rest.copy(body, filled);
        filled += count;
        rest = rest.subarray(count);
        if (filled < body.length) break;
        const whole = body;
        body = undefined;
        yield whole;
      }
    },
    pendingBytes: () => head.length + (body === undefined ? 0 : filled + 1),
  };
}

function isHeaderStart(bytes: Buffer): boolean {
  const start = bytes.subarray(0, HEADER_START.length);
  const rest = bytes.toString('latin1', HEADER_START.length);
  return start.equals(HEADER_START.subarray(0, start.length)) && HEADER_REST.test(rest);
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
          hand(parseBody(body), deliver);
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
      // Any other error is the stream's own (a reset, a destroyed pipe): the peer is gone.
      if (!disposed && isPrxError(error)) errors.fire(error);
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

export interface WriterOptions {
  readonly frameBytesMax?: number | undefined;
  readonly answersBytesMax?: number;
}

/** Writes one buffer per message and resolves when the pipe has taken it: awaiting a send is the
 *  back-pressure towards whoever produces. Rejects with PEER_CLOSED when the pipe is gone, and
 *  with FRAME_TOO_LARGE (nothing is written then) when the peer would refuse the frame. An answer
 *  to a peer that asks on and does not read is an error of the connection, LIMIT_EXCEEDED. */
export function createFrameWriter(
  stream: Writable,
  { frameBytesMax = FRAME_BYTES_MAX, answersBytesMax = ANSWERS_BYTES_MAX }: WriterOptions = {},
): MessageWriter {
  const errors = new Emitter<[Error, Message | undefined, number | undefined]>();
  const closes = new Emitter<void>();
  stream.on('close', () => closes.fire());
  // Each write hears of its own failure; without a listener the event would end the process.
  stream.on('error', () => closes.fire());
  return {
    onError: errors.event,
    onClose: closes.event,
    async write(message) {
      const frame = encodeFrame(message, frameBytesMax);
      if (!stream.writable) throw new PrxError('PEER_CLOSED', 'the pipe to the peer is closed');
      if (Message.isResponse(message) && stream.writableLength > answersBytesMax) {
        const error = unread(stream.writableLength, answersBytesMax);
        errors.fire([error, message, undefined]);
        throw error;
      }
      await new Promise<void>((resolve, reject) => {
        stream.write(frame, (error) => {
          if (error) reject(new PrxError('PEER_CLOSED', error.message, { cause: error }));
          else resolve();
        });
      });
    },
    end: () => void stream.end(),
    dispose: () => undefined,
  };
}

function unread(bytes: number, limit: number): PrxError {
  const message = `the peer asks and does not read: ${bytes} bytes wait for it; the limit is ${limit}`;
  return new PrxError('LIMIT_EXCEEDED', message, { data: { bytes, limit } });
}

export function encodeFrame(message: Message, bytesMax = FRAME_BYTES_MAX): Buffer {
  const json = JSON.stringify(message);
  const length = Buffer.byteLength(json);
  if (length > bytesMax) {
    const text = `a message of ${length} bytes cannot be sent; the limit is ${bytesMax} bytes`;
    throw new PrxError('FRAME_TOO_LARGE', text, { data: { length, limit: bytesMax } });
  }
  return Buffer.from(`Content-Length: ${length}\r\n\r\n${json}`);
}

/** What the receiver throws at is a violation (a malformed cancel, for one), not an end. */
function hand(message: Message, deliver: (message: Message) => void): void {
  try {
    deliver(message);
  } catch (error) {
    throw toPrxError(error);
  }
}

/** JSON-RPC 2.0, no batches: a request, a notification or a response; vscode-jsonrpc would drop
 *  anything else without a word. */
function parseBody(body: Buffer): Message {
  const value = parseJson(body);
  if (typeof value === 'object' && value !== null && 'jsonrpc' in value) {
    const message = value as Message;
    const isKnown =
      Message.isRequest(message) || Message.isNotification(message) || Message.isResponse(message);
    if (message.jsonrpc === '2.0' && isKnown) return message;
  }
  const seen = JSON.stringify(body.subarray(0, 80).toString('utf8'));
  throw new PrxError('FRAME_INVALID', `a frame of ${body.length} bytes is no JSON-RPC: ${seen}`);
}

function parseJson(body: Buffer): unknown {
  // JSON.parse of a lenient decoding would take broken UTF-8 as U+FFFD and corrupt in silence.
  if (!isUtf8(body)) return undefined;
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

function nextLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
