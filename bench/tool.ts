/** One tool call as the model sees it: from the end of the answer that asks for `true` to the
 *  request that carries its result, in a chain of such steps. Beside it a call that starts no
 *  process (what the loop itself costs), and what starting `true` costs without us. */
import { spawnSync } from 'node:child_process';
import type { Figure } from './figure.ts';
import type { Home, Lab } from './lab.ts';
import { timeCommand } from './processes.ts';
import type { Row } from './report.ts';
import { openSession, pause, settle, type WatchedSession } from './session.ts';

const CALLS = { shell: { command: 'true' }, list_files: { path: '.' } } as const;
type Tool = keyof typeof CALLS;

const BWRAP_ARGS = ['--unshare-all', '--ro-bind', '/', '/', '--proc', '/proc', 'true'];

export const tool: Figure = {
  name: 'tool',
  async run(lab) {
    const home = await lab.createHome();
    const running = await home.start();
    await settle(home, 2);
    const first = await measureFirstCalls(home, lab);
    const session = await openSession(home);
    await runChain({ home, session, tool: 'shell', calls: 1 });
    const trips: Record<Tool, number[]> = { shell: [], list_files: [] };
    const floors = createFloors();
    for (let round = 0; round < (lab.quick ? 1 : 5); round += 1) {
      for (const tool of ['shell', 'list_files'] as const) {
        trips[tool].push(...(await runChain({ home, session, tool, calls: 20 })));
        await pause(200);
      }
      for (const floor of floors) {
        for (let n = 0; n < 20; n += 1) floor.samples.push(await timeCommand(floor));
      }
    }
    await running.stop();
    const rows: Row[] = [
      { name: 'step with `true` in the sandbox', unit: 'ms', samples: trips.shell, aim: 15 },
      {
        name: 'of which tool.started → tool.completed, as seen',
        unit: 'ms',
        samples: toSpans(session),
      },
      { name: 'step with list_files', unit: 'ms', samples: trips.list_files },
      { name: 'first call of a session (its host starts)', unit: 'ms', samples: first },
    ];
    return { title: 'Tool round trip', rows: [...rows, ...floors] };
  },
};

interface Chain {
  readonly home: Home;
  readonly session: WatchedSession;
  readonly tool: Tool;
  readonly calls: number;
}

/** One turn of `calls` tool calls; the round trip of each. */
async function runChain({ home, session, tool, calls }: Chain): Promise<number[]> {
  const trips: number[] = [];
  let endedMs = 0;
  home.provider.answer = ({ atMs, step }, reply) => {
    if (step > 0) trips.push(atMs - endedMs);
    if (step < calls) reply.callTool(tool, CALLS[tool]);
    else reply.say('done');
    endedMs = reply.end();
  };
  const before = session.seen.length;
  await session.runTurn('chain');
  for (const { event } of session.seen.slice(before)) {
    if (event.type !== 'tool.completed') continue;
    const { status, output } = event.data as { status: string; output: string };
    if (status !== 'ok') throw new Error(`the call of ${tool} ended as ${status}: ${output}`);
  }
  return trips;
}

async function measureFirstCalls(home: Home, lab: Lab): Promise<number[]> {
  const samples: number[] = [];
  for (let n = 0; n < (lab.quick ? 2 : 10); n += 1) {
    const session = await openSession(home);
    samples.push(...(await runChain({ home, session, tool: 'shell', calls: 1 })));
    session.unwatch();
    await home.client.close(session.id);
    await settle(home, 2);
  }
  return samples;
}

/** Between the two events of each shell call, by their arrival here. */
function toSpans(session: WatchedSession): number[] {
  const spans: number[] = [];
  const startedMs = new Map<string, number>();
  const shellCalls = new Set<string>();
  for (const { event, atMs } of session.seen) {
    const { call_id: id, tool } = event.data as { call_id: string; tool?: string };
    if (event.type === 'tool.requested' && tool === 'shell') shellCalls.add(id);
    else if (event.type === 'tool.started' && shellCalls.has(id)) startedMs.set(id, atMs);
    else if (event.type === 'tool.completed') {
      const began = startedMs.get(id);
      if (began !== undefined) spans.push(atMs - began);
    }
  }
  return spans;
}

interface Floor extends Row {
  readonly samples: number[];
  readonly command: string;
  readonly args: readonly string[];
}

export function createFloors(): Floor[] {
  const floors: Floor[] = [
    { name: "spawn('true') from Node", unit: 'ms', samples: [], command: 'true', args: [] },
    {
      name: "spawn('bwrap … true') from Node",
      unit: 'ms',
      samples: [],
      command: 'bwrap',
      args: BWRAP_ARGS,
    },
  ];
  return floors.filter(({ command, args }) => spawnSync(command, args).status === 0);
}
