/** Server-sent events. The journal is read only as fast as the client reads: after a write that
 *  the kernel does not take at once, nothing more is pulled until it has, so a slow reader costs
 *  one frame of memory. One that takes nothing for minutes is dropped; its last id says
 *  where it goes on. Who has caught up is fed together with the others (live.ts). */
import type { ServerResponse } from 'node:http';
import type { Writable } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import type { Batch, Broadcasts } from './broadcast.ts';
import { type StreamSource, writeFrames } from './live.ts';
import type { StreamFrame } from './route.ts';

export const EVENT_STREAM_TYPE = 'text/event-stream; charset=utf-8';
/** Comment lines that keep proxies and clients from taking a quiet stream for a dead one. */
export const HEARTBEAT_MS = 15_000;
/** A client that has taken nothing for this long is gone, or may come back with its last id. */
export const STALL_MS_MAX = 300_000;
/** What an EventSource waits before it connects again. */
const RETRY_MS = 1000;

export interface EventStream {
  readonly response: ServerResponse;
  readonly headers: Readonly<Record<string, string>>;
  readonly clock: Clock;
  /** Aborted when the client is gone or the server closes. */
  readonly signal: AbortSignal;
}

/** Writes frames until they end or the signal aborts. `toProblemText` says in JSON what broke the
 *  stream; the client gets it as the event `problem`. Never rejects. */
export async function writeEventStream(
  stream: EventStream & { readonly broadcasts: Broadcasts },
  source: StreamSource,
  toProblemText: (error: unknown) => string,
): Promise<void> {
  const { response, signal } = stream;
  response.writeHead(200, {
    ...stream.headers,
    'content-type': EVENT_STREAM_TYPE,
    'cache-control': 'no-store',
    // Proxies of the nginx kind would hold events back.
    'x-accel-buffering': 'no',
  });
  const write = createWriter(stream, takeOver(response));
  try {
    await write(toBytes(`retry: ${RETRY_MS}\n\n`));
    await writeFrames(stream, source, {
      write: (frame) => write(toFrameBytes(frame)),
      now: (batch) => write.now(toBatchBytes(batch)),
      drained: write.drained,
    });
  } catch (error) {
    const text = `event: problem\ndata: ${toProblemText(error)}\n\n`;
    if (!signal.aborted) await write(toBytes(text));
  } finally {
    write.end();
  }
}

interface FrameBytes {
  readonly plain: Buffer;
  /** The same as a chunk of HTTP/1.1. */
  readonly chunk: Buffer;
}

/** A frame may go to many clients, and is encoded once. */
const bytesOf = new WeakMap<StreamFrame, FrameBytes>();

function toFrameBytes(frame: StreamFrame): FrameBytes {
  const known = bytesOf.get(frame);
  if (known !== undefined) return known;
  const bytes = toBytes(toText(frame));
  bytesOf.set(frame, bytes);
  return bytes;
}

/** The same batch goes to many clients, too. */
const bytesOfBatch = new WeakMap<Batch, FrameBytes>();

function toBatchBytes(batch: Batch): FrameBytes {
  const [first] = batch;
  if (first !== undefined && batch.length === 1) return toFrameBytes(first);
  const known = bytesOfBatch.get(batch);
  if (known !== undefined) return known;
  const each = batch.map(toFrameBytes);
  const bytes = {
    plain: Buffer.concat(each.map(({ plain }) => plain)),
    chunk: Buffer.concat(each.map(({ chunk }) => chunk)),
  };
  bytesOfBatch.set(batch, bytes);
  return bytes;
}

function toBytes(text: string): FrameBytes {
  const head = `${Buffer.byteLength(text).toString(16)}\r\n`;
  const chunk = Buffer.from(`${head}${text}\r\n`, 'utf8');
  return { plain: chunk.subarray(head.length, -2), chunk };
}

function toText({ id, event, data }: StreamFrame): string {
  const idLine = id === undefined ? '' : `id: ${id}\n`;
  const eventLine = event === undefined ? '' : `event: ${event}\n`;
  return `${idLine}${eventLine}data: ${data}\n\n`;
}

/** Sends the head. From here on the bytes go past the response, which would make their chunks
 *  anew for each client, and spend more time on it than the socket.
 *  @returns whether this client is sent chunks; one of HTTP/1.0 is not. */
function takeOver(response: ServerResponse): boolean {
  response.flushHeaders();
  const isChunked = response.chunkedEncoding;
  response.chunkedEncoding = false;
  return isChunked;
}

const PING = toBytes(': ping\n\n');
const LAST_CHUNK = '0\r\n\r\n';

interface Writer {
  /** Resolves when the connection takes more. */
  (bytes: FrameBytes): Promise<void>;
  /** False: the connection takes no more for now. */
  now(bytes: FrameBytes): boolean;
  /** Resolves when the connection takes more. */
  drained(): Promise<void>;
  end(): void;
}

function createWriter(stream: EventStream, isChunked: boolean): Writer {
  const { response, clock, signal } = stream;
  const { socket } = response;
  // None yet: an answer before this one is still being sent.
  const writable: Writable = socket ?? response;
  // Not by the socket's high-water mark: below that, what the kernel refuses would pile up here.
  const isTaken = (): boolean =>
    socket === null ? !response.writableNeedDrain : socket.writableLength === 0;
  let isDraining = false;
  const now = ({ plain, chunk }: FrameBytes): boolean => {
    writable.write(isChunked ? chunk : plain);
    return isTaken();
  };
  const beat = (): void => {
    if (!isDraining) now(PING);
    timer = clock.setTimer(HEARTBEAT_MS, beat);
  };
  let timer = clock.setTimer(HEARTBEAT_MS, beat);
  const drained = async (): Promise<void> => {
    if (signal.aborted || isTaken()) return;
    isDraining = true;
    await waitForDrain(stream, socket);
    isDraining = false;
  };
  const write = async (bytes: FrameBytes): Promise<void> => {
    if (!signal.aborted && !now(bytes)) await drained();
  };
  const end = (): void => {
    timer.cancel();
    response.end(isChunked ? LAST_CHUNK : undefined);
  };
  return Object.assign(write, { now, drained, end });
}

const NOTHING = Buffer.alloc(0);

/** Resolves when the connection takes more, the signal aborts, or the client has stalled too long,
 *  in which case its connection is cut. */
function waitForDrain(
  { response, clock, signal }: EventStream,
  socket: Writable | null,
): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      timer.cancel();
      response.removeListener('drain', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = clock.setTimer(STALL_MS_MAX, () => {
      response.destroy();
      done();
    });
    if (socket === null) response.once('drain', done);
    // Its turn comes when all before it has gone.
    else socket.write(NOTHING, done);
    signal.addEventListener('abort', done, { once: true });
    if (signal.aborted || response.destroyed) done();
  });
}
