/** Inputs: exactly once, bounded, and what happens to those that come in mid-turn. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { Store } from '../../../store/contract.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import {
  answers,
  call,
  cancelled,
  createLatch,
  dataOf,
  failed,
  result,
  runsEverything,
  say,
} from '../script.ts';

afterEach(demolish);

const text = (value: string) => [{ type: 'text', text: value }];

/** A house whose first turn waits in its first model call. */
async function busyHouse(
  toml = '',
  wrapStore: (store: Store) => Store = (store) => store,
): Promise<{
  house: House;
  id: Awaited<ReturnType<House['create']>>;
  release: () => void;
  gateway: ReturnType<typeof answers>;
}> {
  const held = createLatch();
  const gateway = answers({
    '1.1': async (_, handle) => {
      const how = await Promise.race([
        held.opened.then(() => 'go'),
        handle.cancelled.then(() => 'stop'),
      ]);
      return how === 'go' ? say('look', [call('a', 'ls')]) : cancelled();
    },
  });
  const house = await createHouse({ toml, script: { gateway }, wrapStore });
  const id = await house.create();
  await house.send(id, 'first');
  await house.until(id, 'model.started');
  return { house, id, release: held.open, gateway };
}

describe('an input during a turn', () => {
  test('enqueue: waits for its own turn', async () => {
    const { house, id, release } = await busyHouse();
    await house.supervisor.acceptInput(id, { text: 'second', on_busy: 'enqueue' }, 'test');
    release();
    await house.turnDone(id, 2);
    const outcomes = dataOf(await house.events(id), 'turn.completed');
    expect(outcomes).toMatchObject([
      { turn: 1, outcome: 'completed' },
      { turn: 2, outcome: 'completed' },
    ]);
  });

  test('interrupt: the turn ends, and it goes before those that wait', async () => {
    const { house, id, gateway } = await busyHouse();
    await house.send(id, 'waiting');
    await house.supervisor.acceptInput(id, { text: 'urgent', on_busy: 'interrupt' }, 'test');
    await house.turnDone(id, 3);
    const outcomes = dataOf(await house.events(id), 'turn.completed');
    expect(outcomes).toMatchObject([
      { outcome: 'interrupted', reason: 'a new input interrupted it' },
      { outcome: 'completed' },
      { outcome: 'completed' },
    ]);
    const asked = gateway.seen.slice(1).map(({ messages }) => messages.at(-1));
    expect(asked).toMatchObject([{ content: text('urgent') }, { content: text('waiting') }]);
  });

  test.each([{}, { idempotency_key: 'k' }])(
    'interrupt: accepted and written in one, so that no death parts them %j (regression)',
    async (key) => {
      const appends: string[][] = [];
      const { house, id } = await busyHouse('', (store) =>
        overStore(store, {
          append(request) {
            appends.push(request.events.map(({ type }) => type));
            return store.append(request);
          },
        }),
      );
      const urgent = { text: 'urgent', on_busy: 'interrupt', ...key } as const;
      const { input_id: input } = await house.supervisor.acceptInput(id, urgent, 'test');
      expect(appends).toContainEqual(['input.accepted', 'interrupt.accepted']);
      await house.turnDone(id, 2);
      const ended = dataOf(await house.events(id), 'turn.completed');
      expect(ended).toMatchObject([
        { outcome: 'interrupted' },
        { input_id: input, outcome: 'completed' },
      ]);
    },
  );

  test.each([{ on_busy: 'reject' as const }, { if_idle: true }])(
    '%j: SESSION_BUSY',
    async (how) => {
      const { house, id, release } = await busyHouse();
      await expect(
        house.supervisor.acceptInput(id, { text: 'no', ...how }, 'test'),
      ).rejects.toMatchObject({ code: 'SESSION_BUSY' });
      release();
      await house.turnDone(id);
      await house.supervisor.acceptInput(id, { text: 'now', ...how }, 'test');
      await house.turnDone(id, 2);
    },
  );

  test('[event:input.steered] steer: is given to the next step of the running turn, once', async () => {
    const { house, id, release, gateway } = await busyHouse();
    await house.supervisor.acceptInput(id, { text: 'rather this', on_busy: 'steer' }, 'test');
    release();
    await house.turnDone(id);
    expect(gateway.seen[1]?.messages.at(-1)).toMatchObject({ content: text('rather this') });
    const events = await house.events(id);
    expect(dataOf(events, 'input.steered')).toMatchObject([{ step: 2 }]);
    expect(dataOf(events, 'turn.started')).toHaveLength(1);
  });

  test('steer: does not go to a step that failed for good, though its worker died meanwhile', async () => {
    const gateway = answers({ '1.1': failed('PROVIDER_REFUSED', null) });
    let house: House | undefined;
    let id: Awaited<ReturnType<House['create']>> | undefined;
    let sent: Promise<unknown> | undefined;
    const wrapStore = (store: Store): Store =>
      overStore(store, {
        async append(request) {
          const result = await store.append(request);
          if (!request.events.some(({ type }) => type === 'model.failed')) return result;
          house?.machine.live('worker')[0]?.die();
          const steer = { text: 'rather this', on_busy: 'steer' } as const;
          // Not awaited: it is published behind what this append has written.
          if (id !== undefined) sent = house?.supervisor.acceptInput(id, steer, 'test');
          return result;
        },
      });
    house = await createHouse({ script: { gateway }, wrapStore });
    id = await house.create();
    await house.send(id, 'first');
    await house.turnDone(id, 2);
    await sent;
    const events = await house.events(id);
    expect(dataOf(events, 'input.steered')).toEqual([]);
    expect(dataOf(events, 'model.mismatched')).toEqual([]);
    expect(gateway.seen[1]?.messages.at(-1)).toMatchObject({ content: text('rather this') });
  });

  test('steer: goes to its step once, though the worker that asked for it died and its successor asks', async () => {
    const [asked, written] = [createLatch(), createLatch()];
    let asks = 0;
    const gateway = answers({ '1.1': say('look', [call('a', 'ls')]) });
    const house = await createHouse({
      script: {
        gateway,
        host: runsEverything({
          '1.1.1': async () => {
            await house.supervisor.acceptInput(id, { text: 'steer', on_busy: 'steer' }, 'test');
            return result('listed');
          },
        }),
        onWorkerWrite(message) {
          const { method, params } = message as { method?: string; params?: { step?: number } };
          if (method === 'turn/step' && params?.step === 2) asks += 1;
          return true;
        },
      },
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            if (request.events.some(({ type }) => type === 'input.steered')) {
              asked.open();
              await written.opened;
            }
            return store.append(request);
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'first');
    await asked.opened;
    house.session(id).resident.worker()?.kill('crashed');
    while (asks < 2) await new Promise(setImmediate);
    // The second ask is in the pipe: it is heard before the first one has its answer.
    for (let turns = 0; turns < 20; turns += 1) await new Promise(setImmediate);
    written.open();
    await house.turnDone(id);
    expect(dataOf(await house.events(id), 'input.steered')).toMatchObject([{ step: 2 }]);
    expect(dataOf(await house.events(id), 'turn.completed')).toMatchObject([
      { outcome: 'completed' },
    ]);
  });
});

describe('a steering input given to the first step of a turn', () => {
  test('is still there for the next worker, when the one that was told of it dies (regression)', async () => {
    const held = createLatch();
    const gateway = answers({
      '1.1': async () => {
        await held.opened;
        return say('done');
      },
    });
    let house: House | undefined;
    const wrapStore = (store: Store): Store =>
      overStore(store, {
        async append(request) {
          const appended = await store.append(request);
          const isSteered = request.events.some(({ type }) => type === 'input.steered');
          if (isSteered) house?.machine.live('worker')[0]?.die();
          return appended;
        },
      });
    house = await createHouse({ script: { gateway }, wrapStore });
    const id = await house.create();
    await house.send(id, 'first');
    await house.until(id, 'model.started');
    await house.send(id, 'second');
    await house.supervisor.acceptInput(id, { text: 'and this', on_busy: 'steer' }, 'test');
    held.open();
    await house.turnDone(id, 2);
    const events = await house.events(id);
    expect(dataOf(events, 'input.steered')).toMatchObject([{ step: 1 }]);
    const asked = gateway.seen.at(-1)?.messages.filter(({ role }) => role === 'user');
    expect(asked).toMatchObject([
      { content: text('first') },
      { content: text('second') },
      { content: text('and this') },
    ]);
  });
});

describe('[promise:input-exactly-once] an idempotency key', () => {
  test('gives the first answer again, also at once and after a restart', async () => {
    const house = await createHouse();
    const id = await house.create();
    const send = (where: House) =>
      where.supervisor.acceptInput(id, { text: 'hello', idempotency_key: 'k' }, 'test');
    const both = await Promise.all([send(house), send(house)]);
    const one = both.find((each) => !each.duplicate);
    expect(both.find((each) => each.duplicate)).toEqual({ ...one, duplicate: true });
    await house.turnDone(id);
    const next = await house.again();
    expect(await send(next)).toEqual({ ...one, duplicate: true });
    expect(dataOf(await next.events(id), 'turn.started')).toHaveLength(1);
  });

  test('with another content is a conflict', async () => {
    const house = await createHouse();
    const id = await house.create();
    const send = (value: string) =>
      house.supervisor.acceptInput(id, { text: value, idempotency_key: 'k' }, 'test');
    await send('hello');
    await expect(send('other')).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  test('of a session gives the same session', async () => {
    const house = await createHouse();
    const create = (name: string) =>
      house.supervisor.createSession({ name, idempotency_key: 'k' }, 'test');
    const first = await create('one');
    const second = await create('one');
    expect([first.created, second.created]).toEqual([true, false]);
    expect(second.view.id).toBe(first.view.id);
    await expect(create('two')).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });

  test('of a session gives the same one in any order of its labels (regression)', async () => {
    const house = await createHouse();
    const create = (labels: Record<string, string>) =>
      house.supervisor.createSession({ labels, idempotency_key: 'k' }, 'test');
    const { view } = await create({ team: 'web', stage: 'test' });
    expect(await create({ stage: 'test', team: 'web' })).toMatchObject({
      created: false,
      view: { id: view.id },
    });
    await expect(create({ team: 'web' })).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });
});

test('[config:agent.limits.max_queued_inputs] one more than fits is refused by name', async () => {
  const { house, id, release } = await busyHouse('[agent.limits]\nmax_queued_inputs = 2');
  await house.send(id, 'second');
  await house.send(id, 'third');
  await expect(house.send(id, 'fourth')).rejects.toMatchObject({
    code: 'QUEUE_FULL',
    message: expect.stringContaining('agent.limits.max_queued_inputs is 2'),
  });
  release();
  await house.turnDone(id, 3);
});

test('inputs accepted before a crash run once, in order, after it', async () => {
  const { house, id } = await busyHouse();
  await house.send(id, 'second');
  const gateway = answers({});
  const next = await house.again({ script: { gateway } });
  await next.turnDone(id, 2);
  const events = await next.events(id);
  expect(dataOf(events, 'turn.started')).toHaveLength(2);
  // No gateway left a record of the first attempt: it is sent under the reserve it has.
  expect(gateway.requests).toEqual(['1.1#1', '2.1#1']);
});
