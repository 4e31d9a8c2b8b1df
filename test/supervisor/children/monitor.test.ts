/** The monitor as a real process: it samples, it comes back, it ends with its pipe. */
import { afterEach, expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { silentLogger } from '../../../base/logger.ts';
import { type RunningProcess, realProcesses } from '../../../base/process.ts';
import type { ReadRss } from '../../../supervisor/children/memory.ts';
import { createMonitor } from '../../../supervisor/children/monitor.ts';
import { programs } from '../../programs.ts';

const started: RunningProcess[] = [];

afterEach(() => {
  for (const each of started.splice(0)) each.kill('SIGKILL');
});

function create(args: readonly string[] = [programs.monitor]): ReadRss {
  return createMonitor({
    ...{ clock: realClock, logger: silentLogger, random: { next: () => 0.5 } },
    spec: { command: process.execPath, args, env: {}, ownSession: true },
    processes: {
      async start(spec) {
        const running = await realProcesses.start(spec);
        started.push(running);
        return running;
      },
    },
  });
}

/** The answer, as soon as there is a monitor that gives one. */
async function ask(read: ReadRss, pids: readonly number[]): Promise<ReadonlyMap<number, number>> {
  for (;;) {
    try {
      return await read(pids);
    } catch {
      await realClock.sleep(20);
    }
  }
}

test('samples the live ones of an array, and nothing of the dead', async () => {
  const read = create();
  const found = await ask(read, [process.pid, 2 ** 22 - 1]);
  expect([...found.keys()]).toEqual([process.pid]);
  expect(found.get(process.pid)).toBeGreaterThan(10 * 2 ** 20);
});

test('that was killed is started again', async () => {
  const read = create();
  await ask(read, [process.pid]);
  started[0]?.kill('SIGKILL');
  await started[0]?.exited;
  await expect(read([process.pid])).rejects.toMatchObject({ code: 'INTERNAL' });
  expect((await ask(read, [process.pid])).size).toBe(1);
  expect(started).toHaveLength(2);
});

test('ends with its pipe', async () => {
  const read = create();
  await ask(read, [process.pid]);
  started[0]?.stdin.end();
  expect(await started[0]?.exited).toEqual({ code: 0, signal: undefined });
});

test('that says something else is ended', async () => {
  const read = create(['-e', 'process.stdin.on("data", () => console.log("garbage"))']);
  await expect(read([])).rejects.toThrow('not running');
  while (started.length === 0) await realClock.sleep(5);
  await realClock.sleep(5);
  await expect(read([])).rejects.toThrow('the monitor died');
  expect(await started[0]?.exited).toMatchObject({ signal: 'SIGKILL' });
});
