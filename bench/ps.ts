/** A command of the CLI from its exec to its exit, over what the same Node takes to do nothing. */
import type { Figure } from './figure.ts';
import type { Home, Lab } from './lab.ts';
import { timeCommand } from './processes.ts';
import type { Row } from './report.ts';
import { settle } from './session.ts';
import { pairwise, ratio } from './stats.ts';
import { timeBareNode } from './worker-start.ts';

const AIM_MS = 120;

export const ps: Figure = {
  name: 'ps',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const rows: Row[] = [];
    let made = 0;
    for (const count of [8, 500]) {
      for (; made < count; made += 1) await home.client.createSession({ name: `s${made}` });
      rows.push(...(await measure(home, lab, count)));
    }
    await running.stop();
    return { title: 'Command line', rows };
  },
};

async function measure(home: Home, lab: Lab, count: number): Promise<Row[]> {
  const bare: number[] = [];
  const table: number[] = [];
  const args = ['ps', '--state-dir', home.stateDir];
  for (let round = 0; round < (lab.quick ? 3 : 25); round += 1) {
    bare.push(await timeBareNode(lab));
    table.push(await timeCommand({ command: lab.bin, args, env: home.env }));
  }
  const name = `\`ps\`, ${count} sessions`;
  return [
    { name, unit: 'ms', samples: table, aim: AIM_MS },
    { name: `${name} / bare node`, unit: '×', samples: pairwise(table, bare, ratio) },
  ];
}
