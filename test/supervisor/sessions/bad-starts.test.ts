/** Workers that never get ready, or die each time: how often they are tried, what is seen of it,
 *  and that nobody else hears of it. Time is the test's. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import type { FakeProcess } from '../fake-process.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { answers, createLatch, dataOf, say, typesOf } from '../script.ts';
import { createSteppedClock, type SteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

const settings = (more = ''): string => `[agent.worker]\nwarm_pool = 0\n${more}`;

const isTo = (to: string) => (event: EventEnvelope) => (event.data as { to?: string }).to === to;

interface Clocked {
  readonly house: House;
  readonly id: SessionId;
  readonly clock: SteppedClock;
}

/** From `since` on, moves to the end of each back-off, until the session is failed.
 *  @returns the delays, and the event that ended it. */
async function passBackoffs(
  { house, id, clock }: Clocked,
  since = 0,
): Promise<{ readonly delays: readonly number[]; readonly failed: EventEnvelope }> {
  const delays: number[] = [];
  const signal = new AbortController().signal;
  for await (const event of await house.supervisor.followEvents(id, { since, signal })) {
    if (isTo('failed')(event)) return { delays, failed: event };
    if (event.type === 'worker.restarting') {
      delays.push((event.data as { delay_ms: number }).delay_ms);
    }
    if (!isTo('backoff')(event)) continue;
    // What a client is told meanwhile: the supervisor answers.
    expect(await house.supervisor.getSession(id)).toMatchObject({
      state: 'running',
      residency: 'backoff',
      backoff: { attempt: delays.length, next_at: expect.any(String) },
    });
    const delayMs = delays.at(-1) ?? 0;
    await clock.armed(delayMs);
    clock.advance(delayMs);
  }
  throw new Error('the stream ended before the session failed');
}

