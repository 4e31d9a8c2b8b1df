/** Server-sent events. The journal is read only as fast as the client reads: after a write that
 *  the socket does not take at once, nothing more is pulled until it has drained, so a slow reader
 *  costs one frame of memory. One that takes nothing for minutes is dropped; its last id says
 *  where it goes on. */
import type { ServerResponse } from 'node:http';
import type { Clock } from '../base/clock.ts';
import type { StreamFrame } from './route.ts';

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
  stream: EventStream,
  frames: AsyncIterable<StreamFrame>,
  toProblemText: (error: unknown) => string,
): Promise<void> {
  const { response, signal } = stream;
  response.writeHead(200, {
    ...stream.headers,
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    // Proxies of the nginx kind would hold events back.
    'x-accel-buffering': 'no',
  });
  const write = createWriter(stream);
  try {
    await write(`retry: ${RETRY_MS}\n\n`);
    for await (const frame of frames) {
      if (signal.aborted) break;
      await write(toBytes(frame));
    }
  } catch (error) {
    if (!signal.aborted) await write(`event: problem\ndata: ${toProblemText(error)}\n\n`);
  } finally {
    write.stop();
    response.end();
  }
}

/** A frame may go to many clients, and is encoded once. */
const bytesOf = new WeakMap<StreamFrame, Buffer>();

function toBytes(frame: StreamFrame): Buffer {
  const known = bytesOf.get(frame);
  if (known !== undefined) return known;
  const bytes = Buffer.from(toText(frame), 'utf8');
  bytesOf.set(frame, bytes);
  return bytes;
}

function toText({ id, event, data }: StreamFrame): string {
  const idLine = id === undefined ? '' : `id: ${id}\n`;
  const eventLine = event === undefined ? '' : `event: ${event}\n`;
  return `${idLine}${eventLine}data: ${data}\n\n`;
}

interface Writer {
  (text: string | Buffer): Promise<void>;
  stop(): void;
}

function createWriter({ response, clock, signal }: EventStream): Writer {
  let isDraining = false;
  const beat = (): void => {
    if (!isDraining) response.write(': ping\n\n');
    timer = clock.setTimer(HEARTBEAT_MS, beat);
  };
  let timer = clock.setTimer(HEARTBEAT_MS, beat);
  const write = async (text: string | Buffer): Promise<void> => {
    if (signal.aborted || response.write(text)) return;
    isDraining = true;
    await drained(response, clock, signal);
    isDraining = false;
  };
  return Object.assign(write, { stop: () => timer.cancel() });
}

/** Resolves when the response takes more, the signal aborts, or the client has stalled too long,
 *  in which case its connection is cut. */
function drained(response: ServerResponse, clock: Clock, signal: AbortSignal): Promise<void> {
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
    response.once('drain', done);
    signal.addEventListener('abort', done, { once: true });
    if (signal.aborted || response.destroyed) done();
  });
}
