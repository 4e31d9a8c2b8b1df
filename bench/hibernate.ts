/** What sessions cost that lived and hibernated: processes, and memory of the supervisor beyond
 *  what it had after the first few of them. */
import type { Figure } from './figure.ts';
import type { Home } from './lab.ts';
import { listTree, readPssMb } from './processes.ts';
import { pause, settle } from './session.ts';

const SESSIONS = 2000;
/** Before those that are counted: code that is compiled, threads and heaps that have been used once
 *  are the price of working at all. */
const WARM_SESSIONS = 50;
/** At once: the default of max_concurrent_sessions. */
const AT_ONCE = 8;
/** Forgotten sessions, idle reader threads and what garbage goes by itself. */
const QUIET_MS = 15_000;
const PATIENCE_MS = 60_000;

export const hibernate: Figure = {
  name: 'hibernate',
  async run(lab) {
    const home = await lab.createHome(['[agent.worker]', 'idle_hibernate_secs = 1']);
    const running = await home.start();
    const quietMs = lab.quick ? 5000 : QUIET_MS;
    const rest = async (): Promise<void> => {
      await slept(home);
      await settle(home, 2);
      await pause(quietMs);
    };
    await rest();
    const processes = listTree(running.pid).length;
    const fresh = readPssMb(running.pid);
    await live(home, WARM_SESSIONS);
    await rest();
    const warm = readPssMb(running.pid);
    const count = lab.quick ? 100 : SESSIONS;
    await live(home, count);
    const busy = readPssMb(running.pid);
    await rest();
    const after = readPssMb(running.pid);
    const left = listTree(running.pid).length - processes;
    await running.stop();
    const name = `${count} sessions, a turn each, then hibernated`;
    return {
      title: `Memory of the supervisor (PSS): ${name}`,
      rows: [
        { name: 'processes more than before', unit: 'processes', samples: [left], aim: 0 },
        { name: 'more than before them', unit: 'MB', samples: [after - warm], aim: 20 },
        { name: 'more than it had when it had just started', unit: 'MB', samples: [after - fresh] },
        { name: 'just started', unit: 'MB', samples: [fresh] },
        {
          name: `after ${WARM_SESSIONS} other sessions were forgotten`,
          unit: 'MB',
          samples: [warm],
        },
        { name: 'right after the last turn', unit: 'MB', samples: [busy] },
        { name: 'after all were forgotten', unit: 'MB', samples: [after] },
      ],
    };
  },
};

/** `count` sessions, each until its first turn is over; AT_ONCE of them at a time. */
async function live(home: Home, count: number): Promise<void> {
  let made = 0;
  const one = async (): Promise<void> => {
    const { view } = await home.client.createSession({ workspace: home.workspace });
    await home.client.sendInput(view.id, { text: 'hello' });
    for (;;) {
      const { activity, last_outcome: outcome } = await home.client.getSession(view.id);
      if (activity === 'idle' && outcome !== undefined) return;
      await pause(20);
    }
  };
  const lane = async (): Promise<void> => {
    while (made < count) {
      made += 1;
      await one();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

async function slept(home: Home): Promise<void> {
  for (const deadlineMs = performance.now() + PATIENCE_MS; performance.now() < deadlineMs; ) {
    const { capacity } = await home.client.getStatus();
    if (capacity.resident === 0) return;
    await pause(100);
  }
  throw new Error('the sessions did not hibernate within a minute');
}
