/** What we add to a token on its way: the model server writes it, a client of ours reads it from
 *  the event stream; against a client that reads the same server itself, in turns with it. */
import type { EventEnvelope } from '../protocol/events.ts';
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { openSession, pause, settle, type WatchedSession } from './session.ts';
import { type Frame, readFrames, send } from './sse.ts';
import { difference, pairwise } from './stats.ts';

const TOKENS = 100;
const TOKEN_EVERY_MS = 10;

export const token: Figure = {
  name: 'token',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const session = await openSession(home);
    await session.runTurn('first');
    const ours: number[] = [];
    const direct: number[] = [];
    for (let round = 0; round < (lab.quick ? 1 : 10); round += 1) {
      direct.push(...(await streamDirectly(home)));
      ours.push(...(await streamThrough(home, session)));
    }
    await running.stop();
    return {
      title: 'Model token to client',
      rows: [
        { name: 'added by us', unit: 'ms', samples: pairwise(ours, direct, difference), aim: 2 },
        { name: 'token written → our client has it', unit: 'ms', samples: ours },
        { name: 'token written → client of the model has it', unit: 'ms', samples: direct },
      ],
    };
  },
};

/** Lets the server stream numbered tokens; the time at which each was written. */
function streamTokens({ provider }: Home): readonly number[] {
  const writtenMs: number[] = [];
  provider.answer = async (_request, reply) => {
    const startMs = performance.now();
    for (let index = 0; index < TOKENS; index += 1) {
      await pause(startMs + index * TOKEN_EVERY_MS - performance.now());
      writtenMs.push(performance.now());
      reply.say(`<${index}>`);
    }
    reply.end();
  };
  return writtenMs;
}

async function streamThrough(home: Home, session: WatchedSession): Promise<number[]> {
  const writtenMs = streamTokens(home);
  const before = session.seen.length;
  await session.runTurn('stream');
  const deltas = session.seen.slice(before).filter(({ event }) => event.type === 'model.delta');
  return toLatencies(
    writtenMs,
    deltas.map(({ event, atMs }) => ({ data: readDelta(event), atMs })),
  );
}

function readDelta(event: EventEnvelope): string {
  return (event.data as { text: string }).text;
}

async function streamDirectly(home: Home): Promise<number[]> {
  const writtenMs = streamTokens(home);
  const body = JSON.stringify({ stream: true, messages: [{ role: 'user', content: 'stream' }] });
  const path = '/v1/chat/completions';
  const answer = await send({ port: home.provider.port, path, method: 'POST' }, body);
  const frames: Frame[] = [];
  await readFrames(answer, (frame) => frames.push(frame));
  return toLatencies(writtenMs, frames);
}

/** Several tokens may arrive in one frame; each is found by its number. */
function toLatencies(writtenMs: readonly number[], frames: readonly Frame[]): number[] {
  const latencies: number[] = [];
  for (const { data, atMs } of frames) {
    for (const [, number] of data.matchAll(/<(\d+)>/g)) {
      const startMs = writtenMs[Number(number)];
      if (startMs !== undefined) latencies.push(atMs - startMs);
    }
  }
  if (latencies.length === TOKENS) return latencies;
  throw new Error(`${latencies.length} of ${TOKENS} tokens arrived`);
}
