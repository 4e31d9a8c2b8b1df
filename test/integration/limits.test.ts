/** Workers that eat memory, as real processes: enforced whoever is blind, classified, and without
 *  harm to the session. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { findIdentity } from '../../base/process.ts';
import type { EventData, EventEnvelope } from '../../protocol/events.ts';
import { type Bench, createBench, type Running } from './harness.ts';
import { findRunning } from './processes.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

const LIMIT_MB = 192;
/** The fastest growth planned for (2 GB/s) over the shortest interval and a slow machine's kill. */
const OVERSHOOT_MB = 700;

let bench: Bench;
let supervisor: Running;

beforeEach(async () => {
  bench = createBench(`
    [agent]
    model = "scripted"
    [agent.limits]
    max_memory_mb = ${LIMIT_MB}
    [agent.worker]
    warm_pool = 0
    [provider]
    kind = "offline"
    [log]
    level = "debug"
  `);
  const fixture = join(import.meta.dirname, 'fixtures', 'misbehaving-worker.cjs');
  copyFileSync(fixture, join(bench.dir, 'dist', 'worker.js'));
  supervisor = await bench.start();
});

afterEach(() => bench.close());

async function create(): Promise<string> {
  return (await bench.client.createSession({ workspace: bench.workspace })).view.id;
}

/** The events up to the n-th end of a turn. */
async function run(session: string, text: string, count = 1): Promise<readonly EventEnvelope[]> {
  await bench.client.sendInput(session, { text });
  let left = count;
  return bench.follow(session, ({ type }) => type === 'turn.completed' && --left === 0);
}

function dataOf<T extends 'worker.exited' | 'turn.completed' | 'limit.exceeded'>(
  events: readonly EventEnvelope[],
  type: T,
): EventData<T>[] {
  // Written by us under this type's schema.
  return events.filter((event) => event.type === type).map((event) => event.data as EventData<T>);
}

describe('a worker over its memory limit', () => {
  test.each(['buffers', 'heap'])(
    '%s: dies of memory, twice, and its input is set aside (FAULTS 43, 45, 46, 50)',
    async (bomb) => {
      const session = await create();
      const events = await run(session, bomb);
      const exits = dataOf(events, 'worker.exited');
      expect(exits.map(({ cause }) => cause)).toEqual(['memory', 'memory']);
      for (const { peak_rss_bytes: peak, memory_curve: curve } of exits) {
        expect((peak ?? 0) / 2 ** 20).toBeLessThan(LIMIT_MB + OVERSHOOT_MB);
        if (bomb === 'buffers') expect(curve?.at(-1)?.rss_bytes).toBe(peak);
      }
      expect(dataOf(events, 'turn.completed')).toMatchObject([
        { outcome: 'failed', reason: 'quarantined' },
      ]);
      const after = await run(session, 'hello', 2);
      expect(dataOf(after, 'turn.completed').at(-1)).toMatchObject({ outcome: 'completed' });
    },
  );

  test('is found also without the monitor, and the event names who saw it (FAULTS 49)', async () => {
    const session = await create();
    await run(session, 'hello');
    // One that is silent is replaced: each of them is stopped as soon as it is there.
    const stopping = setInterval(() => {
      for (const pid of findRunning(join(bench.dir, 'dist', 'monitor.js'))) {
        process.kill(pid, 'SIGSTOP');
      }
    }, 10);
    const events = await run(session, 'buffers', 2).finally(() => clearInterval(stopping));
    expect(dataOf(events, 'limit.exceeded')).toContainEqual(
      expect.objectContaining({ level: 'hard', source: 'scan' }),
    );
    expect(dataOf(events, 'worker.exited')).toMatchObject([
      { cause: 'memory' },
      { cause: 'memory' },
    ]);
  });

  test('near it is asked to collect, and lives (FAULTS 48)', async () => {
    const session = await create();
    const events = await run(session, `hold ${Math.floor(LIMIT_MB * 0.9) - 45}`);
    expect(dataOf(events, 'limit.exceeded')).toMatchObject([{ level: 'soft', max: LIMIT_MB }]);
    expect(dataOf(events, 'worker.exited')).toEqual([]);
    expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'completed' }]);
  });
});

