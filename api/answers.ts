/** Writes the answers of handlers to the connection: the one place that knows both. */
import type { FastifyReply } from 'fastify';
import type { Clock } from '../base/clock.ts';
import type { Broadcasts } from './broadcast.ts';
import { isKnown, toEtag } from './etag.ts';
import { openFile } from './file.ts';
import { HttpError } from './problem.ts';
import type { Answer, Route } from './route.ts';
import { EVENT_STREAM_TYPE, writeEventStream } from './sse.ts';
import type { StreamSlot, Streams } from './streams.ts';
import { acceptUpgrade, serveSocket, type Upgrade } from './websocket.ts';

export interface AnswerDeps {
  readonly clock: Clock;
  readonly streams: Streams;
  readonly broadcasts: Broadcasts;
  /** The problem a client is told of, and the log if it is ours. */
  toProblem(error: unknown): unknown;
}

/** How long a caller may read on. */
export interface Permit {
  /** Milliseconds until its token expires; Infinity: never. */
  readonly leftMs: number;
  isValid(): boolean;
}

export interface Exchange {
  readonly route: Route;
  readonly reply: FastifyReply;
  readonly permit: Permit;
  /** Present when the request asks to become a WebSocket. */
  readonly upgrade: Upgrade | undefined;
}

export async function writeAnswer(
  deps: AnswerDeps,
  exchange: Exchange,
  answer: Answer,
): Promise<void> {
  const { reply, route } = exchange;
  switch (answer.kind) {
    case 'json':
      return writeJson(exchange, answer);
    case 'text':
      reply.code(route.status).type(answer.contentType).send(answer.text);
      return;
    case 'bytes': {
      reply.code(answer.bytes === undefined ? 304 : route.status).headers(answer.headers);
      reply.type(answer.contentType).send(answer.bytes);
      return;
    }
    case 'empty':
      reply.code(route.status).send();
      return;
    case 'file': {
      const { headers, method } = reply.request;
      const file = await openFile(answer, { headers, isHead: method === 'HEAD' });
      reply.code(file.status).headers(file.headers).send(file.stream);
      return;
    }
    case 'stream':
      if (reply.request.method === 'HEAD') {
        reply
          .code(route.status)
          .headers(answer.headers ?? {})
          .type(EVENT_STREAM_TYPE)
          .send();
        return;
      }
      return runStream(deps, exchange, answer);
    case 'socket':
      return runSocket(deps, exchange, answer);
  }
}

function writeJson({ route, reply }: Exchange, answer: AnswerOf<'json'>): void {
  const text = JSON.stringify(answer.value);
  reply.code(answer.status ?? route.status).headers(answer.headers ?? {});
  if (answer.isRevalidated) {
    const etag = toEtag(text);
    // May be kept, and is asked for each time: what is shown was true a moment ago.
    reply.headers({ etag, 'cache-control': 'private, no-cache' });
    if (isKnown(reply.request.headers['if-none-match'], etag)) return void reply.code(304).send();
  }
  reply.type('application/json; charset=utf-8').send(text);
}

type AnswerOf<K extends Answer['kind']> = Extract<Answer, { kind: K }>;

async function runStream(
  deps: AnswerDeps,
  exchange: Exchange,
  answer: AnswerOf<'stream'>,
): Promise<void> {
  const { reply } = exchange;
  const { clock, broadcasts, toProblem } = deps;
  const response = reply.raw;
  const { slot, frames } = await openStream(deps, exchange, answer).catch((error: unknown) => {
    reply.headers(answer.refusedHeaders ?? {});
    throw error;
  });
  reply.hijack();
  const headers = { ...toPlain(reply.getHeaders()), ...answer.headers };
  const stream = { response, headers, clock, broadcasts, signal: slot.signal };
  const { live } = answer;
  const source = { frames, ...(live === undefined ? {} : { live }) };
  await writeEventStream(stream, source, (error) => JSON.stringify(toProblem(error)));
  slot.release();
}

async function openStream(
  deps: AnswerDeps,
  { reply, permit }: Exchange,
  answer: AnswerOf<'stream'>,
) {
  const slot = takeSlot(deps, permit);
  reply.raw.once('close', slot.release);
  const frames = await openOrRelease(slot, () => answer.open(slot.signal));
  return { slot, frames };
}

async function runSocket(
  deps: AnswerDeps,
  { reply, upgrade, permit }: Exchange,
  answer: AnswerOf<'socket'>,
): Promise<void> {
  if (upgrade === undefined) throw toUpgradeRequired(reply);
  const slot = takeSlot(deps, permit);
  upgrade.socket.once('close', slot.release);
  const frames = await openOrRelease(slot, () => answer.open(slot.signal));
  // What is no handshake is answered like any other refusal: the response still has its socket.
  const ws = await openOrRelease(slot, () => acceptUpgrade(upgrade));
  reply.hijack();
  reply.raw.detachSocket(reply.raw.socket ?? upgrade.request.socket);
  if (ws === undefined) return slot.release();
  const { clock, broadcasts, toProblem } = deps;
  const { live, onMessage } = answer;
  const { socket } = upgrade;
  const reading = { clock, broadcasts, socket, signal: slot.signal };
  await serveSocket(ws, { ...reading, source: { frames, live }, onMessage, toProblem });
  slot.release();
}

/** Upgrade concerns this connection only, so it is named in Connection (RFC 9110, 7.8). */
function toUpgradeRequired({ request }: FastifyReply): HttpError {
  const isLast = /\bclose\b/i.test(request.headers.connection ?? '');
  return new HttpError(426, 'this endpoint speaks WebSocket: send Upgrade: websocket', {
    headers: { upgrade: 'websocket', connection: isLast ? 'Upgrade, close' : 'Upgrade' },
  });
}

/** Ended, too, when the caller's token expires. */
function takeSlot({ streams, clock }: AnswerDeps, permit: Permit): StreamSlot {
  const slot = streams.take(permit.isValid);
  if (permit.leftMs === Number.POSITIVE_INFINITY) return slot;
  const timer = clock.setTimer(permit.leftMs, slot.release);
  slot.signal.addEventListener('abort', () => timer.cancel(), { once: true });
  return slot;
}

async function openOrRelease<T>(slot: StreamSlot, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    slot.release();
    throw error;
  }
}

/** The headers set so far, as `writeHead` takes them. */
function toPlain(headers: ReturnType<FastifyReply['getHeaders']>): Record<string, string> {
  const entries = Object.entries(headers).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries.map(([name, value]) => [name, String(value)]));
}
