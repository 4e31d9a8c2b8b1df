/** A start over a journal with many sessions: exec to the ready line, and how the api answers while
 *  the journal is verified behind it. Each in turns with a start over an empty journal. */
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { type Past, writePast } from './past.ts';
import { pause } from './session.ts';
import { pairwise, ratio } from './stats.ts';

const SESSIONS = 10_000;
const PAST: Past = { turns: 2, answerBytes: 400, deltas: 4, isOpen: false };
/** How long the api is asked after the ready line; the verification takes longer. */
const ASK_MS = 1000;

export const boot: Figure = {
  name: 'boot',
  async run(lab) {
    const sessions = lab.quick ? 500 : SESSIONS;
    const empty = await lab.createHome();
    const full = await lab.createHome();
    const ids = await writePast(full, sessions, PAST);
    const [id = ''] = ids;
    const startOnce = async (home: Home): Promise<number> => {
      const running = await home.start();
      await running.stop();
      return running.readyMs;
    };
    // The first ones create the journal, and read both into the page cache.
    await startOnce(empty);
    await startOnce(full);
    const bare: number[] = [];
    const ready: number[] = [];
    const status: number[] = [];
    const one: number[] = [];
    for (let round = 0; round < (lab.quick ? 2 : 15); round += 1) {
      bare.push(await startOnce(empty));
      const running = await full.start();
      ready.push(running.readyMs);
      for (const endMs = performance.now() + ASK_MS; performance.now() < endMs; ) {
        one.push(await timeMs(() => full.client.getSession(id)));
        status.push(await timeMs(() => full.client.getStatus()));
        await pause(10);
      }
      await running.stop();
    }
    const events = ids.length * (PAST.turns * (PAST.deltas + 5) + 3);
    return {
      title: `Start with ${sessions} sessions (${events} events) in the journal`,
      rows: [
        { name: 'exec of dist/supervisor.js → ready line', unit: 'ms', samples: ready, aim: 1000 },
        { name: 'the same with an empty journal', unit: 'ms', samples: bare },
        { name: 'ratio of the two', unit: '×', samples: pairwise(ready, bare, ratio) },
        { name: 'GET one session, in the second after', unit: 'ms', samples: one },
        { name: 'GET status, in the second after', unit: 'ms', samples: status },
        { name: 'slowest answer of the api', unit: 'ms', samples: [Math.max(...one, ...status)] },
      ],
    };
  },
};

async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}
