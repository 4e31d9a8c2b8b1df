/** A thousand readers of one session while it streams: some lose their connection and come back,
 *  some read nothing until the end. All get the same events; the supervisor's memory is that of
 *  the connections; and one more reader beside them shows what the crowd adds to a token. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { EventEnvelope } from '../protocol/events.ts';
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { readCpuMs, readPssMb } from './processes.ts';
import { openSession, pause, settle, type WatchedSession } from './session.ts';
import type { CrowdOptions, CrowdOrder, CrowdReport } from './sse-clients.ts';

const TOKEN_EVERY_MS = 100;
/** Bytes of a token: more than a socket's buffer holds for those who read nothing. */
const FILLER = 'x'.repeat(1200);
const SAMPLE_EVERY_MS = 250;
const QUIET_MS = 3000;

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
    const before = readPssMb(running.pid);
    const crowd = await gather({
      socketPath: join(home.stateDir, 'api.sock'),
      path: `/api/v1/sessions/${session.id}/events?follow=true`,
      clients,
      slow,
      lostAtOnce: Math.ceil(clients / 200),
      loseEveryMs: 100,
    });
    const connected = readPssMb(running.pid);
    const during: number[] = [];
    const sampling = setInterval(() => during.push(readPssMb(running.pid)), SAMPLE_EVERY_MS);
    const cpuBefore = readCpuMs(running.pid);
    crowd.start();
    const among = await streamTokens(home, session, tokens);
    const cpuMs = readCpuMs(running.pid) - cpuBefore;
    const report = await crowd.finish(session.seen.at(-1)?.event.seq ?? 0);
    clearInterval(sampling);
    await pause(QUIET_MS);
    const after = readPssMb(running.pid);
    check(report, tokens * (clients - slow));
    await running.stop();
    return {
      title: `${clients} readers of one stream (${slow} slow, ${report.reconnects} connections lost)`,
      rows: [
        { name: 'token written → one reader has it, alone', unit: 'ms', samples: alone },
        { name: 'token written → one reader has it, among them', unit: 'ms', samples: among },
        {
          name: 'p99 of that, over p99 alone',
          unit: 'ms',
          samples: [p99(among) - p99(alone)],
          aim: 10,
        },
        {
          name: 'token written → each of the others has it',
          unit: 'ms',
          samples: report.latenciesMs,
        },
        { name: 'p99 of that', unit: 'ms', samples: [p99(report.latenciesMs)] },
        {
          name: 'supervisor, CPU per token and reader',
          unit: 'µs',
          samples: [(cpuMs * 1000) / tokens / clients],
        },
        { name: 'supervisor before', unit: 'MB', samples: [before] },
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
      reply.say(`<${(performance.timeOrigin + performance.now()).toFixed(3)}>${FILLER}`);
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
  return [...text.matchAll(/<(\d+\.\d+)>/g)].map(
    ([, stamp]) => performance.timeOrigin + atMs - Number(stamp),
  );
}

interface Crowd {
  start(): void;
  finish(seq: number): Promise<CrowdReport>;
}

/** Resolves when everybody has an event. */
async function gather(options: CrowdOptions): Promise<Crowd> {
  const thread = new Worker(new URL('./sse-clients.ts', import.meta.url), { workerData: options });
  const hear = <T>(): Promise<T> =>
    new Promise((resolve, reject) => {
      thread.once('message', resolve);
      thread.once('error', reject);
    });
  const tell = (order: CrowdOrder): void => thread.postMessage(order);
  await hear();
  return {
    start: () => tell({ kind: 'start-losing' }),
    async finish(seq) {
      const report = hear<CrowdReport>();
      tell({ kind: 'finish', seq });
      const told = await report;
      await thread.terminate();
      return told;
    },
  };
}

/** @throws Error when not everybody got everything, once and in order. */
function check({ hashes, misplaced, latenciesMs }: CrowdReport, tokens: number): void {
  if (hashes.length === 1 && misplaced === 0 && latenciesMs.length === tokens) return;
  throw new Error(
    `${hashes.length} different histories, ${misplaced} events out of place, ` +
      `${latenciesMs.length} of ${tokens} tokens`,
  );
}

function p99(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length * 0.99)] ?? Number.NaN;
}
