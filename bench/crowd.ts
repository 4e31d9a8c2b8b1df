/** A crowd of readers of one session under measurement, and the turn that they read. */
import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import type { EventEnvelope } from '../protocol/events.ts';
import type { CrowdOptions, CrowdOrder, CrowdReport } from './crowd-clients.ts';
import type { Home } from './lab.ts';
import { pause, type WatchedSession } from './session.ts';
import { nowSharedMs, toSharedMs } from './stats.ts';

/** Bytes of a token: more than a socket's buffer holds for those who read nothing. */
export const FILLER = 'x'.repeat(1200);

interface Tokens {
  readonly count: number;
  readonly everyMs: number;
  readonly filler: string;
  /** Right before a token is written. */
  onToken?(index: number): void;
}

/** One turn whose tokens carry the time at which they were written.
 *  @returns how long each took to the one who watches. */
export async function streamTokens(
  home: Home,
  session: WatchedSession,
  { count, everyMs, filler, onToken }: Tokens,
): Promise<number[]> {
  home.provider.answer = async (_request, reply) => {
    const startMs = performance.now();
    for (let index = 0; index < count; index += 1) {
      await pause(startMs + index * everyMs - performance.now());
      onToken?.(index);
      reply.say(`<${nowSharedMs().toFixed(3)}>${filler}`);
    }
    reply.end();
  };
  const before = session.seen.length;
  await session.runTurn('stream', count * everyMs);
  return session.seen.slice(before).flatMap(({ event, atMs }) => toLatencies(event, atMs));
}

function toLatencies({ type, data }: EventEnvelope, atMs: number): number[] {
  if (type !== 'model.delta') return [];
  const { text } = data as { text: string }; // Its schema was applied when it was journaled.
  return [...text.matchAll(/<(\d+\.\d+)>/g)].map(([, stamp]) => toSharedMs(atMs) - Number(stamp));
}

export const lastSeqOf = ({ seen }: WatchedSession): number => seen.at(-1)?.event.seq ?? 0;

interface Crowd {
  /** From now on its readers lose their connections, and its latencies count. */
  start(): void;
  finish(seq: number): Promise<CrowdReport>;
}

/** Resolves when everybody is live, but for the slow, who have an event. */
export async function gather(options: CrowdOptions): Promise<Crowd> {
  const readers = fork(new URL('./crowd-clients.ts', import.meta.url), [JSON.stringify(options)]);
  const hear = <T>(): Promise<T> =>
    new Promise((resolve, reject) => {
      readers.once('message', (message) => resolve(message as T));
      readers.once('exit', (code) => reject(new Error(`the readers ended with ${code}`)));
    });
  const tell = (order: CrowdOrder): void => void readers.send(order);
  await hear();
  return {
    start: () => tell({ kind: 'start-losing' }),
    async finish(seq) {
      const report = hear<CrowdReport>();
      tell({ kind: 'finish', seq });
      const told = await report;
      readers.disconnect();
      return told;
    },
  };
}

/** @param tokens  how many those who are not slow were to get together.
 *  @throws Error when not everybody got what the watcher got, once and in order. */
export function check(report: CrowdReport, { seen }: WatchedSession, tokens: number): void {
  const { hashes, misplaced } = report;
  const hash = createHash('sha256');
  for (const { event } of seen) hash.update(JSON.stringify(event));
  const isOne = hashes.length === 1 && hashes[0] === hash.digest('hex');
  const got = report.latenciesMs.length + report.caughtUp;
  if (isOne && misplaced === 0 && got === tokens) return;
  throw new Error(
    `${hashes.length} different histories, ${isOne ? '' : 'not '}that of the watcher, ` +
      `${misplaced} events out of place, ${got} of ${tokens} tokens`,
  );
}

export function p99(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length * 0.99)] ?? Number.NaN;
}