test('the last words of a worker that fails each time are in the reason', async () => {
  const session = await create();
  const events = await run(session, 'fail');
  const [end] = dataOf(events, 'turn.completed');
  expect(end).toMatchObject({ outcome: 'failed', reason: 'quarantined' });
  expect(end?.error?.message).toContain('could not go on');
  expect(supervisor.pid).toBeGreaterThan(0);
});

test('a worker in an endless loop is killed as unresponsive, and its input set aside (FAULTS 14)', async () => {
  const path = join(bench.dir, 'config.toml');
  const heartbeat = '[agent.worker]\nheartbeat_interval_secs = 2\nmax_restart_attempts = 1';
  writeFileSync(path, readFileSync(path, 'utf8').replace('[agent.worker]', heartbeat));
  await bench.client.reload();
  const session = await create();
  const events = await run(session, 'spin');
  expect(dataOf(events, 'worker.exited').map(({ cause }) => cause)).toEqual([
    ...['unresponsive', 'unresponsive'],
  ]);
  expect(dataOf(events, 'turn.completed')).toMatchObject([{ reason: 'quarantined' }]);
});

describe('a process that is stopped (SIGSTOP)', () => {
  let provider: ScriptedProvider;

  beforeEach(async () => {
    provider = await startScriptedProvider();
    await bench.close();
    bench = createBench(`
      [agent]
      model = "scripted"
      [agent.worker]
      heartbeat_interval_secs = 2
      [provider]
      base_url = "${provider.url}"
    `);
    supervisor = await bench.start();
  });

  afterEach(() => provider.close());

  async function begin(step: unknown, until: string): Promise<string> {
    const session = await create();
    await bench.client.sendInput(session, { text: JSON.stringify([step, { say: 'the end' }]) });
    await bench.follow(session, ({ type }) => type === until);
    return session;
  }

  async function stop(kind: string): Promise<number> {
    const pid = (await bench.client.listProcesses()).find((each) => each.kind === kind)?.pid ?? 0;
    expect(pid).toBeGreaterThan(0);
    process.kill(pid, 'SIGSTOP');
    return pid;
  }

  test('the worker: killed, replaced, and the call that runs is joined (FAULTS 13, 14)', async () => {
    const command = 'echo ran >> count; sleep 9; echo done';
    const session = await begin({ tool: 'shell', arguments: { command } }, 'tool.started');
    const pid = await stop('worker');
    const events = await bench.follow(session, ({ type }) => type === 'turn.completed');
    expect(dataOf(events, 'worker.exited')).toMatchObject([{ cause: 'unresponsive', pid }]);
    expect(findIdentity(pid)).toBeUndefined();
    expect(readFileSync(join(bench.workspace, 'count'), 'utf8')).toBe('ran\n');
    expect(events.filter(({ type }) => type === 'tool.completed')).toMatchObject([
      { data: { status: 'ok' } },
    ]);
    expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'completed' }]);
  });

  test('the gateway: killed, and the unfinished request is made once more', async () => {
    const session = await begin({ say: 'one two three', holdAfter: 2 }, 'model.delta');
    const pid = await stop('gateway');
    await bench.follow(session, ({ type, data }) => {
      return type === 'model.started' && (data as { attempt: number }).attempt === 2;
    });
    provider.release();
    const events = await bench.follow(session, ({ type }) => type === 'turn.completed');
    expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'completed' }]);
    expect(findIdentity(pid)).toBeUndefined();
  });

  test('the sandbox host: killed, and the call is resolved by its effect', async () => {
    const step = { tool: 'shell', arguments: { command: 'sleep 60' } };
    const session = await begin(step, 'tool.started');
    const pid = await stop('sandbox');
    const events = await bench.follow(session, ({ type }) => type === 'turn.completed');
    expect(events.filter(({ type }) => type === 'tool.completed')).toMatchObject([
      { data: { status: 'indeterminate' } },
    ]);
    expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'completed' }]);
    expect(findIdentity(pid)).toBeUndefined();
  });
});
