/** A session that waits for a person holds no process: what takes its worker, and what brings the
 *  turn on again. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import { createParking } from '../../../supervisor/sessions/parking.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { answers, call, createLatch, dataOf, result, runsEverything, say } from '../script.ts';
import { createSteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

const toml = (slots: number, more = ''): string => `
[agent.limits]
max_concurrent_sessions = ${slots}
[security.tool_policy]
default = "supervised"
tools.list_files = "allow"
[agent.worker]
warm_pool = 0
max_restart_attempts = 0
${more}`;

const first = '1.1.1' as EffectId;
const second = '1.1.2' as EffectId;

const isTo = (to: string) => (event: { type: string; data: unknown }) =>
  event.type === 'session.residency' && (event.data as { to: string }).to === to;

const approve = (house: House, id: SessionId, effect = first) =>
  house.supervisor.resolveApproval(id, effect, { decision: 'approve' }, 'someone');

async function asking(house: House, count = 1): Promise<SessionId> {
  const id = await house.create();
  await house.send(id, 'ask');
  await house.until(id, 'approval.requested', count);
  return id;
}

/** Of a session that says `ask` first: it wants a call; any other says that it is done. */
function asks(calls = [call('a', 'rm x')]) {
  return answers({
    '1.1': ({ messages }) =>
      JSON.stringify(messages).includes('"ask"') ? say('', calls) : say('done'),
    '1.2': say('so be it'),
  });
}

describe('a session that waits for an approval', () => {
  test('gives its only slot at once to one that queues, and goes on when it is answered', async () => {
    const host = runsEverything();
    const house = await createHouse({ toml: toml(1), script: { gateway: asks(), host } });
    const a = await asking(house);
    const b = await house.create();
    await house.send(b, 'hello');
    await house.turnDone(b);
    expect(await house.supervisor.getSession(a)).toMatchObject({
      state: 'awaiting',
      activity: 'waiting',
      residency: 'hibernated',
      pending_approvals: 1,
    });
    await approve(house, a);
    await house.turnDone(a);
    expect(host.runs).toEqual([first]);
    const events = await house.events(a);
    expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'completed', steps: 2 }]);
    // max_restart_attempts is 0: a death that counted would have cost the session.
    expect(dataOf(events, 'worker.exited')[0]).toMatchObject({ cause: 'stopped' });
    expect(house.session(a).record().restarts).toBe(0);
  });

  test('gives it also when the other one queued before it began to wait', async () => {
    const held = createLatch();
    const gateway = asks();
    const slow = {
      ...gateway,
      generate: async (...given: Parameters<typeof gateway.generate>) => {
        if (given[0].effect === '1.1') await held.opened;
        return gateway.generate(...given);
      },
    };
    const house = await createHouse({ toml: toml(1), script: { gateway: slow } });
    const a = await house.create();
    await house.send(a, 'ask');
    await house.until(a, 'model.started');
    const b = await house.create();
    await house.send(b, 'hello');
    await house.until(b, isTo('queued'));
    held.open();
    await house.turnDone(b);
    expect((await house.supervisor.getSession(a)).residency).toBe('hibernated');
    await approve(house, a);
    await house.turnDone(a);
  });

  test('keeps it while another call of the step runs, and gives it when that has ended', async () => {
    const held = createLatch();
    const gateway = asks([{ id: 'b', name: 'list_files', arguments: '{}' }, call('a', 'rm x')]);
    const host = runsEverything({
      [first]: async () => {
        await held.opened;
        return result('listed');
      },
    });
    const house = await createHouse({ toml: toml(1), script: { gateway, host } });
    const a = await asking(house);
    await house.until(a, 'tool.started');
    const b = await house.create();
    await house.send(b, 'hello');
    await house.until(b, isTo('queued'));
    expect((await house.supervisor.getSession(a)).residency).toBe('resident');
    held.open();
    await house.turnDone(b);
    await approve(house, a, second);
    await house.turnDone(a);
    expect(host.runs.sort()).toEqual([first, second]);
  });

  test('[config:agent.worker.idle_hibernate_secs] twenty of them, and the next supervisor, have no process', async () => {
    const host = runsEverything();
    const script = { gateway: asks(), host };
    const spec = { toml: toml(20, 'idle_hibernate_secs = 0.05'), script };
    let house = await createHouse(spec);
    const ids: SessionId[] = [];
    while (ids.length < 20) ids.push(await asking(house));
    for (const id of ids) await house.until(id, isTo('hibernated'));
    const expectNothing = () => {
      expect(house.machine.live('worker')).toEqual([]);
      expect(house.machine.live('sandbox')).toEqual([]);
    };
    expectNothing();
    house = await house.again();
    expect(await house.supervisor.listApprovals()).toHaveLength(20);
    await house.turnDone(await quick(house));
    expect(house.machine.of('worker')).toHaveLength(1);
    for (const id of ids) await approve(house, id);
    await Promise.all(ids.map((id) => house.turnDone(id)));
    expect(host.runs).toHaveLength(20);
    for (const id of ids) {
      const events = await house.events(id);
      expect(dataOf(events, 'approval.requested')).toHaveLength(1);
      expect(dataOf(events, 'worker.exited').filter(({ cause }) => cause !== 'stopped')).toEqual(
        [],
      );
      expect((await house.supervisor.getSession(id)).restarts).toBe(0);
    }
  });

  test('without a worker: nobody answers, and it is denied in time, also by the next supervisor', async () => {
    const clock = createSteppedClock();
    let house = await createHouse({ clock, toml: toml(8), script: { gateway: asks() } });
    const id = await asking(house);
    house = await house.again();
    await clock.armed(300_000);
    // Longer than a session in which nothing goes on is kept open.
    clock.advance(10_000);
    expect(house.runtime.directory.find(id)).toBeDefined();
    clock.advance(290_000);
    await house.turnDone(id);
    expect(house.machine.of('worker')).toHaveLength(1);
    const events = await house.events(id);
    expect(dataOf(events, 'approval.resolved')).toMatchObject([{ decision: 'timeout' }]);
    expect(dataOf(events, 'tool.completed')).toMatchObject([{ status: 'denied' }]);
  });

  test('of two calls: whichever is answered first, they run in the order of the model', async () => {
    const host = runsEverything();
    const script = { gateway: asks([call('a', 'rm x'), call('b', 'rm y')]), host };
    let house = await createHouse({ toml: toml(1), script });
    const id = await asking(house, 2);
    house = await house.again();
    await approve(house, id, second);
    expect((await house.supervisor.getSession(id)).state).toBe('awaiting');
    expect(host.runs).toEqual([]);
    await approve(house, id);
    await house.turnDone(id);
    expect(host.runs).toEqual([first, second]);
  });

  test('without a worker: an interrupt ends its turn, a close the session', async () => {
    let house = await createHouse({ toml: toml(8), script: { gateway: asks() } });
    const [a, b] = [await asking(house), await asking(house)];
    house = await house.again();
    await house.supervisor.interrupt(a, 'test');
    await house.supervisor.close(b, 'test');
    for (const id of [a, b]) {
      expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
      const events = await house.events(id);
      expect(dataOf(events, 'approval.resolved')).toMatchObject([{ decision: 'cancelled' }]);
    }
    expect((await house.supervisor.getSession(b)).state).toBe('stopped');
    expect(house.machine.of('worker')).toEqual([]);
  });
});

