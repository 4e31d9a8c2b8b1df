/** Restarts leave nothing behind. How much memory a thousand of them cost is measured by
 *  `npm run bench -- restarts`. */
import { readdirSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { listDescendants } from '../../base/process.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { createBench } from './harness.ts';
import { eventually } from './processes.ts';

const WARM_UP = 5;
const COUNT = 20;

test('after twenty deaths of its worker the supervisor holds what it held before (FAULTS 67)', async () => {
  const bench = createBench(`
    [provider]
    kind = "offline"
    [agent.worker]
    warm_pool = 0
    max_restart_attempts = 1000
    restart_window_secs = 0.001
  `);
  try {
    const { pid } = await bench.start();
    const { id } = (await bench.client.createSession({ workspace: bench.workspace })).view;
    await bench.client.sendInput(id, { text: 'hello' });
    const look = async () => ({
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      processes: listDescendants(pid).length,
      listed: (await bench.client.listProcesses()).length,
    });
    let [deaths, before] = [0, await look()];
    const isReady = ({ type, data }: EventEnvelope): boolean =>
      type === 'session.residency' && (data as { to: string }).to === 'resident';
    const stop = new AbortController();
    let isIdle = false;
    for await (const event of bench.client.followEvents(id, { signal: stop.signal })) {
      if (event.type === 'turn.completed') isIdle = true;
      if (!isIdle || !(isReady(event) || event.type === 'turn.completed')) continue;
      if (deaths === WARM_UP) before = await look();
      if (deaths === WARM_UP + COUNT) break;
      const worker = (await bench.client.listProcesses(id)).find(({ kind }) => kind === 'worker');
      deaths += 1;
      process.kill(worker?.pid ?? 0, 'SIGKILL');
    }
    stop.abort();
    // The last one that was killed may be on its way out. Threads of the supervisor open and close
    // some files of their own; a descriptor that leaks comes once a death.
    await eventually(async () => {
      const after = await look();
      const isSame = after.processes === before.processes && after.listed === before.listed;
      return isSame && after.descriptors < before.descriptors + COUNT / 2;
    });
    expect((await bench.client.getSession(id)).state).toBe('running');
  } finally {
    await bench.close();
  }
});
