/** A worker killed in mid-turn, until its turn goes on: the model is just saying what is to be done
 *  next, so that the first event of the turn that follows is one that only a new worker can cause.
 *  Its floor: a process that is killed, until its parent hears of it. */
import { spawn } from 'node:child_process';
import type { Figure } from './figure.ts';
import type { Home, Lab } from './lab.ts';
import type { Reply } from './provider.ts';
import { isResident, openSession, pause, seenAtMs, settle, warmUp } from './session.ts';

interface Revival {
  /** SIGKILL → its exit is published. */
  readonly exitedMs: number;
  /** SIGKILL → the next generation is initialized. */
  readonly residentMs: number;
  /** SIGKILL → tool.requested: the next generation has asked for what the model wants. */
  readonly goesOnMs: number;
  /** SIGKILL → the model is asked for the next step. */
  readonly askedMs: number;
}

const QUIET_MS = 150;

export const revive: Figure = {
  name: 'revive',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    const revivals: Revival[] = [];
    const bare: number[] = [];
    await warmUp(lab, home);
    await killAndWait(home);
    for (let round = 0; round < (lab.quick ? 3 : 40); round += 1) {
      bare.push(await killBareNode(lab));
      revivals.push(await killAndWait(home));
    }
    await running.stop();
    const pick = (key: keyof Revival): number[] => revivals.map((each) => each[key]);
    return {
      title: 'SIGKILL of a worker in mid-turn, with a spare worker',
      rows: [
        {
          name: 'kill → turn goes on (tool.requested)',
          unit: 'ms',
          samples: pick('goesOnMs'),
          aim: 15,
        },
        { name: 'kill → next model request', unit: 'ms', samples: pick('askedMs') },
        { name: 'kill → worker.exited', unit: 'ms', samples: pick('exitedMs') },
        { name: 'kill → next worker initialized', unit: 'ms', samples: pick('residentMs') },
        { name: 'bare node killed → its parent knows', unit: 'ms', samples: bare },
      ],
    };
  },
};

/** A session of its own each time: a second death within a minute is answered with a back-off. */
async function killAndWait(home: Home): Promise<Revival> {
  const [first, second] = nextRequests(home);
  const session = await openSession(home);
  await home.client.sendInput(session.id, { text: 'hello' });
  const reply = await first;
  reply.say('I look at the files.');
  await session.reached('model.delta', 1);
  await settle(home, 2);
  await pause(QUIET_MS);
  const processes = await home.client.listProcesses(session.id);
  const pid = processes.find(({ kind }) => kind === 'worker')?.pid;
  if (pid === undefined) throw new Error('a session in mid-turn has a worker');
  const killedMs = performance.now();
  process.kill(pid, 'SIGKILL');
  // No tool has this name: refused without a sandbox, whose start would be measured as well.
  reply.callTool('none', {});
  reply.end();
  await session.reached('tool.requested', 1);
  const goesOnMs = seenAtMs(session, ({ type }) => type === 'tool.requested') - killedMs;
  const exitedMs = seenAtMs(session, ({ type }) => type === 'worker.exited') - killedMs;
  const residentMs = seenAtMs(session, isResident) - killedMs;
  const askedMs = (await second) - killedMs;
  await session.reached('turn.completed', 1);
  session.unwatch();
  await home.client.deleteSession(session.id);
  return { exitedMs, residentMs, goesOnMs, askedMs };
}

/** The answer that the first request of a turn waits for, and when the second one came; that one
 *  is answered at once. */
function nextRequests({ provider }: Home): [Promise<Reply>, Promise<number>] {
  const first = Promise.withResolvers<Reply>();
  const second = Promise.withResolvers<number>();
  provider.answer = ({ step, atMs }, reply) => {
    if (step === 0) return first.resolve(reply);
    second.resolve(atMs);
    reply.say('done');
    reply.end();
  };
  return [first.promise, second.promise];
}

async function killBareNode({ node }: Lab): Promise<number> {
  const child = spawn(node, ['-e', 'process.stdin.resume(); console.log()'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const killedMs = performance.now();
  child.kill('SIGKILL');
  await exited;
  return performance.now() - killedMs;
}
