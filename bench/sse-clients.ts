/** Many readers of one event stream, in a process of their own so that their work does not delay
 *  who stamps the tokens. When bytes come they are stamped and put aside; what they say is looked
 *  at when no more come, so that one reader's work is not the next one's latency. Each keeps a
 *  hash of all that it got, over every lost connection. */
import { createHash, type Hash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { nowSharedMs } from './stats.ts';

export interface CrowdOptions {
  readonly socketPath: string;
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
  const socket = connect(options.socketPath);
  reader.rest = Buffer.alloc(0);
  reader.socket = socket;
  reader.sinceMs = Number.POSITIVE_INFINITY;
  const head = [
    `GET ${options.path} HTTP/1.1`,
    'host: localhost',
    'accept: text/event-stream',
    `last-event-id: ${reader.seq}`,
  ];
  socket.write(head.join('\r\n') + HEAD_END);
  socket.on('data', (bytes: Buffer) => {
    if (arrivals.length === 0) setTimeout(look, LOOK_AFTER_MS);
    arrivals.push({ reader, socket, bytes, atMs: nowSharedMs() });
  });
  socket.on('error', () => undefined); // What follows is its close.
  socket.on('close', () => {
    if (reader.socket !== socket || reader.seq >= lastSeq) return;
    reader.socket = undefined;
    reconnects += 1;
    setTimeout(() => open(reader), RECONNECT_MS);
  });
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
  const [frames, rest] = readChunks(Buffer.concat([reader.rest, bytes]));
  reader.rest = rest;
  for (const frame of frames) {
    if (!frame.startsWith('id: ')) continue;
    const seq = Number(frame.slice(4, frame.indexOf('\n')));
    if (seq !== reader.seq + 1) misplaced += 1;
    reader.seq = seq;
    reader.hash.update(frame);
    // What was there before is no latency.
    if (!reader.isSlow && losing !== undefined) noteTokens(frame, atMs, reader.sinceMs);
  }
  if (reader.isSlow && reader.seq > 0 && lastSeq === Number.POSITIVE_INFINITY) socket.pause();
}

/** The whole chunks of an answer, each of which is a frame here, and what is left. */
function readChunks(bytes: Buffer): readonly [readonly string[], Buffer] {
  const frames: string[] = [];
  let at = bytes.indexOf('HTTP/') === 0 ? bytes.indexOf(HEAD_END) + HEAD_END.length : 0;
  if (at < HEAD_END.length && at > 0) return [[], bytes];
  for (;;) {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) break;
    const size = Number.parseInt(bytes.toString('latin1', at, end), 16);
    if (bytes.length < end + size + 4) break;
    frames.push(bytes.toString('latin1', end + 2, end + 2 + size));
    at = end + size + 4;
  }
  return [frames, bytes.subarray(at)];
}

function noteTokens(frame: string, atMs: number, sinceMs: number): void {
  if (!frame.includes('"model.delta"')) return;
  for (const [, stamp] of frame.matchAll(/<(\d+\.\d+)>/g)) {
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