/** A turn of a session of its own. */
async function quick(house: House): Promise<SessionId> {
  const id = await house.create();
  await house.send(id, 'hello');
  return id;
}

describe('parking', () => {
  function create(state = { waiting: true, contended: false }) {
    const clock = createSteppedClock();
    const parked: string[] = [];
    const parking = createParking({
      clock,
      isWaiting: () => state.waiting,
      isContended: () => state.contended,
      idleHibernateMs: () => 1000,
      park: (reason) => parked.push(reason),
    });
    return { state, clock, parked, parking };
  }

  test('comes when it has waited for the whole time, not before, and once', () => {
    const { clock, parked, parking } = create();
    parking.look();
    expect(parking.sinceMs()).toBe(0);
    clock.advance(999);
    parking.look();
    expect(parked).toEqual([]);
    clock.advance(1);
    parking.look();
    expect(parked).toEqual(['an approval was pending for idle_hibernate_secs']);
    expect(parking.park('again')).toBe(false);
    expect(clock.waiting()).toBe(0);
  });

  test('begins anew when something went on meanwhile', () => {
    const { state, clock, parked, parking } = create();
    parking.look();
    clock.advance(999);
    state.waiting = false;
    parking.look();
    expect(parking.sinceMs()).toBeUndefined();
    state.waiting = true;
    parking.look();
    clock.advance(999);
    expect(parked).toEqual([]);
    clock.advance(1);
    expect(parked).toHaveLength(1);
  });

  test('comes at once where somebody waits for the slot', () => {
    const { parked, parking } = create({ waiting: true, contended: true });
    parking.look();
    expect(parked).toEqual(['its slot is needed']);
  });

  test('never comes to one that works, nor to one whose worker ended', () => {
    const { state, clock, parked, parking } = create({ waiting: false, contended: true });
    parking.look();
    expect(parking.park('another')).toBe(false);
    state.waiting = true;
    state.contended = false;
    parking.look();
    parking.stop();
    clock.advance(5000);
    expect(parked).toEqual([]);
  });
});
