/** From exec to the ready line on an existing state dir, with gateway and sandbox probe: of the
 *  supervisor's program itself, and of `prx-supervisor start`, which becomes it. */
import type { Figure } from './figure.ts';
import type { Running } from './lab.ts';
import { openSession, pause, settle } from './session.ts';
import { pairwise, ratio } from './stats.ts';
import { timeBareNode } from './worker-start.ts';

export const start: Figure = {
  name: 'start',
  async run(lab) {
    const home = await lab.createHome();
    const first = await home.start();
    await settle(home, 1);
    const session = await openSession(home);
    await session.runTurn('first');
    session.unwatch();
    await first.stop();
    const { config, stateDir } = JSON.parse(home.options) as { config: string; stateDir: string };
    const bin = ['start', '--config', config, '--state-dir', stateDir];
    const bare: number[] = [];
    const program: number[] = [];
    const command: number[] = [];
    const stops: number[] = [];
    const measure = async (samples: number[], starting: Promise<Running>): Promise<void> => {
      const running = await starting;
      samples.push(running.readyMs);
      await settle(home, 2);
      const stopMs = performance.now();
      await running.stop();
      stops.push(performance.now() - stopMs);
      await pause(100);
    };
    for (let round = 0; round < (lab.quick ? 3 : 25); round += 1) {
      bare.push(await timeBareNode(lab));
      await measure(program, home.start());
      await measure(command, home.startAs(lab.bin, bin));
    }
    return {
      title: 'Supervisor start',
      rows: [
        { name: 'exec of dist/supervisor.js → ready line', unit: 'ms', samples: program, aim: 250 },
        { name: 'exec of bin/prx-supervisor start → ready line', unit: 'ms', samples: command },
        {
          name: 'supervisor.js / bare `node -e 0`',
          unit: '×',
          samples: pairwise(program, bare, ratio),
        },
        { name: 'bare `node -e 0`, to its exit', unit: 'ms', samples: bare },
        { name: 'SIGTERM → exit, idle', unit: 'ms', samples: stops },
      ],
    };
  },
};
