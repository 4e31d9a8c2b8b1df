/** Suspend, resume, close, restart: in mid-turn, after a crash in mid-close, and while a command
 *  and the driver cross. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import { allowedTransitions, type SessionState } from '../../../protocol/states.ts';
import type { Store } from '../../../store/contract.ts';
import { createHouse, demolish, filled, type House } from '../house.ts';
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
import { createSteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

interface Transition {
  readonly from: SessionState;
  readonly to: SessionState;
}

/** Each transition starts where the one before it ended, and is in the table. */
function checkTransitions(events: readonly EventEnvelope[]): void {
  let state: SessionState = 'created';
  for (const { from, to } of dataOf<Transition>(events, 'session.state')) {
    expect(from).toBe(state);
    expect(allowedTransitions[from]).toContain(to);
    state = to;
  }
}

const stateOf = async (house: House, id: string): Promise<SessionState> =>
  (await house.supervisor.getSession(id)).state;

/** In mid-turn, and its close is in the journal and no further. */
async function createHalfClosed(): Promise<{ readonly first: House; readonly id: SessionId }> {
  const gateway = answers({ '1.1': () => new Promise(() => undefined) });
  const first = await createHouse({ script: { gateway } });
  const id = await first.create();
  await first.send(id, 'hello');
  await first.until(id, 'model.started');
  void first.supervisor.close(id, 'test').catch(() => undefined);
  await first.until(id, 'interrupt.accepted');
  return { first, id };
}

