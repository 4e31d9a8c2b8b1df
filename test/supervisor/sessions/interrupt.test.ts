/** An interrupted turn ends once, whatever it was doing; everything it started has its end in the
 *  journal, nothing starts behind the tombstone, and the next input works. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import { createHouse, demolish, type House, type HouseSpec } from '../house.ts';
import { overStore } from '../over-store.ts';
import {
  answers,
  call,
  cancelled,
  createLatch,
  dataOf,
  result,
  runsEverything,
  say,
  typesOf,
} from '../script.ts';

afterEach(demolish);

/** Model and tool that only end when they are cancelled. */
const patient = (effects: readonly string[]) => ({
  gateway: answers({
    '1.1': effects.includes('1.1')
      ? async (_, handle) => {
          handle.delta('half');
          await handle.cancelled;
          return cancelled('half');
        }
      : say('look', [call('a', 'ls'), call('b', 'ls')]),
  }),
  host: runsEverything({
    '1.1.1': async (_, handle) => {
      handle.output('some');
      await handle.cancelled;
      return result('some', 'cancelled');
    },
  }),
});

interface Case {
  readonly at: string;
  readonly waits: readonly string[];
  readonly spec?: HouseSpec;
}

const supervised: HouseSpec = { toml: `[security.tool_policy]\ndefault = "supervised"` };

const cases: readonly Case[] = [
  { at: 'turn.started', waits: [] },
  { at: 'model.started', waits: ['1.1'] },
  { at: 'model.delta', waits: ['1.1'] },
  { at: 'model.completed', waits: [] },
  { at: 'tool.started', waits: [] },
  { at: 'tool.output', waits: [] },
  { at: 'approval.requested', waits: [], spec: supervised },
];

function checkEnds(events: readonly EventEnvelope[]): void {
  const types = typesOf(events);
  const count = (type: string): number => types.filter((each) => each === type).length;
  expect(count('turn.completed')).toBe(1);
  expect(count('model.started')).toBe(count('model.completed') + count('model.failed'));
  expect(count('tool.completed')).toBeGreaterThanOrEqual(count('tool.started'));
  expect(count('approval.requested')).toBe(count('approval.resolved'));
  const behind = types.slice(types.indexOf('interrupt.accepted'));
  for (const type of ['model.started', 'tool.started', 'approval.requested']) {
    expect(behind).not.toContain(type);
  }
}

async function checkNext(house: House, id: SessionId): Promise<void> {
  await house.send(id, 'next');
  const done = await house.turnDone(id, 2);
  expect(done.data).toMatchObject({ turn: 2, outcome: 'completed' });
  expect(await house.supervisor.getSession(id)).toMatchObject({
    state: 'running',
    activity: 'idle',
    pending_approvals: 0,
  });
  expect((await house.store.verify()).problems).toEqual([]);
}

describe('an interrupt', () => {
  test('right behind an input ends its turn, which has not begun (regression)', async () => {
    const house = await createHouse({ script: patient([]) });
    const id = await house.create();
    const sent = house.send(id, 'hello');
    await house.until(id, 'input.accepted');
    await house.supervisor.interrupt(id, 'test');
    await sent;
    expect((await house.turnDone(id)).data).toMatchObject({ turn: 1, outcome: 'interrupted' });
    checkEnds(await house.events(id));
    await checkNext(house, id);
  });

  test('of a turn whose start is on its way to the disk ends it, and not the one behind it (regression)', async () => {
    const [begun, held] = [createLatch(), createLatch()];
    const house: House = await createHouse({
      script: patient([]),
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            const isStart = request.events.some(
              ({ type, turn }) => type === 'turn.started' && turn === 1,
            );
            if (isStart) {
              begun.open();
              await held.opened;
            }
            return store.append(request);
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.send(id, 'next');
    await begun.opened;
    const interrupted = house.supervisor.interrupt(id, 'test');
    held.open();
    await interrupted;
    expect((await house.turnDone(id)).data).toMatchObject({ turn: 1, outcome: 'interrupted' });
    expect((await house.turnDone(id, 2)).data).toMatchObject({ turn: 2, outcome: 'completed' });
  });

  test.each(cases)('at $at ends the turn once, as interrupted', async ({ at, waits, spec }) => {
    const house = await createHouse({ ...spec, script: patient(waits) });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, at);
    await house.supervisor.interrupt(id, 'test');
    const done = await house.turnDone(id);
    expect(done.data).toMatchObject({ outcome: 'interrupted', reason: 'interrupted by test' });
    checkEnds(await house.events(id));
    await checkNext(house, id);
  });

  test('while nothing runs does nothing', async () => {
    const house = await createHouse();
    const id = await house.create();
    await house.supervisor.interrupt(id, 'test');
    expect(typesOf(await house.events(id))).not.toContain('interrupt.accepted');
    await house.send(id, 'hello');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
  });

  test('of a worker that does not listen takes the worker, not the end', async () => {
    const house = await createHouse({
      script: {
        ...patient(['1.1']),
        // Its ask is lost, so it waits for ever.
        onWorkerWrite: (message) => !JSON.stringify(message).includes('model/generate'),
      },
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'turn.started');
    await house.supervisor.interrupt(id, 'test');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
    house.machine.script = { ...house.machine.script, onWorkerWrite: () => undefined };
    await checkNext(house, id);
  });

  test.each([
    ['model.started', 'model.failed', []],
    ['tool.started', 'tool.completed', ['1.1#1']],
  ] as const)(
    'accepted while %s is on its way to the disk: nothing is sent behind it (regression)',
    async (reserve, end, requests) => {
      const gateway = answers({ '1.1': say('look', [call('a', 'ls')]) });
      const host = runsEverything();
      const tombstone = createLatch();
      const house: House = await createHouse({
        script: { gateway, host },
        wrapStore: (store) =>
          overStore(store, {
            async append(request) {
              const types = request.events.map(({ type }) => type);
              const answer = await store.append(request);
              if (types.includes('interrupt.accepted')) tombstone.open();
              if (!types.includes(reserve)) return answer;
              const [event] = request.events;
              background(house.supervisor.interrupt(String(event?.session), 'test'));
              await tombstone.opened;
              return answer;
            },
          }),
      });
      const id = await house.create();
      await house.send(id, 'hello');
      expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
      expect(gateway.requests).toEqual(requests);
      expect(host.runs).toEqual([]);
      const types = typesOf(await house.events(id));
      expect(types.indexOf(end)).toBeGreaterThan(types.indexOf(reserve));
    },
  );
});

function background(work: Promise<unknown>): void {
  work.catch(() => undefined);
}

describe('two interrupts and a close at once', () => {
  test('end the turn once', async () => {
    const house = await createHouse({ script: patient(['1.1']) });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.delta');
    await Promise.all([
      house.supervisor.interrupt(id, 'a'),
      house.supervisor.interrupt(id, 'b'),
      house.supervisor.close(id, 'c'),
    ]);
    const events = await house.events(id);
    expect(dataOf(events, 'turn.completed')).toHaveLength(1);
    expect((await house.supervisor.getSession(id)).state).toBe('stopped');
  });
});
