/** What eight sessions keep in memory after a turn each: a tool call and an answer, so that every
 *  process that a session can have is there. */
import type { ProcessView } from '../protocol/resources.ts';
import type { Figure } from './figure.ts';
import { listTree, readPssMb, readPssSumMb } from './processes.ts';
import type { Row } from './report.ts';
import { openSession, pause, settle } from './session.ts';

const SESSIONS = 8;
/** For garbage of the turn to go, as far as it goes by itself. */
const QUIET_MS = 3000;

export const memory: Figure = {
  name: 'memory',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const alone = readPssSumMb(listTree(running.pid));
    home.provider.answer = ({ step }, reply) => {
      if (step === 0) reply.callTool('shell', { command: 'true' });
      else reply.say('The command ended well.');
      reply.end();
    };
    const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => openSession(home)));
    await Promise.all(sessions.map((session) => session.runTurn('work')));
    await settle(home, 2);
    await pause(lab.quick ? 500 : QUIET_MS);
    const views = await home.client.listProcesses();
    const readKind = (kind: ProcessView['kind']): number[] =>
      views.filter((view) => view.kind === kind).map(({ pid }) => readPssMb(pid));
    const rows: Row[] = [
      { name: 'worker', unit: 'MB', samples: readKind('worker'), aim: 25 },
      { name: 'sandbox host', unit: 'MB', samples: readKind('sandbox') },
      { name: 'below a host (cell, parked sandbox)', unit: 'MB', samples: readBelow(views) },
      { name: 'supervisor', unit: 'MB', samples: readKind('supervisor') },
      { name: 'gateway', unit: 'MB', samples: readKind('gateway') },
    ];
    const total = readPssSumMb(listTree(running.pid));
    for (const session of sessions) session.unwatch();
    await running.stop();
    return {
      title: `Memory (PSS), ${SESSIONS} sessions after a turn each`,
      rows: [
        ...rows,
        { name: 'everything, with 2 spare workers', unit: 'MB', samples: [total] },
        { name: 'everything before the first session', unit: 'MB', samples: [alone] },
        { name: 'per session', unit: 'MB', samples: [(total - alone) / SESSIONS] },
      ],
    };
  },
};

function readBelow(views: readonly ProcessView[]): number[] {
  const hosts = views.filter(({ kind }) => kind === 'sandbox');
  return hosts.map(({ pid }) => readPssSumMb(listTree(pid).slice(1)));
}