describe('suspend', () => {
  test('in mid-turn: what ran goes on, and resume goes on with the same turn', async () => {
    const running = createLatch();
    const gateway = answers({ '1.1': say('look', [call('a', 'ls')]), '1.2': say('the end') });
    const host = runsEverything({
      '1.1.1': async () => {
        await running.opened;
        return result('listed');
      },
    });
    const house = await createHouse({ script: { gateway, host } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'tool.started');
    await house.supervisor.suspend(id, 'test');
    await house.until(id, 'worker.exited');
    expect(await stateOf(house, id)).toBe('suspended');
    // The call runs on and its outcome is journaled; nothing new starts.
    running.open();
    const ended = await house.until(id, 'tool.completed');
    expect(ended.data).toMatchObject({ status: 'ok', output: 'listed' });
    expect(gateway.requests).toEqual(['1.1#1']);
    await house.supervisor.resume(id, 'test');
    expect((await house.turnDone(id)).data).toMatchObject({ turn: 1, outcome: 'completed' });
    const events = await house.events(id);
    expect(gateway.requests).toEqual(['1.1#1', '1.2#1']);
    expect(host.runs).toEqual(['1.1.1']);
    expect(dataOf(events, 'turn.started')).toHaveLength(1);
    checkTransitions(events);
  });

  test('a resume that comes before the death of its worker is journaled keeps the slot (regression)', async () => {
    const [dying, buried] = [createLatch(), createLatch()];
    const answered = createLatch();
    const gateway = answers({
      '1.1': async () => {
        await answered.opened;
        return say('done');
      },
    });
    const house = await createHouse({
      toml: '[agent.worker]\nwarm_pool = 0',
      script: { gateway },
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            if (request.events.some(({ type }) => type === 'worker.exited')) {
              dying.open();
              await buried.opened;
            }
            return store.append(request);
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    await house.supervisor.suspend(id, 'test');
    await dying.opened;
    await house.supervisor.resume(id, 'test');
    await house.until(id, ({ data }) => (data as { to?: string }).to === 'starting', 3);
    buried.open();
    await house.until(id, 'worker.started', 2);
    answered.open();
    await house.turnDone(id);
    expect((await house.supervisor.status(false)).capacity.resident).toBe(1);
    expect((await house.supervisor.getSession(id)).residency).toBe('resident');
    expect(house.machine.live('worker')).toHaveLength(1);
  });

  test('an input is taken and waits until resume', async () => {
    const house = await createHouse();
    const id = await house.create();
    await house.supervisor.suspend(id, 'test');
    await house.supervisor.suspend(id, 'test');
    await house.send(id, 'hello');
    expect(await house.supervisor.getSession(id)).toMatchObject({
      state: 'suspended',
      queued_inputs: 1,
      residency: 'hibernated',
    });
    await house.supervisor.resume(id, 'test');
    await house.turnDone(id);
    checkTransitions(await house.events(id));
  });

  test('of a suspended turn, interrupt ends it', async () => {
    const gateway = answers({
      '1.1': async (_, handle) => {
        await handle.cancelled;
        return cancelled();
      },
    });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    await house.supervisor.suspend(id, 'test');
    await house.supervisor.interrupt(id, 'test');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
    expect(await stateOf(house, id)).toBe('suspended');
  });

  test('of a stopped session is refused with the allowed targets', async () => {
    const house = await createHouse();
    const id = await house.create();
    await house.supervisor.close(id, 'test');
    await expect(house.supervisor.suspend(id, 'test')).rejects.toMatchObject({
      code: 'STATE_INVALID',
      data: { from: 'stopped', to: 'suspended', allowed: ['starting'] },
    });
  });
});

describe('close', () => {
  test('[event:interrupt.accepted] in mid-turn: tombstone, stopping, stopped; nothing starts behind it', async () => {
    const gateway = answers({
      '1.1': async (_, handle) => {
        handle.delta('half');
        await handle.cancelled;
        return cancelled('half');
      },
    });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.send(id, 'and this');
    await house.until(id, 'model.delta');
    await house.supervisor.close(id, 'test');
    const events = await house.events(id);
    const types = typesOf(events);
    const behind = types.slice(types.indexOf('interrupt.accepted'));
    for (const type of ['model.started', 'tool.started', 'turn.started', 'worker.started']) {
      expect(behind).not.toContain(type);
    }
    expect(dataOf(events, 'turn.completed')).toMatchObject([
      { outcome: 'interrupted', reason: 'closed' },
    ]);
    expect(dataOf<Transition>(events, 'session.state').map(({ to }) => to)).toEqual([
      'starting',
      'running',
      'stopping',
      'stopped',
    ]);
    expect(house.machine.live('sandbox')).toEqual([]);
    expect((await house.supervisor.getSession(id)).residency).toBe('hibernated');
    await house.supervisor.close(id, 'test');
    await expect(house.send(id, 'late')).rejects.toMatchObject({ code: 'SESSION_NOT_OPEN' });
  });

  test('then restart: the waiting input runs, and its turn ends as it ends', async () => {
    const house = await createHouse();
    const id = await house.create();
    await house.supervisor.suspend(id, 'test');
    await house.send(id, 'hello');
    await house.supervisor.close(id, 'test');
    expect(await stateOf(house, id)).toBe('stopped');
    await house.supervisor.restart(id, 'test');
    // A close without a turn left an ending behind for the next one.
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
    checkTransitions(await house.events(id));
  });

  test('a turn that opens while the session closes ends as well (regression)', async () => {
    const opening = createLatch();
    const closing = createLatch();
    const house: House = await createHouse({
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            const types = request.events.map(({ type }) => type);
            if (types.includes('turn.started')) {
              opening.open();
              await closing.opened;
            }
            const answer = store.append(request);
            const isStop = request.events.some(
              ({ data }) => (data as { to?: string }).to === 'stopping',
            );
            if (isStop) closing.open();
            return answer;
          },
        }),
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await opening.opened;
    await house.supervisor.close(id, 'test');
    expect(await stateOf(house, id)).toBe('stopped');
    const events = await house.events(id);
    expect(dataOf(events, 'turn.completed')).toHaveLength(dataOf(events, 'turn.started').length);
    expect(typesOf(events)).not.toContain('model.started');
  });

  test('that a crash cut short is finished by the next supervisor (regression)', async () => {
    const { first, id } = await createHalfClosed();
    const house = await first.again({ script: { gateway: answers({}) } });
    await house.until(id, ({ data }) => (data as { to?: string }).to === 'stopped');
    const events = await house.events(id);
    expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'interrupted' }]);
    checkTransitions(events);
  });

  test('does not wait for an MCP server that never answers, as the start does that it ends', async () => {
    const clock = createSteppedClock();
    const house = await createHouse({ clock, toml: '[mcp.servers.mute]\ncommand = "x"' });
    const id = await house.create();
    await house.send(id, 'hello');
    // What a start waits for servers; this clock stands still.
    await clock.armed(10_000);
    expect(await house.supervisor.close(id, 'test')).toMatchObject({ state: 'stopped' });
    expect(house.machine.live('mcp')).toHaveLength(1);
  });
});

