/** One tool call as the worker sees it: asked → answered, through policy, reserve, sandbox and
 *  commit; one after the other, and many at once. The worker is one that only asks. Beside it what
 *  starting `true` costs without us, in a sandbox of bubblewrap and without one. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Figure } from './figure.ts';
import { timeCommand } from './processes.ts';
import type { Row } from './report.ts';
import { openSession, settle, type WatchedSession } from './session.ts';
import { createFloors } from './tool.ts';

interface Ask {
  readonly tool: string;
  readonly arguments: unknown;
  readonly count: number;
  readonly atOnce: number;
}

interface Answer {
  /** Each call, ms. */
  readonly took: readonly number[];
  /** All of them together, ms. */
  readonly allMs: number;
  /** What the first call that did not end well said. */
  readonly wrong?: string;
}

const SHELL = { tool: 'shell', arguments: { command: 'true' } };
const READ = { tool: 'read_file', arguments: { path: 'small.txt' } };
const ROUNDS = 5;
const CALLS = 40;
/** V8 compiles only what ran often: turns of 150 calls of each tool, and rounds of the crowd. */
const WARM_TURNS = 10;
const WARM_ROUNDS = 10;
/** Sessions, and calls of each, all asked for at once: 104. Those of one session run in order. */
const CROWD = { sessions: 8, calls: 13 };

export const call: Figure = {
  name: 'call',
  async run(lab) {
    const kept = `${lab.program('worker')}.kept`;
    copyFileSync(lab.program('worker'), kept);
    copyFileSync(join(import.meta.dirname, 'asking-worker.cjs'), lab.program('worker'));
    try {
      const slots = `max_concurrent_sessions = ${CROWD.sessions + 1}`;
      const home = await lab.createHome(['[agent.limits]', slots]);
      writeFileSync(join(home.workspace, 'small.txt'), 'a line\n'.repeat(20));
      const running = await home.start();
      await settle(home, 2);
      const session = await openSession(home);
      const first = {
        shell: (await ask(session, { ...SHELL, count: CALLS, atOnce: 1 })).took,
        read: (await ask(session, { ...READ, count: CALLS, atOnce: 1 })).took,
      };
      const [rounds, warmTurns, warmRounds] = lab.quick
        ? [1, 1, 1]
        : [ROUNDS, WARM_TURNS, WARM_ROUNDS];
      for (let done = 0; done < warmTurns; done += 1) {
        for (const warm of [SHELL, READ]) await ask(session, { ...warm, count: 150, atOnce: 1 });
      }
      const shell: number[] = [];
      const read: number[] = [];
      const crowd = await Promise.all(
        Array.from({ length: CROWD.sessions }, () => openSession(home)),
      );
      for (const each of crowd) await ask(each, { ...SHELL, count: 2, atOnce: 1 });
      for (let done = 0; done < warmRounds; done += 1) await askCrowd(crowd);
      const each: number[] = [];
      const floors = createFloors();
      for (let round = 0; round < rounds; round += 1) {
        shell.push(...(await ask(session, { ...SHELL, count: CALLS, atOnce: 1 })).took);
        read.push(...(await ask(session, { ...READ, count: CALLS, atOnce: 1 })).took);
        each.push((await askCrowd(crowd)) / (CROWD.sessions * CROWD.calls));
        for (const floor of floors) {
          for (let n = 0; n < 20; n += 1) floor.samples.push(await timeCommand(floor));
        }
      }
      await running.stop();
      const rows: Row[] = [
        { name: 'shell `true`, asked → answered', unit: 'ms', samples: shell, aim: 5 },
        { name: 'read_file, asked → answered', unit: 'ms', samples: read, aim: 1.5 },
        { name: '104 of shell `true` at once, for each', unit: 'ms', samples: each, aim: 5 },
        { name: 'the first 40 of a supervisor: shell', unit: 'ms', samples: first.shell },
        { name: 'the first 40 of a supervisor: read_file', unit: 'ms', samples: first.read },
      ];
      return { title: 'Tool call, as the worker sees it', rows: [...rows, ...floors] };
    } finally {
      copyFileSync(kept, lab.program('worker'));
    }
  },
};

/** One turn of calls. @throws Error when one did not end well. */
async function ask(session: WatchedSession, what: Ask): Promise<Answer> {
  await session.runTurn(JSON.stringify(what));
  const last = session.seen.findLast(({ event }) => event.type === 'tool.requested');
  const data = last?.event.data as { arguments: { command: string } } | undefined;
  const answer = JSON.parse(data?.arguments.command.slice(2) ?? '{}') as Answer;
  if (answer.wrong !== undefined) throw new Error(`a call of ${what.tool} said: ${answer.wrong}`);
  return answer;
}

/** From the first to the last of all their calls, ms. */
async function askCrowd(sessions: readonly WatchedSession[]): Promise<number> {
  const what = { ...SHELL, count: CROWD.calls, atOnce: CROWD.calls };
  const startMs = performance.now();
  await Promise.all(sessions.map((session) => ask(session, what)));
  return performance.now() - startMs;
}
