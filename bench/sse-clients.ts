/** Many readers of one event stream, in a thread of their own so that their work does not delay
 *  who stamps the tokens. Each keeps a hash of all that it got, over every lost connection. */
import { createHash, type Hash } from 'node:crypto';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { parentPort, workerData } from 'node:worker_threads';

export interface CrowdOptions {
  readonly socketPath: string;
  readonly path: string;
  readonly clients: number;
  /** The first of them read nothing between their first event and the end. */
  readonly slow: number;
  /** Clients that lose their connection, each time. */
  readonly lostAtOnce: number;
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
  /** Token written → a reader that is not slow has it, ms; connections lost meanwhile included. */
  readonly latenciesMs: readonly number[];
}

interface Reader {
  readonly isSlow: boolean;
  readonly hash: Hash;
  seq: number;
  rest: string;
  stream: IncomingMessage | undefined;
  outgoing: ClientRequest | undefined;
}

const RECONNECT_MS = 20;
const options = workerData as CrowdOptions;
const latenciesMs: number[] = [];
let misplaced = 0;
let reconnects = 0;
let losing: NodeJS.Timeout | undefined;
let lastSeq = Number.POSITIVE_INFINITY;
let onArrived = (): void => undefined;

const readers: readonly Reader[] = Array.from({ length: options.clients }, (_, index) => ({
  isSlow: index < options.slow,
  hash: createHash('sha256'),
  seq: 0,
  rest: '',
  stream: undefined,
  outgoing: undefined,
}));

function connect(reader: Reader): void {
  reader.rest = '';
  const outgoing = request({
    socketPath: options.socketPath,
    path: options.path,
    agent: false,
    headers: { accept: 'text/event-stream', 'last-event-id': String(reader.seq) },
  });
  const again = (): void => {
    if (reader.outgoing !== outgoing || reader.seq >= lastSeq) return;
    reader.outgoing = undefined;
    reconnects += 1;
    setTimeout(() => connect(reader), RECONNECT_MS);
  };
  outgoing.on('error', again);
  outgoing.on('response', (stream) => {
    reader.stream = stream;
    stream.setEncoding('latin1');
    stream.on('data', (chunk: string) => take(reader, chunk));
    stream.on('error', () => undefined); // What follows is its close.
    stream.on('close', again);
  });
  outgoing.end();
  reader.outgoing = outgoing;
}

function take(reader: Reader, chunk: string): void {
  const atMs = performance.timeOrigin + performance.now();
  const frames = (reader.rest + chunk).split('\n\n');
  reader.rest = frames.pop() ?? '';
  for (const frame of frames) {
    if (!frame.startsWith('id: ')) continue;
    const seq = Number(frame.slice(4, frame.indexOf('\n')));
    if (seq !== reader.seq + 1) misplaced += 1;
    reader.seq = seq;
    reader.hash.update(frame);
    // What was there before is no latency.
    if (!reader.isSlow && losing !== undefined) noteTokens(frame, atMs);
  }
  const isToWait = reader.isSlow && reader.seq > 0 && lastSeq === Number.POSITIVE_INFINITY;
  if (isToWait) reader.stream?.pause();
  if (reader.seq >= lastSeq) onArrived();
}

function noteTokens(frame: string, atMs: number): void {
  for (const [, stamp] of frame.matchAll(/<(\d+\.\d+)>/g)) {
    if (frame.includes('"model.delta"')) latenciesMs.push(atMs - Number(stamp));
  }
}

function loseSome(): void {
  for (let lost = 0; lost < options.lostAtOnce; lost += 1) {
    const reader = readers[Math.floor(Math.random() * readers.length)];
    if (reader !== undefined && !reader.isSlow) reader.outgoing?.destroy();
  }
}

async function finish(seq: number): Promise<CrowdReport> {
  clearInterval(losing);
  lastSeq = seq;
  await new Promise<void>((resolve) => {
    onArrived = () => {
      if (readers.every((reader) => reader.seq >= seq)) resolve();
    };
    for (const reader of readers) reader.stream?.resume();
    onArrived();
  });
  for (const reader of readers) reader.outgoing?.destroy();
  const hashes = [...new Set(readers.map(({ hash }) => hash.digest('hex')))];
  return { hashes, misplaced, reconnects, latenciesMs };
}

parentPort?.on('message', (order: CrowdOrder) => {
  if (order.kind === 'start-losing') losing = setInterval(loseSome, options.loseEveryMs);
  else void finish(order.seq).then((report) => parentPort?.postMessage(report));
});
for (const reader of readers) connect(reader);
const isThere = setInterval(() => {
  if (!readers.every(({ seq }) => seq > 0)) return;
  clearInterval(isThere);
  parentPort?.postMessage('connected');
}, RECONNECT_MS);