describe('restart', () => {
  test('of a running session: a new worker, the same turn', async () => {
    const held = createLatch();
    const gateway = answers({
      '1.1': async () => {
        await held.opened;
        return say('done');
      },
    });
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    await house.supervisor.restart(id, 'test');
    await house.until(id, 'worker.started', 2);
    held.open();
    await house.turnDone(id);
    expect(gateway.requests).toEqual(['1.1#1']);
    expect((await house.supervisor.getSession(id)).restarts).toBe(0);
  });

  test('twice at once and against a natural death: one live worker (FAULTS 8)', async () => {
    const house = await createHouse();
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    house.session(id).resident.worker()?.kill('crashed');
    await Promise.all([house.supervisor.restart(id, 'a'), house.supervisor.restart(id, 'b')]);
    await house.send(id, 'next');
    await house.turnDone(id, 2);
    const events = await house.events(id);
    const started = dataOf(events, 'worker.started').length;
    expect(dataOf(events, 'worker.exited')).toHaveLength(started - 1);
    const spares = house.runtime.config().raw.agent.worker.warm_pool;
    await filled(house, spares);
    expect(house.machine.live('worker')).toHaveLength(1 + spares);
  });
});

describe('a command that comes while the driver writes the state (regression)', () => {
  /** Holds the first change to this state. */
  const holding = (to: SessionState) => {
    const [reached, released] = [createLatch(), createLatch()];
    const wrapStore = (store: Store): Store =>
      overStore(store, {
        async append(request) {
          if (request.events.some(({ data }) => (data as { to?: string }).to === to)) {
            reached.open();
            await released.opened;
          }
          return store.append(request);
        },
      });
    return { reached, released, wrapStore };
  };

  test('close: what a crash cut short is just ending', async () => {
    const { first, id } = await createHalfClosed();
    const { reached, released, wrapStore } = holding('stopped');
    const house = await first.again({ script: { gateway: answers({}) }, wrapStore });
    await reached.opened;
    const closed = house.supervisor.close(id, 'test');
    released.open();
    expect(await closed).toMatchObject({ state: 'stopped' });
    checkTransitions(await house.events(id));
  });

  test.each(['resume', 'restart', 'suspend'] as const)(
    '%s: it is just opening',
    async (command) => {
      const first = await createHouse();
      const id = await first.create();
      await first.supervisor.close(id, 'test');
      const { reached, released, wrapStore } = holding('running');
      const house = await first.again({ wrapStore });
      await house.supervisor.restart(id, 'test');
      await reached.opened;
      const done = house.supervisor[command](id, 'test');
      released.open();
      expect(await done).toMatchObject({ state: command === 'suspend' ? 'suspended' : 'running' });
      checkTransitions(await house.events(id));
    },
  );
});

test('[event:session.renamed] a name is journaled, and finds the session', async () => {
  const house = await createHouse();
  const id = await house.create();
  await house.supervisor.renameSession(id, 'other');
  expect(dataOf(await house.events(id), 'session.renamed')).toEqual([{ name: 'other' }]);
  expect((await house.supervisor.getSession('other')).id).toBe(id);
});

test('a session that is removed leaves nothing', async () => {
  const house = await createHouse();
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, 'turn.started');
  await house.supervisor.deleteSession(id, 'test');
  await expect(house.supervisor.getSession(id)).rejects.toMatchObject({
    code: 'SESSION_NOT_FOUND',
  });
  expect(house.runtime.directory.find(id)).toBeUndefined();
});
