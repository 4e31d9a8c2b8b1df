/** Slots and processes: who holds a worker, who waits, and what gives a slot back. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { PrxError } from '../../../base/errors.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import { TURNS_MS } from '../../../supervisor/sessions/idleness.ts';
import { effectId } from '../../store/setup-events.ts';
import type { FakeProcess } from '../fake-process.ts';
import { createHouse, demolish, filled, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, cancelled, createLatch, dataOf, say } from '../script.ts';
import { createSteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

const small = (slots: number): string => `
[agent.limits]
max_concurrent_sessions = ${slots}
[agent.worker]
warm_pool = 0
`;

const isTo = (to: string) => (event: { type: string; data: unknown }) =>
  event.type === 'session.residency' && (event.data as { to: string }).to === to;

async function createMany(house: House, count: number): Promise<SessionId[]> {
  const ids: SessionId[] = [];
  while (ids.length < count) ids.push(await house.create());
  return ids;
}

describe('[config:agent.limits.max_concurrent_sessions] at capacity', () => {
  test('[event:session.residency] eight run at once, the ninth waits its turn and then runs (FAULTS 68)', async () => {
    const held = createLatch();
    const gateway = answers({
      '1.1': async () => {
        await held.opened;
        return say('done');
      },
    });
    const house = await createHouse({ script: { gateway } });
    const ids = await createMany(house, 9);
    for (const id of ids.slice(0, 8)) {
      await house.send(id, 'hello');
      await house.until(id, 'model.started');
    }
    const ninth = ids[8] ?? ('' as SessionId);
    await house.send(ninth, 'hello');
    await house.until(ninth, isTo('queued'));
    const status = await house.supervisor.status(false);
    expect(status.capacity).toMatchObject({ max_concurrent_sessions: 8, resident: 8, queued: 1 });
    expect((await house.supervisor.getSession(ninth)).residency).toBe('queued');
    held.open();
    await Promise.all(ids.map((id) => house.turnDone(id)));
    expect((await house.supervisor.status(false)).capacity.queued).toBe(0);
  });

  test('the least recently used idle session gives its slot', async () => {
    const house = await createHouse({ toml: small(2) });
    const [a, b, c] = (await createMany(house, 3)) as [SessionId, SessionId, SessionId];
    for (const id of [a, b]) {
      await house.send(id, 'hello');
      await house.turnDone(id);
    }
    await house.send(c, 'hello');
    await house.turnDone(c);
    await house.until(a, isTo('hibernated'));
    expect((await house.supervisor.getSession(b)).residency).toBe('resident');
  });

  test('an interrupt ends the turn of an input that waits for a slot, and that one only (regression)', async () => {
    const held = createLatch();
    const gateway = answers({
      '1.1': async () => {
        await held.opened;
        return say('done');
      },
    });
    const house = await createHouse({ toml: small(1), script: { gateway } });
    const [a, b] = (await createMany(house, 2)) as [SessionId, SessionId];
    await house.send(a, 'hello');
    await house.until(a, 'model.started');
    await house.send(b, 'first');
    await house.send(b, 'second');
    await house.until(b, isTo('queued'));
    await house.supervisor.interrupt(b, 'test');
    const ended = await house.turnDone(b, 1);
    expect(ended.data).toMatchObject({ turn: 1, outcome: 'interrupted' });
    expect((await house.events(b)).map(({ type }) => type)).not.toContain('worker.started');
    held.open();
    expect((await house.turnDone(b, 2)).data).toMatchObject({ turn: 2, outcome: 'completed' });
    expect((await house.store.verify()).problems).toEqual([]);
  });

  test('sessions whose turn was interrupted give theirs as well (regression)', async () => {
    const gateway = answers({
      '1.1': async (_, handle) => {
        await handle.cancelled;
        return cancelled();
      },
    });
    const house = await createHouse({ toml: small(1), script: { gateway } });
    const [a, b] = (await createMany(house, 2)) as [SessionId, SessionId];
    await house.send(a, 'hello');
    await house.until(a, 'model.started');
    await house.supervisor.interrupt(a, 'test');
    await house.turnDone(a);
    await house.send(b, 'hello');
    await house.until(b, 'model.started');
    await house.until(a, isTo('hibernated'));
  });

  test.each([
    [TURNS_MS, 'behind'],
    [TURNS_MS - 1, 'before'],
  ])(
    'one with further inputs that had its time %p ms goes on %s who waits (regression)',
    async (ms, place) => {
      const clock = createSteppedClock();
      const held = createLatch();
      const gateway = answers({
        '1.1': async () => {
          await held.opened;
          return say('done');
        },
      });
      const house = await createHouse({ clock, toml: small(1), script: { gateway } });
      const [a, b] = (await createMany(house, 2)) as [SessionId, SessionId];
      for (const text of ['first', 'second', 'third']) await house.send(a, text);
      await house.until(a, 'model.started');
      await house.send(b, 'hello');
      await house.until(b, isTo('queued'));
      clock.advance(ms);
      held.open();
      await house.turnDone(a, 3);
      await house.turnDone(b);
      const order = place === 'behind' ? [a, b, a, a] : [a, a, a, b];
      expect(gateway.seen.map(({ session }) => session)).toEqual(order);
    },
  );

  test('a queued session that is closed waits no longer', async () => {
    const held = createLatch();
    const gateway = answers({
      '1.1': async () => {
        await held.opened;
        return say('done');
      },
    });
    const house = await createHouse({ toml: small(1), script: { gateway } });
    const [a, b] = (await createMany(house, 2)) as [SessionId, SessionId];
    await house.send(a, 'hello');
    await house.until(a, 'model.started');
    await house.send(b, 'hello');
    await house.until(b, isTo('queued'));
    await house.supervisor.close(b, 'test');
    expect((await house.supervisor.status(false)).capacity.queued).toBe(0);
    held.open();
    await house.turnDone(a);
  });
});

describe('an idle session', () => {
  test('[config:agent.worker.idle_hibernate_secs] gives worker and host back; the next input warm starts', async () => {
    const toml = `${small(8)}idle_hibernate_secs = 0.05`;
    const house = await createHouse({ toml });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, isTo('hibernated'));
    expect(house.machine.live('worker')).toEqual([]);
    expect(house.machine.live('sandbox')).toEqual([]);
    await house.send(id, 'again');
    await house.turnDone(id, 2);
    const history = await house.store.readHistory(id);
    expect(history.turns).toHaveLength(2);
    expect(dataOf(await house.events(id), 'worker.exited')).toMatchObject([{ cause: 'stopped' }]);
  });

  test('that is quiet is forgotten, and opened again by the next input', async () => {
    const clock = createSteppedClock();
    const house = await createHouse({ clock, toml: small(8) });
    const id = await house.create();
    clock.advance(2000);
    expect(house.runtime.directory.find(id)).toBeUndefined();
    await house.send(id, 'hello');
    await house.turnDone(id);
  });

  test('is not forgotten under a command that waits for the store (regression)', async () => {
    const clock = createSteppedClock();
    const house = await createHouse({ clock, toml: small(8) });
    const id = await house.create();
    const sent = house.supervisor.acceptInput(id, { text: 'hi', idempotency_key: 'k' }, 'test');
    // The session is found by then; its look for the key is under way.
    await house.store.resolveSession(id);
    clock.advance(2000);
    await sent;
    await house.turnDone(id);
  });

  test('is not opened as it was before somebody else opened it, wrote and was done (regression)', async () => {
    const clock = createSteppedClock();
    const [read, held] = [createLatch(), createLatch()];
    const house = await createHouse({
      clock,
      toml: small(8),
      wrapStore: (store) =>
        overStore(store, {
          async resolveSession(ref) {
            const record = await store.resolveSession(ref);
            if (ref !== 'slow') return record;
            read.open();
            await held.opened;
            return record;
          },
        }),
    });
    const id = await house.create({ name: 'slow' });
    clock.advance(2000);
    const sent = house.supervisor.acceptInput('slow', { text: 'hi' }, 'test');
    await read.opened;
    await house.supervisor.suspend(id, 'test');
    await house.supervisor.resume(id, 'test');
    clock.advance(2000);
    expect(house.runtime.directory.find(id)).toBeUndefined();
    held.open();
    await sent;
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
  });

  test('with a background process without an end is not forgotten', async () => {
    const clock = createSteppedClock();
    let isFull = true;
    const house = await createHouse({
      clock,
      toml: small(8),
      wrapStore: (store) =>
        overStore(store, {
          append(request) {
            const isEnd = request.events.some(({ type }) => type === 'process.exited');
            if (!isEnd || !isFull) return store.append(request);
            return Promise.reject(new PrxError('STORE_DEGRADED', 'the disk is full'));
          },
        }),
    });
    const id = await house.create();
    clock.advance(2000);
    const at = '2026-01-01T00:00:00.000Z';
    const place = { call_id: effectId('1.1.1'), command: 'sleep 9', level: 'bubblewrap' };
    const data = { ...place, started_at: at, deadline_at: at };
    await house.store.append({ events: [{ session: id, type: 'process.started', data }] });
    // The next look for quiet sessions comes before the end is written again.
    clock.advance(1500);
    await house.supervisor.suspend(id, 'test');
    await clock.armed(1000);
    clock.advance(600);
    expect(house.runtime.directory.find(id)).toBeDefined();
    isFull = false;
    clock.advance(1000);
    await house.until(id, 'process.exited');
    clock.advance(2000);
    expect(house.runtime.directory.find(id)).toBeUndefined();
  });
});

test('[config:agent.worker.warm_pool] spares are kept ready and given away once', async () => {
  const house = await createHouse({ toml: '[agent.worker]\nwarm_pool = 1' });
  const id = await house.create();
  await filled(house, 1);
  await house.send(id, 'hello');
  await house.turnDone(id);
  await filled(house, 1);
  expect(house.machine.live('worker')).toHaveLength(2);
  expect(dataOf(await house.events(id), 'worker.started')).toMatchObject([{ warm: true }]);
});

test('the first spares start behind what those who waited for the start ask', async () => {
  const clock = createSteppedClock();
  const house = await createHouse({ toml: '[agent.worker]\nwarm_pool = 1', clock });
  clock.advance(499);
  for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate);
  expect(house.machine.of('worker')).toEqual([]);
  clock.advance(1);
  await filled(house, 1);
});

describe('a start that fails', () => {
  test('is counted, backed off, and fails the session by name (FAULTS 3, 10)', async () => {
    const toml = `${small(8)}max_restart_attempts = 2`;
    const onStart = (room: string): void => {
      if (room === 'worker') throw new Error('EAGAIN');
    };
    const house = await createHouse({ toml, script: { onStart } });
    const id = await house.create();
    await house.send(id, 'hello');
    const failed = await house.until(id, ({ data }) => (data as { to?: string }).to === 'failed');
    expect(failed.data).toMatchObject({
      reason: expect.stringContaining('no worker could be started: EAGAIN'),
    });
    house.machine.script = { ...house.machine.script, onStart: () => undefined };
    await house.supervisor.restart(id, 'test');
    await house.turnDone(id);
  });

  test('restart does not wait for the back-off', async () => {
    const clock = createSteppedClock();
    const state = { broken: true };
    const house = await createHouse({
      clock,
      toml: `${small(8)}max_restart_attempts = 9`,
      script: {
        onStart(room) {
          if (room === 'worker' && state.broken) throw new Error('EAGAIN');
        },
      },
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, isTo('backoff'));
    expect((await house.supervisor.getSession(id)).backoff).toMatchObject({ attempt: 2 });
    state.broken = false;
    await house.supervisor.restart(id, 'test');
    await house.turnDone(id);
  });
});

describe('[config:agent.worker.heartbeat_interval_secs] a worker', () => {
  /** Pings are answered or lost as the test says. */
  const deaf = () => {
    const state = { deaf: true };
    const onWorkerWrite = (message: unknown, worker: FakeProcess): boolean | undefined => {
      const { id, method } = message as { id?: unknown; method?: unknown };
      const isAnswer = id !== undefined && method === undefined;
      return state.deaf && isAnswer && pings.has(worker) ? false : undefined;
    };
    const pings = new Set<FakeProcess>();
    return { state, pings, onWorkerWrite };
  };

  test('that misses two pings is replaced within two heartbeats (FAULTS 13)', async () => {
    const clock = createSteppedClock();
    const { pings, onWorkerWrite } = deaf();
    const house = await createHouse({ clock, toml: small(8), script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const [worker] = house.machine.live('worker');
    if (worker !== undefined) pings.add(worker);
    await clock.armed(10_000);
    clock.advance(10_000);
    let exited: EventEnvelope | undefined;
    const watched = house.until(id, 'worker.exited').then((event) => {
      exited = event;
    });
    // The gateway's heartbeat runs on the same clock: whose wait is over first is left open.
    while (exited === undefined) {
      await Promise.race([watched, clock.armed(5000)]);
      clock.advance(5000);
    }
    expect(exited.data).toMatchObject({ cause: 'unresponsive' });
    await house.until(id, 'worker.started', 2);
  });

  test('is not late because we stood still ourselves (FAULTS 18, 19)', async () => {
    const clock = createSteppedClock();
    const { state, pings, onWorkerWrite } = deaf();
    const house = await createHouse({ clock, toml: small(8), script: { onWorkerWrite } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    const [worker] = house.machine.live('worker');
    if (worker !== undefined) pings.add(worker);
    await clock.armed(10_000);
    clock.advance(10_000);
    for (let round = 0; round < 3; round += 1) {
      await clock.armed(5000);
      clock.skip(30_000);
    }
    state.deaf = false;
    await clock.armed(10_000);
    expect(worker?.isAlive()).toBe(true);
  });
});
