/** What a thousand restarts of one session's worker leave behind in the supervisor's memory. */
import type { Figure } from './figure.ts';
import { readPssMb } from './processes.ts';
import { openSession, pause, settle } from './session.ts';

/** What the first ones cost is kept: pools, caches, compiled code. */
const WARM_UP = 300;
const COUNT = 1000;
/** A quiet supervisor gives its garbage back after ten seconds. */
const QUIET_MS = 15_000;

export const restarts: Figure = {
  name: 'restarts',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const session = await openSession(home);
    await session.runTurn('hello');
    let workers = 1;
    const restart = async (count: number): Promise<number> => {
      for (const last = workers + count; workers < last; workers += 1) {
        await home.client.restart(session.id);
        await session.reached('worker.started', workers + 1);
      }
      await settle(home, 2);
      await pause(lab.quick ? 500 : QUIET_MS);
      return readPssMb(running.pid);
    };
    const [warmUp, count] = lab.quick ? [5, 10] : [WARM_UP, COUNT];
    const before = await restart(warmUp);
    const after = await restart(count);
    session.unwatch();
    await running.stop();
    return {
      title: `${count} restarts of one session's worker, after ${warmUp}`,
      rows: [
        { name: 'supervisor, grown', unit: 'MB', samples: [after - before], aim: 1 },
        { name: 'supervisor, before', unit: 'MB', samples: [before] },
      ],
    };
  },
};