describe('a worker that dies before it is ready, each time', () => {
  const dead = { runWorker: (own: FakeProcess) => own.die({ code: 1, signal: undefined }, 'no\n') };

  test('is tried at once, then with back-off, and given up on; the supervisor answers (FAULTS 3)', async () => {
    const clock = createSteppedClock();
    const house = await createHouse({ clock, toml: settings(), script: dead });
    const id = await house.create();
    await house.send(id, 'hello');
    const { delays } = await passBackoffs({ house, id, clock });
    expect(delays).toHaveLength(3);
    for (const [at, plainMs] of [0, 250, 500].entries()) {
      expect(Math.abs((delays[at] ?? 0) - plainMs)).toBeLessThanOrEqual(plainMs * 0.2);
    }
    expect(house.machine.of('worker')).toHaveLength(4);
    clock.advance(60_000);
    expect(house.machine.of('worker')).toHaveLength(4);
  });

  test('is seen by a client that follows; restart gives it a whole budget again (FAULTS 5)', async () => {
    const clock = createSteppedClock();
    const house = await createHouse({ clock, toml: settings(), script: dead });
    const id = await house.create();
    await house.send(id, 'hello');
    const first = await passBackoffs({ house, id, clock });
    expect((first.failed.data as { reason: string }).reason).toMatch(
      /no worker could be started.*prx-supervisor restart/,
    );
    await house.supervisor.restart(id, 'test');
    const second = await passBackoffs({ house, id, clock }, first.failed.seq);
    expect([first.delays, second.delays].map(({ length }) => length)).toEqual([3, 3]);
    house.machine.script = { gateway: answers({}), host: house.machine.script.host };
    await house.supervisor.restart(id, 'test');
    expect((await house.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
  });
});

describe('a worker that never says that it is ready', () => {
  const silent = { runWorker: () => undefined };

  test('holds up neither the end of its session nor that of the supervisor (FAULTS 4)', async () => {
    const clock = createSteppedClock();
    const house = await createHouse({ clock, toml: settings(), script: silent });
    const [a, b] = [await house.create(), await house.create()];
    for (const id of [a, b]) {
      await house.send(id, 'hello');
      await house.until(id, isTo('starting'), 2);
    }
    while (house.machine.live('worker').length < 2) await clock.armed(10_000);
    // No time passes from here on.
    await house.supervisor.close(a, 'test');
    expect((await house.supervisor.getSession(a)).state).toBe('stopped');
    expect(house.machine.live('worker')).toHaveLength(1);
    await house.supervisor.requestStop(0, 'test');
    await house.stopped;
    expect(house.machine.live('worker')).toEqual([]);
  });
});

test('the back-off is kept whatever the wall clock does meanwhile (FAULTS 21)', async () => {
  const stepped = createSteppedClock();
  const hourMs = 3_600_000;
  let jumpMs = 0;
  const clock = { ...stepped, wallMs: () => stepped.wallMs() + jumpMs };
  let deaths = 0;
  const runWorker = (own: FakeProcess): void => own.die({ code: 1, signal: undefined });
  const onStart = (room: string): void => {
    deaths += room === 'worker' ? 1 : 0;
  };
  const house = await createHouse({ clock, toml: settings(), script: { runWorker, onStart } });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, isTo('backoff'));
  const [, second] = dataOf<{ delay_ms: number }>(await house.events(id), 'worker.restarting');
  const delayMs = second?.delay_ms ?? 0;
  await stepped.armed(delayMs);
  for (const jump of [hourMs, -hourMs, -24 * hourMs]) {
    jumpMs = jump;
    stepped.advance(0);
    expect([jump, deaths]).toEqual([jump, 2]);
  }
  stepped.advance(delayMs - 1);
  expect(deaths).toBe(2);
  stepped.advance(1);
  await house.until(id, 'worker.restarting', 3);
  expect(deaths).toBe(3);
});

test('a session whose workers die takes nothing from its neighbour (FAULTS 12)', async () => {
  const TURNS = 20;
  const clock = createSteppedClock();
  // The bad one dies at each of its asks; it is known by its text.
  const bad = new Set<FakeProcess>();
  const gateway = answers(
    Object.fromEntries(Array.from({ length: TURNS }, (_, at) => [`${at + 1}.1`, say('good')])),
  );
  const onWorkerWrite = (_: unknown, worker: FakeProcess): undefined => {
    if (bad.has(worker)) worker.die();
  };
  const house = await createHouse({
    clock,
    toml: `${settings()}max_restart_attempts = 1000`,
    script: { gateway, onWorkerWrite },
  });
  const [good, crashing] = [await house.create(), await house.create()];
  await house.send(good, 'turn 1');
  await house.turnDone(good);
  const [own] = house.machine.live('worker');
  house.machine.script = {
    ...house.machine.script,
    onWorkerWrite(message, worker) {
      if (worker !== own) bad.add(worker);
      return onWorkerWrite(message, worker);
    },
  };
  await house.send(crashing, 'die');
  await house.until(crashing, isTo('backoff'));
  // No time passes, so the other one stays where it is: nothing of these turns waits for it.
  for (let turn = 2; turn <= TURNS; turn += 1) {
    await house.send(good, `turn ${turn}`);
    await house.turnDone(good, turn);
  }
  expect(dataOf(await house.events(good), 'worker.exited')).toEqual([]);
  expect(dataOf(await house.events(good), 'turn.completed')).toMatchObject(
    Array.from({ length: TURNS }, () => ({ outcome: 'completed' })),
  );
  expect(house.session(crashing).resident.residency()).toBe('backoff');
});

test('a worker that dies while its session stops is not followed by another (FAULTS 7)', async () => {
  const held = createLatch();
  const gateway = answers({
    '1.1': async (_, handle) => {
      await handle.cancelled;
      await held.opened;
      return say('late');
    },
  });
  const house = await createHouse({ toml: settings(), script: { gateway } });
  const id = await house.create();
  await house.send(id, 'hello');
  await house.until(id, 'model.started');
  const closed = house.supervisor.close(id, 'test');
  await house.until(id, isTo('stopping'));
  house.machine.live('worker')[0]?.die();
  await house.until(id, 'worker.exited');
  held.open();
  await closed;
  const events = await house.events(id);
  expect(dataOf(events, 'worker.exited')).toHaveLength(1);
  expect(dataOf(events, 'worker.started')).toHaveLength(1);
  expect(typesOf(events)).not.toContain('worker.restarting');
  expect(dataOf(events, 'turn.completed')).toMatchObject([{ outcome: 'interrupted' }]);
  expect((await house.supervisor.getSession(id)).state).toBe('stopped');
  expect(house.machine.live('worker')).toEqual([]);
});
