/** What a thousand restarts of one session's worker leave behind in the supervisor's memory: the
 *  slope over three thousand, because a single reading sways by some MB. FAULTS 67. */
import type { Figure } from './figure.ts';
import { readAnonymousMb } from './processes.ts';
import { openSession, pause, settle } from './session.ts';

/** What the first ones cost is kept: pools, caches, compiled code. */
const WARM_UP = 1000;
const COUNT = 1000;
const ROUNDS = 3;
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
      return readAnonymousMb(running.pid);
    };
    const [warmUp, count] = lab.quick ? [5, 10] : [WARM_UP, COUNT];
    const readings = [await restart(warmUp)];
    for (let round = 1; round <= ROUNDS; round += 1) readings.push(await restart(count));
    session.unwatch();
    await running.stop();
    return {
      title: `Anonymous memory of the supervisor: ${ROUNDS * count} restarts of a worker, after ${warmUp}`,
      rows: [
        { name: `slope over each ${count}`, unit: 'MB', samples: [toSlope(readings)], aim: 1 },
        { name: `before and after each ${count}`, unit: 'MB', samples: readings },
      ],
    };
  },
};

/** Of the line that is nearest to what was read at equal distances; per distance. */
function toSlope(readings: readonly number[]): number {
  const middle = (readings.length - 1) / 2;
  const weights = readings.map((_, index) => index - middle);
  const sum = readings.reduce((total, value, index) => total + value * (weights[index] ?? 0), 0);
  return sum / weights.reduce((total, weight) => total + weight ** 2, 0);
}
