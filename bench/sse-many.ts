/** A thousand readers of one session while it streams: some lose their connection and come back,
 *  some read nothing until the end. All get the same events; the supervisor's memory is that of
 *  the connections; and one more reader beside them shows what the crowd adds to a token. */
import { fork } from 'node:child_process';
import { join } from 'node:path';
import type { EventEnvelope } from '../protocol/events.ts';
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { readCpuMs, readRssMb } from './processes.ts';
import { openSession, pause, settle, type WatchedSession } from './session.ts';
import type { CrowdOptions, CrowdOrder, CrowdReport } from './sse-clients.ts';
import type { FloorOrder } from './sse-floor.ts';
import { nowSharedMs, toSharedMs } from './stats.ts';

const TOKEN_EVERY_MS = 100;
/** Bytes of a token: more than a socket's buffer holds for those who read nothing. */
const FILLER = 'x'.repeat(1200);
const SAMPLE_EVERY_MS = 250;
/** Longer than the supervisor waits before it gives back what work left on its heap. */
const QUIET_MS = 16_000;

export const sseMany: Figure = {
  name: 'sse',
  async run(lab) {
    const tokens = lab.quick ? 40 : 200;
    const clients = lab.quick ? 200 : 1000;
    const slow = lab.quick ? 10 : 50;
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const session = await openSession(home);
    await session.runTurn('first');
    const alone = await streamTokens(home, session, tokens);
    const before = readRssMb(running.pid);
    const size = { clients, slow, loseEveryMs: 20_000 / clients };
    const crowd = await gather({
      ...size,
      socketPath: join(home.stateDir, 'api.sock'),
      path: `/api/v1/sessions/${session.id}/events?follow=true`,
      lastSeq: lastSeqOf(session),
    });
    const connected = readRssMb(running.pid);
    const during: number[] = [];
    const sampling = setInterval(() => during.push(readRssMb(running.pid)), SAMPLE_EVERY_MS);
    const cpuBefore = readCpuMs(running.pid);
    crowd.start();
    const among = await streamTokens(home, session, tokens);
    const cpuMs = readCpuMs(running.pid) - cpuBefore;
    const report = await crowd.finish(lastSeqOf(session));
    clearInterval(sampling);
    await pause(QUIET_MS);
    const after = readRssMb(running.pid);
    check(report, tokens * (clients - slow));
    const each = report.latenciesMs;
    await running.stop();
    const floor = await measureFloor(home, size, tokens);
    return {
      title: `${clients} readers of one stream (${slow} slow, ${report.reconnects} lost connections)`,
      rows: [
        { name: 'token written → one reader has it, alone', unit: 'ms', samples: alone },
        { name: 'token written → each of them has it', unit: 'ms', samples: each },
        { name: 'token written → the first has it', unit: 'ms', samples: among },
        {
          name: 'p99 of each, over p99 alone',
          unit: 'ms',
          samples: [p99(each) - p99(alone)],
          aim: 10,
        },
        { name: 'p99 of each', unit: 'ms', samples: [p99(each)] },
        {
          name: 'a bare node:http server, event → each of them has it',
          unit: 'ms',
          samples: floor,
        },
        { name: 'p99 of that', unit: 'ms', samples: [p99(floor)] },
        { name: 'p99 of each, over that', unit: 'ms', samples: [p99(each) - p99(floor)], aim: 10 },
        { name: 'p99 alone', unit: 'ms', samples: [p99(alone)] },
        {
          name: 'supervisor, CPU per token and reader',
          unit: 'µs',
          samples: [(cpuMs * 1000) / tokens / clients],
        },
        { name: 'supervisor (RSS) before', unit: 'MB', samples: [before] },
        { name: 'supervisor, all connected', unit: 'MB', samples: [connected] },
        { name: 'supervisor, while it streams', unit: 'MB', samples: during },
        { name: 'supervisor, all gone', unit: 'MB', samples: [after] },
      ],
    };
  },
};

/** One turn whose tokens carry the time at which they were written; how long each took. */
async function streamTokens(home: Home, session: WatchedSession, count: number): Promise<number[]> {
  home.provider.answer = async (_request, reply) => {
    const startMs = performance.now();
    for (let index = 0; index < count; index += 1) {
      await pause(startMs + index * TOKEN_EVERY_MS - performance.now());
      reply.say(`<${nowSharedMs().toFixed(3)}>${FILLER}`);
    }
    reply.end();
  };
  const before = session.seen.length;
  await session.runTurn('stream');
  return session.seen.slice(before).flatMap(({ event, atMs }) => toLatencies(event, atMs));
}

function toLatencies({ type, data }: EventEnvelope, atMs: number): number[] {
  if (type !== 'model.delta') return [];
  const { text } = data as { text: string }; // Its schema was applied when it was journaled.
  return [...text.matchAll(/<(\d+\.\d+)>/g)].map(([, stamp]) => toSharedMs(atMs) - Number(stamp));
}

/** The same crowd before a server that does nothing else. */
async function measureFloor(home: Home, size: CrowdSize, tokens: number): Promise<number[]> {
  const socketPath = join(home.dir, 'floor.sock');
  const floor = fork(new URL('./sse-floor.ts', import.meta.url), [socketPath]);
  const hear = (): Promise<unknown> => new Promise((resolve) => floor.once('message', resolve));
  await hear();
  const crowd = await gather({ ...size, socketPath, path: '/', lastSeq: 1 });
  crowd.start();
  const order: FloorOrder = { tokens, everyMs: TOKEN_EVERY_MS, filler: FILLER };
  floor.send(order);
  await hear();
  const { latenciesMs } = await crowd.finish(tokens + 1);
  floor.disconnect();
  return [...latenciesMs];
}

const lastSeqOf = ({ seen }: WatchedSession): number => seen.at(-1)?.event.seq ?? 0;

type CrowdSize = Pick<CrowdOptions, 'clients' | 'slow' | 'loseEveryMs'>;

interface Crowd {
  start(): void;
  finish(seq: number): Promise<CrowdReport>;
}

/** Resolves when everybody is live, but for the slow, who have an event. */
async function gather(options: CrowdOptions): Promise<Crowd> {
  const readers = fork(new URL('./sse-clients.ts', import.meta.url), [JSON.stringify(options)]);
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

/** @throws Error when not everybody got everything, once and in order. */
function check(report: CrowdReport, tokens: number): void {
  const { hashes, misplaced } = report;
  const seen = report.latenciesMs.length + report.caughtUp;
  if (hashes.length === 1 && misplaced === 0 && seen === tokens) return;
  throw new Error(
    `${hashes.length} different histories, ${misplaced} events out of place, ` +
      `${seen} of ${tokens} tokens`,
  );
}

function p99(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length * 0.99)] ?? Number.NaN;
}
