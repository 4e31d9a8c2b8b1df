/** Faults that simulated runs found, each as the one sequence of events that it needs. */
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { PrxError } from '../../../base/errors.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import type { Store } from '../../../store/contract.ts';
import { createHouse, demolish, filled, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, call, cancelled, createLatch, dataOf, say } from '../script.ts';

afterEach(demolish);

describe('a tombstone that is on its way to the disk', () => {
  /** Far above what a turn needs; what spins gets there within one turn of the event loop. */
  const ASKS_MAX = 100;

  test('does not make the driver spin when the worker dies meanwhile (regression)', async () => {
    const written = createLatch();
    const asked = createLatch();
    const gateway = answers({
      '1.1': async (_, handle) => {
        await handle.cancelled;
        return cancelled();
      },
    });
    const house: House = await createHouse({
      toml: '[agent.worker]\nwarm_pool = 0',
      script: { gateway },
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            if (request.events.some(({ type }) => type === 'interrupt.accepted')) {
              asked.open();
              await written.opened;
            }
            return store.append(request);
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    const { resident } = house.session(id);
    // What spins never lets go of this process: it is counted on its way through, and cut.
    const { ensure } = resident;
    let asks = 0;
    jest.spyOn(resident, 'ensure').mockImplementation(async (signal) => {
      asks += 1;
      if (asks > ASKS_MAX) throw new PrxError('STORE_DEGRADED', 'the driver spins');
      return ensure(signal);
    });
    house.supervisor.interrupt(id, 'test').catch(() => undefined);
    await asked.opened;
    house.machine.live('worker')[0]?.die();
    const isResident = ({ data }: EventEnvelope) => (data as { to?: string }).to === 'resident';
    await house.until(id, isResident, 2);
    await new Promise(setImmediate);
    written.open();
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
    expect(asks).toBeLessThan(ASKS_MAX);
  });
});

describe('what cannot be written', () => {
  /** More than a worker needs to ask for what comes next, and to end its turn. */
  const LOOPS = 60;

  const interrupt = (house: House, id: SessionId) => house.supervisor.interrupt(id, 'test');
  const close = (house: House, id: SessionId) => house.supervisor.close(id, 'test');

  test('is forgotten: the stop that comes next says how the turn ends', async () => {
    let isFull = true;
    const gateway = answers({
      '1.1': async (_, handle) => {
        await handle.cancelled;
        return cancelled();
      },
    });
    const house: House = await createHouse({
      script: { gateway },
      wrapStore: (store) =>
        overStore(store, {
          append(request) {
            const isStop = request.events.some(({ type }) => type === 'interrupt.accepted');
            if (!isStop || !isFull) return store.append(request);
            return Promise.reject(new PrxError('STORE_DEGRADED', 'the disk is full'));
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    await expect(interrupt(house, id)).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
    isFull = false;
    await close(house, id);
    expect((await house.turnDone(id)).data).toMatchObject({ reason: 'closed' });
  });

  test.each([
    ['an interrupt', 'asks on', interrupt],
    ['a close', 'asks on', close],
    ['an interrupt', 'dies', interrupt],
    ['a close', 'dies', close],
  ])(
    '%s ends nothing: its turn goes on, also when its worker %s meanwhile (regression)',
    async (...row) => {
      const [, meanwhile, stop] = row;
      const [answered, asked, failed] = [createLatch(), createLatch(), createLatch()];
      const gateway = answers({
        '1.1': async () => {
          await answered.opened;
          return say('look', [call('a', 'ls')]);
        },
      });
      const house: House = await createHouse({
        script: { gateway },
        wrapStore: (store) =>
          overStore(store, {
            async append(request) {
              if (!request.events.some(({ type }) => type === 'interrupt.accepted')) {
                return store.append(request);
              }
              asked.open();
              await failed.opened;
              throw new PrxError('STORE_DEGRADED', 'the disk is full');
            },
          }),
      });
      const id = await house.create();
      await house.send(id, 'hello');
      await house.until(id, 'model.started');
      const refused = expect(stop(house, id)).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
      await asked.opened;
      if (meanwhile === 'dies') {
        house.session(id).resident.worker()?.kill('crashed');
        await house.until(id, 'worker.exited');
      }
      answered.open();
      await house.until(id, 'model.completed');
      for (let loop = 0; loop < LOOPS; loop += 1) await new Promise(setImmediate);
      failed.open();
      await refused;
      expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed', steps: 2 });
      expect(dataOf(await house.events(id), 'tool.completed')).toMatchObject([{ status: 'ok' }]);
    },
  );
});

describe('a worker that dies while it starts', () => {
  test('is one death, not two (regression)', async () => {
    let isArmed = false;
    const house: House = await createHouse({
      toml: '[agent.worker]\nwarm_pool = 1\nmax_restart_attempts = 1\nidle_hibernate_secs = 0.05',
      wrapStore: (store) =>
        overStore(store, {
          // The spare is taken by now. Its death is known before the start that took it fails.
          async readHistory(session) {
            const [spare] = house.machine.live('worker');
            const history = await store.readHistory(session);
            if (spare === undefined || !isArmed) return history;
            isArmed = false;
            spare.die();
            while ((await store.listProcesses()).some(({ pid }) => pid === spare.pid));
            return history;
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id, 1);
    await house.until(id, ({ data }) => (data as { to?: string }).to === 'hibernated');
    await filled(house, 1);
    isArmed = true;
    await house.send(id, 'again');
    const isOver = ({ type, data }: EventEnvelope) =>
      (type === 'turn.completed' && (data as { turn: number }).turn === 2) ||
      (data as { to?: string }).to === 'failed';
    expect((await house.until(id, isOver)).data).toMatchObject({ outcome: 'completed' });
    const events = await house.events(id);
    const causes = dataOf(events, 'worker.exited').map(({ cause }) => cause);
    expect(causes.filter((cause) => cause !== 'stopped')).toEqual(['crashed']);
    expect(dataOf(events, 'worker.restarting').map(({ attempt }) => attempt)).toEqual([1]);
  });
});

describe('a close that crosses the start of a turn', () => {
  test('ends the turn as closed, though nobody saw it open (regression)', async () => {
    const started = createLatch();
    const closing = createLatch();
    const house = await createHouse({
      script: { gateway: answers({}) },
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            const result = await store.append(request);
            const has = (type: string) => request.events.some((event) => event.type === type);
            // Durable, and not heard of yet.
            if (has('turn.started')) {
              started.open();
              await closing.opened;
            } else if (has('session.state')) {
              const [{ data } = { data: {} }] = request.events;
              if ((data as { to?: string }).to === 'stopping') closing.open();
            }
            return result;
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await started.opened;
    await house.supervisor.close(id, 'test');
    const end = await house.turnDone(id);
    expect(end.data).toMatchObject({ outcome: 'interrupted', reason: 'closed' });
  });
});

describe('a worker that is told of its turn while the start of that is on its way to the disk', () => {
  const holdsStart = (hold: () => Promise<unknown>) => (store: Store) =>
    overStore(store, {
      async append(request) {
        if (request.events.some(({ type }) => type === 'turn.started')) await hold();
        return store.append(request);
      },
    });
  const isModelAsk = (message: unknown) => JSON.stringify(message).includes('"model/generate"');

  test('is answered nothing before the start is there', async () => {
    const [asked, written] = [createLatch(), createLatch()];
    const gateway = answers({});
    const house = await createHouse({
      script: {
        gateway,
        onWorkerWrite(message) {
          if (isModelAsk(message)) asked.open();
          return true;
        },
      },
      wrapStore: holdsStart(() => written.opened),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await asked.opened;
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    const types = (await house.events(id)).map(({ type }) => type);
    expect([gateway.requests, types.includes('model.started')]).toEqual([[], false]);
    written.open();
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
    expect(gateway.requests).toEqual(['1.1#1']);
  });

  test('is replaced when the start cannot be written, and the turn begins anew', async () => {
    let tries = 0;
    const gateway = answers({});
    const house = await createHouse({
      script: { gateway },
      wrapStore: holdsStart(async () => {
        tries += 1;
        if (tries === 1) throw new PrxError('STORE_DEGRADED', 'the disk is full');
      }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    expect((await house.turnDone(id)).data).toMatchObject({ turn: 1, outcome: 'completed' });
    expect(gateway.requests).toEqual(['1.1#1']);
    const started = dataOf(await house.events(id), 'worker.started');
    expect(started).toHaveLength(2);
  });
});

describe('a session whose last restart is used up', () => {
  test('fails, although it would sleep before that death is journaled (regression)', async () => {
    const written = createLatch();
    const isAsleep = ({ type, data }: { type: string; data: unknown }): boolean =>
      type === 'session.residency' && (data as { to: string }).to === 'hibernated';
    const house: House = await createHouse({
      toml: '[agent.worker]\nwarm_pool = 0\nmax_restart_attempts = 0\nidle_hibernate_secs = 0.05',
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            if (request.events.some(isAsleep)) written.open();
            if (request.events.some(({ type }) => type === 'worker.exited')) await written.opened;
            return store.append(request);
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    house.machine.live('worker')[0]?.die();
    const isFailed = ({ data }: EventEnvelope) => (data as { to?: string }).to === 'failed';
    expect((await house.until(id, isFailed)).data).toMatchObject({ from: 'running' });
  });
});
