/** One session over one WebSocket. Events go out as server-sent events do: to who takes
 *  them, with the others; messages come in through a short queue. The library is loaded by the
 *  first client that asks for it, so that start-up does not pay for it. */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { RawData, WebSocket } from 'ws';
import type { Clock } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import { BODY_BYTES_MAX, parseBody } from './body.ts';
import type { Batch, Broadcasts } from './broadcast.ts';
import { type FrameWriter, type StreamSource, writeFrames } from './live.ts';
import { HttpError } from './problem.ts';
import type { StreamFrame } from './route.ts';
import { HEARTBEAT_MS, STALL_MS_MAX } from './sse.ts';

/** A request that asked to become another protocol. */
export interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
}

export interface SocketSession {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly broadcasts: Broadcasts;
  /** Below the library: what the kernel has not taken yet is seen here. */
  readonly socket: Duplex;
  readonly source: StreamSource;
  onMessage(message: unknown): Promise<unknown>;
  /** What a client is told of a failure: a problem document. */
  toProblem(error: unknown): unknown;
}

/** Messages a client may have unanswered; one that sends more does not read its answers. */
const MESSAGES_MAX = 32;
/** After a close frame, before the connection is cut. */
const CLOSE_MS_MAX = 1000;

/** That the library speaks. */
const VERSIONS = '13, 8';

const CLOSE_NORMAL = 1000;
const CLOSE_GOING_AWAY = 1001;
const CLOSE_POLICY = 1008;
const CLOSE_FAILED = 1011;

/** Completes the handshake; undefined when the client has left.
 *  @throws HttpError 400 when it is not one; nothing has been written then. */
export async function acceptUpgrade(upgrade: Upgrade): Promise<WebSocket | undefined> {
  const { WebSocketServer } = await import('ws');
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: BODY_BYTES_MAX,
    perMessageDeflate: false,
  });
  return new Promise((resolve, reject) => {
    upgrade.socket.once('close', () => resolve(undefined));
    // Else the library answers by itself, in HTML.
    server.once('wsClientError', ({ message }) => reject(toRefusedHandshake(message)));
    server.handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, resolve);
  });
}

function toRefusedHandshake(reason: string): HttpError {
  const message = `this is no WebSocket handshake (RFC 6455): ${reason}`;
  return new HttpError(400, message, { headers: { 'sec-websocket-version': VERSIONS } });
}

/** Serves until the events end, the client leaves or the signal aborts. Never rejects. */
export async function serveSocket(ws: WebSocket, session: SocketSession): Promise<void> {
  const { clock, signal, source } = session;
  let heardMs = clock.nowMs();
  const hear = (): void => {
    heardMs = clock.nowMs();
  };
  const send = (value: unknown): Promise<void> =>
    new Promise((resolve) => {
      ws.send(JSON.stringify(value), { binary: false }, () => {
        hear();
        resolve();
      });
    });
  const beat = (): void => {
    if (clock.nowMs() - heardMs > STALL_MS_MAX) ws.terminate();
    else if (ws.readyState === ws.OPEN) ws.ping();
    timer = clock.setTimer(HEARTBEAT_MS, beat);
  };
  let timer = clock.setTimer(HEARTBEAT_MS, beat);
  const goAway = (): void => ws.close(CLOSE_GOING_AWAY, 'the stream ends');
  signal.addEventListener('abort', goAway, { once: true });
  // A frame against the protocol (too large, no UTF-8, no opcode): the library answers it with a
  // close frame and its code. An error that nobody listens to would end the process.
  ws.on('error', () => clock.setTimer(CLOSE_MS_MAX, () => ws.terminate()));
  ws.on('pong', hear);
  ws.on('message', createInbox(ws, session, send));
  try {
    await writeFrames(session, source, createWriter(ws, session, hear));
    ws.close(signal.aborted ? CLOSE_GOING_AWAY : CLOSE_NORMAL);
  } catch (error) {
    await send({ type: 'problem', problem: session.toProblem(error) });
    ws.close(CLOSE_FAILED);
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', goAway);
    clock.setTimer(CLOSE_MS_MAX, () => ws.terminate());
  }
}

const NOTHING = Buffer.alloc(0);

/** @param hear  the client has taken something. */
function createWriter(
  ws: WebSocket,
  { socket, signal }: SocketSession,
  hear: () => void,
): FrameWriter {
  const isTaken = (): boolean => socket.writableLength === 0;
  const now = (batch: Batch): boolean => {
    // One write for all of them.
    socket.cork();
    for (const frame of batch) ws.send(toSharedBytes(frame), { binary: false });
    socket.uncork();
    if (isTaken()) hear();
    return isTaken();
  };
  const drained = (): Promise<void> =>
    new Promise((resolve) => {
      if (signal.aborted || isTaken()) return resolve();
      const done = (): void => {
        signal.removeEventListener('abort', done);
        hear();
        resolve();
      };
      signal.addEventListener('abort', done, { once: true });
      // Its turn comes when all before it has gone.
      socket.write(NOTHING, done);
    });
  const write = async (frame: StreamFrame): Promise<void> => {
    if (!signal.aborted && !now([frame])) await drained();
  };
  return { write, now, drained };
}

/** Sockets of one session are given the same frames: each is encoded once. */
const bytesOf = new WeakMap<StreamFrame, Buffer>();

function toSharedBytes(frame: StreamFrame): Buffer {
  const known = bytesOf.get(frame);
  if (known !== undefined) return known;
  const bytes = Buffer.from(frame.data, 'utf8');
  bytesOf.set(frame, bytes);
  return bytes;
}

/** Messages are answered in their order, one after the other. */
function createInbox(
  ws: WebSocket,
  session: SocketSession,
  send: (value: unknown) => Promise<void>,
): (data: RawData, isBinary: boolean) => void {
  let pendingCount = 0;
  let last: Promise<void> = Promise.resolve();
  const answer = async (data: RawData, isBinary: boolean): Promise<void> => {
    let ref: string | undefined;
    try {
      const message = isBinary ? refuseBinary() : parseBody(toBuffer(data));
      ref = refOf(message);
      await send(await session.onMessage(message));
    } catch (error) {
      await send({ type: 'problem', ref, problem: session.toProblem(error) });
    } finally {
      pendingCount -= 1;
    }
  };
  return (data, isBinary) => {
    if (pendingCount >= MESSAGES_MAX) {
      ws.close(CLOSE_POLICY, `more than ${MESSAGES_MAX} messages wait for their answer`);
      return;
    }
    pendingCount += 1;
    last = last.then(() => answer(data, isBinary));
  };
}

function refuseBinary(): never {
  throw new PrxError('INVALID_REQUEST', 'a message is a JSON text frame, not a binary one');
}

function toBuffer(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}

function refOf(message: unknown): string | undefined {
  if (typeof message !== 'object' || message === null || !('ref' in message)) return undefined;
  return typeof message.ref === 'string' ? message.ref.slice(0, 128) : undefined;
}
