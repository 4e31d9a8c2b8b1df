/** What eight sessions cost the processor while each streams 20 tokens a second to a client, and
 *  while none does. 100 % is one core. */
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { readCpuMs, sum } from './processes.ts';
import type { Row } from './report.ts';
import { openSession, pause, settle, type WatchedSession } from './session.ts';

const SESSIONS = 8;
const TOKENS_PER_SECOND = 20;
const WINDOW_MS = 2000;

export const load: Figure = {
  name: 'load',
  async run(lab) {
    const windows = lab.quick ? 1 : 8;
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => openSession(home)));
    await Promise.all(sessions.map((session) => session.runTurn('first')));
    await settle(home, 2);
    await pause(1000);
    const idle = await watchProcessor(home, windows);
    const tokens = Math.ceil(((windows + 1.5) * WINDOW_MS * TOKENS_PER_SECOND) / 1000);
    streamSlowly(home, tokens);
    const turns = sessions.map((session) => session.runTurn('stream'));
    await pause(1000);
    const busy = await watchProcessor(home, windows);
    await Promise.all(turns);
    for (const session of sessions) checkTokens(session, tokens);
    await running.stop();
    const perToken = sum([busy.supervisor, busy.gateway, busy.worker].map(average)) * 10_000;
    return {
      title: `Processor, ${SESSIONS} sessions × ${TOKENS_PER_SECOND} tokens/s`,
      rows: [
        ...toRows(busy, 'streaming'),
        {
          name: 'all of them, for one token',
          unit: 'µs',
          samples: [perToken / (SESSIONS * TOKENS_PER_SECOND)],
        },
        ...toRows(idle, `idle, ${SESSIONS} resident`),
      ],
    };
  },
};

/** Per window, the share of one core, %. */
interface Shares {
  readonly supervisor: number[];
  readonly gateway: number[];
  readonly worker: number[];
}
type Kind = keyof Shares;
const KINDS: readonly Kind[] = ['supervisor', 'gateway', 'worker'];

async function watchProcessor(home: Home, windows: number): Promise<Shares> {
  const shares: Shares = { supervisor: [], gateway: [], worker: [] };
  const views = await home.client.listProcesses();
  const read = (kind: Kind): number =>
    sum(views.filter((view) => view.kind === kind).map(({ pid }) => readCpuMs(pid)));
  for (let window = 0; window < windows; window += 1) {
    const startMs = performance.now();
    const before = KINDS.map(read);
    await pause(WINDOW_MS);
    const spentMs = performance.now() - startMs;
    for (const [index, kind] of KINDS.entries()) {
      shares[kind].push(((read(kind) - (before[index] ?? 0)) / spentMs) * 100);
    }
  }
  return shares;
}

function streamSlowly({ provider }: Home, tokens: number): void {
  provider.answer = async (_request, reply) => {
    const startMs = performance.now();
    for (let index = 0; index < tokens; index += 1) {
      await pause(startMs + (index * 1000) / TOKENS_PER_SECOND - performance.now());
      reply.say(`${index} `);
    }
    reply.end();
  };
}

function checkTokens(session: WatchedSession, tokens: number): void {
  const last = session.seen.findLast(({ event }) => event.type === 'model.completed');
  const text = JSON.stringify(last?.event.data);
  if (!text.includes(`${tokens - 1} `)) throw new Error(`a stream ended early: ${text}`);
}

function toRows(shares: Shares, doing: string): Row[] {
  return KINDS.map((kind) => ({
    name: `${kind}${kind === 'worker' ? 's together' : ''}, ${doing}`,
    unit: '%',
    samples: shares[kind],
  }));
}

function average(values: readonly number[]): number {
  return sum(values) / values.length;
}
