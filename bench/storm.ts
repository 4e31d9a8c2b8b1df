/** A start over many sessions that were in mid-turn: all their workers are wanted at once. How long
 *  it takes until each has gone on, how many start at a time, and how the api answers meanwhile. */
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { type Past, writePast } from './past.ts';
import { pause } from './session.ts';

const SESSIONS = 200;
const PAST: Past = { turns: 2, answerBytes: 400, deltas: 4, isOpen: true };
const PATIENCE_MS = 120_000;

interface Storm {
  readonly readyMs: number;
  readonly lastedMs: number;
  readonly one: readonly number[];
  readonly status: readonly number[];
  readonly write: readonly number[];
  readonly resident: number;
}

export const storm: Figure = {
  name: 'storm',
  async run(lab) {
    const sessions = lab.quick ? 20 : SESSIONS;
    const storms: Storm[] = [];
    for (let round = 0; round < (lab.quick ? 1 : 3); round += 1) {
      const home = await lab.createHome();
      const [first = ''] = await writePast(home, sessions, PAST);
      storms.push(await ride(home, first));
    }
    const one = storms.flatMap((each) => each.one);
    const status = storms.flatMap((each) => each.status);
    const write = storms.flatMap((each) => each.write);
    const slowest = Math.max(...one, ...status, ...write);
    return {
      title: `Start with ${sessions} sessions in mid-turn`,
      rows: [
        { name: 'GET one session, meanwhile', unit: 'ms', samples: one, aim: 50 },
        { name: 'GET status, meanwhile', unit: 'ms', samples: status, aim: 50 },
        { name: 'POST a session, meanwhile', unit: 'ms', samples: write, aim: 50 },
        { name: 'slowest answer of the api', unit: 'ms', samples: [slowest] },
        {
          name: 'workers of sessions at once',
          unit: 'processes',
          samples: storms.map(({ resident }) => resident),
          aim: 8,
        },
        { name: 'exec → ready line', unit: 'ms', samples: storms.map(({ readyMs }) => readyMs) },
        {
          name: 'ready → every turn completed',
          unit: 'ms',
          samples: storms.map(({ lastedMs }) => lastedMs),
        },
      ],
    };
  },
};

async function ride(home: Home, id: string): Promise<Storm> {
  const { client } = home;
  const running = await home.start();
  const startMs = performance.now();
  const one: number[] = [];
  const status: number[] = [];
  const write: number[] = [];
  let resident = 0;
  for (;;) {
    one.push(await timeMs(() => client.getSession(id)));
    write.push(await timeMs(() => client.createSession({ workspace: home.workspace })));
    const askedMs = performance.now();
    const { capacity } = await client.getStatus();
    status.push(performance.now() - askedMs);
    resident = Math.max(resident, capacity.resident);
    if (await isOver(home)) break;
    if (performance.now() - startMs > PATIENCE_MS) throw new Error('the storm did not end');
    await pause(20);
  }
  const lastedMs = performance.now() - startMs;
  await running.stop();
  return { readyMs: running.readyMs, lastedMs, one, status, write, resident };
}

async function isOver({ client }: Home): Promise<boolean> {
  const views = await client.listSessions();
  return views.every(({ activity }) => activity === 'idle');
}

async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}
