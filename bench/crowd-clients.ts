/** Many readers of one session's events, over either protocol, in a process of their own so that
 *  their work does not delay who stamps the tokens. When bytes come they are stamped and put aside;
 *  what they say is looked at when no more come, so that one reader's work is not the next one's
 *  latency. Each keeps a hash of all that it got, over every lost connection. */
import { createHash, type Hash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { nowSharedMs } from './stats.ts';

export interface CrowdOptions {
  readonly protocol: 'sse' | 'websocket';
  readonly socketPath: string;
  /** Of the session's events from the first on. */
  readonly path: string;
  readonly clients: number;
  /** The newest event: with it a reader is live. */
  readonly lastSeq: number;
  /** The first of them read nothing between their first event and the end. */
  readonly slow: number;
  /** How often one of them loses its connection, whichever. */
  readonly loseEveryMs: number;
}

export type CrowdOrder =
  | { readonly kind: 'start-losing' }
  /** Everybody reads on to this event, then leaves. */
  | { readonly kind: 'finish'; readonly seq: number };

export interface CrowdReport {
  /** One, if all got the same. */
  readonly hashes: readonly string[];
  /** Events that were not the next one. */
  readonly misplaced: number;
  readonly reconnects: number;
  /** Token written → a reader that was connected then, and is not slow, has it; ms. */
  readonly latenciesMs: readonly number[];
  /** Tokens that readers who are not slow got only when they were back. */
  readonly caughtUp: number;
}

interface Reader {
  readonly isSlow: boolean;
  readonly hash: Hash;
  seq: number;
  rest: Buffer;
  socket: Socket | undefined;
  /** When its stream began, and it was live. */
  sinceMs: number;
}

interface Arrival {
  readonly reader: Reader;
  readonly socket: Socket;
  readonly bytes: Buffer;
  readonly atMs: number;
}

const RECONNECT_MS = 20;
/** Longer than a token takes to all of them, shorter than until the next one. */
const LOOK_AFTER_MS = 50;
/** Of all sockets, one after the other: a buffer of its own for each reading costs time, and a
 *  thousand readings are what the last reader of a token waits for. */
const READ_BUFFER = Buffer.allocUnsafe(64 * 1024);
const HEAD_END = '\r\n\r\n';
const options = JSON.parse(process.argv[2] ?? '') as CrowdOptions;
const latenciesMs: number[] = [];
let arrivals: Arrival[] = [];
let caughtUp = 0;
let misplaced = 0;
let reconnects = 0;
let losing: NodeJS.Timeout | undefined;
let lastSeq = Number.POSITIVE_INFINITY;
let onLooked = (): void => undefined;

const readers: readonly Reader[] = Array.from({ length: options.clients }, (_, index) => ({
  isSlow: index < options.slow,
  hash: createHash('sha256'),
  seq: 0,
  rest: Buffer.alloc(0),
  socket: undefined,
  sinceMs: 0,
}));

function open(reader: Reader): void {
  const onread = {
    buffer: READ_BUFFER,
    callback(count: number): boolean {
      const atMs = nowSharedMs();
      if (arrivals.length === 0) setTimeout(look, LOOK_AFTER_MS);
      arrivals.push({ reader, socket, bytes: Buffer.from(READ_BUFFER.subarray(0, count)), atMs });
      return true;
    },
  };
  const socket = connect({ path: options.socketPath, onread });
  reader.rest = Buffer.alloc(0);
  reader.socket = socket;
  reader.sinceMs = Number.POSITIVE_INFINITY;
  socket.write(toHead(reader.seq));
  socket.on('error', () => undefined); // What follows is its close.
  socket.on('close', () => {
    if (reader.socket !== socket || reader.seq >= lastSeq) return;
    reader.socket = undefined;
    reconnects += 1;
    setTimeout(() => open(reader), RECONNECT_MS);
  });
}

function toHead(seq: number): string {
  const isSse = options.protocol === 'sse';
  const path = isSse ? options.path : `${options.path}?since=${seq}`;
  const own = isSse
    ? ['accept: text/event-stream', `last-event-id: ${seq}`]
    : [
        ...['connection: upgrade', 'upgrade: websocket', 'sec-websocket-version: 13'],
        `sec-websocket-key: ${Buffer.alloc(16).toString('base64')}`,
      ];
  return [`GET ${path} HTTP/1.1`, 'host: localhost', ...own].join('\r\n') + HEAD_END;
}

function look(): void {
  const looked = arrivals;
  arrivals = [];
  for (const arrival of looked) {
    // What a lost connection still held, its successor is sent again.
    if (arrival.reader.socket === arrival.socket) take(arrival);
  }
  onLooked();
}

function take({ reader, socket, bytes, atMs }: Arrival): void {
  const isFirst = reader.sinceMs === Number.POSITIVE_INFINITY;
  if (isFirst) reader.sinceMs = atMs;
  const [events, rest] = readEvents(Buffer.concat([reader.rest, bytes]));
  reader.rest = rest;
  for (const event of events) {
    const seq = Number(/"seq":(\d+)/.exec(event)?.[1]);
    if (seq !== reader.seq + 1) misplaced += 1;
    reader.seq = seq;
    reader.hash.update(event);
    // What was there before is no latency.
    if (!reader.isSlow && losing !== undefined) noteTokens(event, atMs, reader.sinceMs);
  }
  if (reader.isSlow && reader.seq > 0 && lastSeq === Number.POSITIVE_INFINITY) socket.pause();
}

/** The whole events of an answer, and the bytes that are left. */
function readEvents(bytes: Buffer): readonly [readonly string[], Buffer] {
  const events: string[] = [];
  let at = bytes.indexOf('HTTP/') === 0 ? bytes.indexOf(HEAD_END) + HEAD_END.length : 0;
  if (at < HEAD_END.length && at > 0) return [[], bytes];
  const find = options.protocol === 'sse' ? findChunk : findFrame;
  for (let part = find(bytes, at); part !== undefined; part = find(bytes, at)) {
    events.push(...part.events);
    at = part.end;
  }
  return [events, bytes.subarray(at)];
}

interface Part {
  readonly events: readonly string[];
  readonly end: number;
}

/** A chunk of HTTP/1.1 that holds whole server-sent events. */
function findChunk(bytes: Buffer, at: number): Part | undefined {
  const lineEnd = bytes.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const start = lineEnd + 2;
  const end = start + Number.parseInt(bytes.toString('latin1', at, lineEnd), 16);
  if (bytes.length < end + 2) return undefined;
  const frames = bytes.toString('latin1', start, end).split('\n\n');
  const data = frames.filter((frame) => frame.startsWith('id: '));
  const events = data.map((frame) => frame.slice(frame.indexOf('\ndata: ') + 7));
  return { events, end: end + 2 };
}

const TEXT_FRAME = 0x81;
/** What stands for a length of two bytes, and of eight. */
const [LENGTH_16, LENGTH_64] = [126, 127];

/** A frame of a WebSocket. */
function findFrame(bytes: Buffer, at: number): Part | undefined {
  if (bytes.length < at + 10 && bytes.length < at + 2 + (bytes[at + 1] ?? 10)) return undefined;
  const short = bytes[at + 1] ?? 0;
  const start = at + (short === LENGTH_64 ? 10 : short === LENGTH_16 ? 4 : 2);
  let length = short;
  if (short === LENGTH_16) length = bytes.readUInt16BE(at + 2);
  if (short === LENGTH_64) length = Number(bytes.readBigUInt64BE(at + 2));
  const end = start + length;
  if (bytes.length < end) return undefined;
  const isText = bytes[at] === TEXT_FRAME;
  return { events: isText ? [bytes.toString('latin1', start, end)] : [], end };
}

function noteTokens(event: string, atMs: number, sinceMs: number): void {
  if (!event.includes('"model.delta"')) return;
  for (const [, stamp] of event.matchAll(/<(\d+\.\d+)>/g)) {
    if (Number(stamp) > sinceMs) latenciesMs.push(atMs - Number(stamp));
    else caughtUp += 1;
  }
}

function loseOne(): void {
  const reader = readers[Math.floor(Math.random() * readers.length)];
  if (reader?.isSlow === false) reader.socket?.destroy();
}

async function finish(seq: number): Promise<CrowdReport> {
  clearInterval(losing);
  lastSeq = seq;
  await new Promise<void>((resolve) => {
    onLooked = () => {
      if (readers.every((reader) => reader.seq >= seq)) resolve();
    };
    for (const reader of readers) reader.socket?.resume();
    onLooked();
  });
  for (const reader of readers) reader.socket?.destroy();
  const hashes = [...new Set(readers.map(({ hash }) => hash.digest('hex')))];
  return { hashes, misplaced, reconnects, latenciesMs, caughtUp };
}

process.on('message', (order: CrowdOrder) => {
  if (order.kind === 'start-losing') losing = setInterval(loseOne, options.loseEveryMs);
  else void finish(order.seq).then((report) => process.send?.(report));
});
process.on('disconnect', () => process.exit());
for (const reader of readers) open(reader);
const isThere = setInterval(() => {
  if (!readers.every(({ isSlow, seq }) => seq >= (isSlow ? 1 : options.lastSeq))) return;
  clearInterval(isThere);
  process.send?.('connected');
}, RECONNECT_MS);
