/** What sessions cost that wait for a person: processes, and memory of the supervisor; and what an
 *  answer costs that another client gives after a restart. */
import type { Figure } from './figure.ts';
import type { Home, Running } from './lab.ts';
import { listTree, readPssMb } from './processes.ts';
import type { Row } from './report.ts';
import { pause, settle } from './session.ts';

const SESSIONS = 1000;
/** Before those that are counted, as for sessions that hibernate. */
const WARM_SESSIONS = 50;
/** At once: the default of max_concurrent_sessions. */
const AT_ONCE = 8;
const ANSWERS = 20;
const QUIET_MS = 15_000;
const PATIENCE_MS = 60_000;

const SETTINGS = [
  ...['[agent.worker]', 'idle_hibernate_secs = 1'],
  ...['[security.tool_policy]', 'default = "supervised"'],
  ...['[security.approval]', 'timeout_secs = 86400'],
];

export const approvals: Figure = {
  name: 'approvals',
  async run(lab) {
    const home = await lab.createHome(SETTINGS);
    home.provider.answer = ({ step }, reply) => {
      if (step === 0) reply.callTool('shell', { command: 'true' });
      else reply.say('The command ended well.');
      reply.end();
    };
    const running = await home.start();
    const rest = async (): Promise<void> => {
      await left(home);
      await settle(home, 2);
      await pause(lab.quick ? 5000 : QUIET_MS);
    };
    await rest();
    const before = listTree(running.pid).length;
    await ask(home, WARM_SESSIONS);
    await rest();
    const warm = readPssMb(running.pid);
    const count = lab.quick ? 100 : SESSIONS;
    await ask(home, count);
    await rest();
    const asked = readPssMb(running.pid);
    const more = listTree(running.pid).length - before;
    await running.stop();
    const next = await home.start();
    await settle(home, 2);
    const answered = await answer(home, next, WARM_SESSIONS + count);
    await next.stop();
    return {
      title: `${count} sessions that wait for an approval`,
      rows: [
        { name: 'processes more than before', unit: 'processes', samples: [more], aim: 0 },
        { name: 'memory of the supervisor (PSS), more', unit: 'MB', samples: [asked - warm] },
        { name: 'its memory before', unit: 'MB', samples: [warm] },
        { name: 'a new supervisor is ready after', unit: 'ms', samples: [next.readyMs] },
        ...answered,
      ],
    };
  },
};

/** Sessions up to their approval; AT_ONCE of them at a time. */
async function ask(home: Home, count: number): Promise<void> {
  let made = 0;
  const lane = async (): Promise<void> => {
    while (made < count) {
      made += 1;
      const { view } = await home.client.createSession({ workspace: home.workspace });
      await home.client.sendInput(view.id, { text: 'work' });
      while ((await home.client.getSession(view.id)).state !== 'awaiting') await pause(20);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

/** By a client that has seen nothing of how they came about. */
async function answer(home: Home, { pid }: Running, count: number): Promise<readonly Row[]> {
  const waiting = await home.client.listApprovals();
  if (waiting.length !== count) throw new Error(`${waiting.length} of ${count} still wait`);
  const processes = listTree(pid).length;
  const times: number[] = [];
  for (const { session, call_id: call } of waiting.slice(0, ANSWERS)) {
    const startMs = performance.now();
    await home.client.resolveApproval(session, call, { decision: 'approve' });
    while ((await home.client.getSession(session)).last_outcome === undefined) await pause(2);
    times.push(performance.now() - startMs);
  }
  return [
    { name: 'its processes', unit: 'processes', samples: [processes] },
    { name: 'from an answer to the end of the turn', unit: 'ms', samples: times },
  ];
}

async function left(home: Home): Promise<void> {
  for (const deadlineMs = performance.now() + PATIENCE_MS; performance.now() < deadlineMs; ) {
    const { capacity } = await home.client.getStatus();
    if (capacity.resident === 0) return;
    await pause(100);
  }
  throw new Error('the sessions did not give their processes back within a minute');
}
