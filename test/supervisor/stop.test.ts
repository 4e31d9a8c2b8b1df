/** The graceful stop: nothing of a running turn is written off. What runs is left to its hosts,
 *  and the next supervisor goes on with the same turn. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { openAppendLog } from '../../base/append-log.ts';
import { type Clock, realClock, sleepWith } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import { createHouse, demolish, type House } from './house.ts';
import { overStore } from './over-store.ts';
import {
  answers,
  call,
  createLatch,
  dataOf,
  result,
  runsEverything,
  say,
  typesOf,
} from './script.ts';

afterEach(demolish);

function leaveSpool(path: string, outcome: unknown): void {
  mkdirSync(dirname(path), { recursive: true });
  const log = openAppendLog(path);
  log.append({ kind: 'end', outcome });
  log.close();
}

async function stop(house: House): Promise<void> {
  await house.supervisor.requestStop(0, 'test');
  await house.stopped;
}

describe('a graceful stop', () => {
  test('under a model call: no failure is journaled, its end is adopted (regression) (FAULTS 66)', async () => {
    let spool = '';
    const gateway = answers({
      '1.1': async (request, handle) => {
        spool = request.spoolPath;
        handle.delta('half');
        await finished.opened;
        return say('whole');
      },
    });
    const finished = createLatch();
    const house = await createHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.delta');
    await stop(house);
    // The orphaned gateway finishes alone.
    leaveSpool(spool, say('whole'));
    finished.open();
    const second = answers({});
    const next = await house.again({ script: { gateway: second } });
    expect((await next.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
    expect(second.requests).toEqual([]);
    const types = typesOf(await next.events(id));
    expect(types).not.toContain('model.failed');
    expect(types.filter((type) => type === 'model.started')).toHaveLength(1);
  });

  test('under a tool call: it is not written off, nor run again (regression) (FAULTS 66)', async () => {
    let spool = '';
    const finished = createLatch();
    const gateway = answers({ '1.1': say('', [call('a', 'make')]) });
    const host = runsEverything({
      '1.1.1': async ({ spoolPath }) => {
        spool = spoolPath;
        await finished.opened;
        return result('made');
      },
    });
    const house = await createHouse({ script: { gateway, host } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'tool.started');
    while (spool === '') await house.store.getSession(id);
    await stop(house);
    leaveSpool(spool, result('made'));
    finished.open();
    const rest = runsEverything();
    const next = await house.again({ script: { gateway: answers({}), host: rest } });
    await next.turnDone(id);
    expect(rest.runs).toEqual([]);
    expect(dataOf(await next.events(id), 'tool.completed')).toMatchObject([
      { status: 'ok', output: 'made' },
    ]);
  });

  test('waits for turns as long as it may, and refuses what is new', async () => {
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
    await house.supervisor.requestStop(60_000, 'test');
    await expect(house.send(id, 'more')).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    held.open();
    await house.stopped;
    const next = await house.again();
    expect(dataOf(await next.events(id), 'turn.completed')).toMatchObject([
      { outcome: 'completed' },
    ]);
  });

  test('[event:supervisor.stopped] ends although the journal cannot be written (regression)', async () => {
    const house = await createHouse({
      wrapStore: (store) =>
        overStore(store, {
          append: (request) =>
            request.events.some(({ type }) => type === 'supervisor.stopped')
              ? Promise.reject(new Error('ENOSPC'))
              : store.append(request),
        }),
    });
    await stop(house);
  });
});

/** Retries, which come a second later, come at once. */
const hurried: Clock = {
  ...realClock,
  setTimer: (delayMs, fire) => realClock.setTimer(delayMs === 1000 ? 5 : delayMs, fire),
  sleep: (delayMs, signal) => sleepWith(hurried, delayMs, signal),
};

describe('[promise:resource-runs-out] a journal that cannot be written for a while', () => {
  /** Appends with one of these types fail while the disk is full. */
  async function fullHouse(types: readonly string[]) {
    const state = { full: false, refused: 0 };
    const gateway = answers({ '1.1': say('look', [call('a', 'ls')]) });
    const house = await createHouse({
      clock: hurried,
      script: { gateway },
      wrapStore: (store) =>
        overStore(store, {
          append(request) {
            const isHit = request.events.some(({ type }) => types.includes(type));
            if (!state.full || !isHit) return store.append(request);
            state.refused += 1;
            if (state.refused === 2) state.full = false;
            return Promise.reject(new PrxError('STORE_DEGRADED', 'the disk is full'));
          },
        }),
    });
    return { house, state, gateway };
  }

  const points = [
    'turn.started',
    'model.started',
    'model.completed',
    'tool.started',
    'tool.completed',
    'turn.completed',
    'worker.started',
    'session.residency',
  ];

  test.each(points)('at %s: the session goes on when it clears', async (type) => {
    const { house, state, gateway } = await fullHouse([type]);
    const id = await house.create();
    state.full = true;
    await house.send(id, 'hello');
    const done = await house.turnDone(id);
    expect(state.refused).toBe(2);
    expect(done.data).toMatchObject({ outcome: 'completed' });
    const events = await house.events(id);
    expect(dataOf(events, 'turn.completed')).toHaveLength(1);
    expect(dataOf(events, 'tool.completed')).toHaveLength(1);
    expect(gateway.requests.filter((each) => each.startsWith('1.2'))).not.toEqual([]);
    expect((await house.supervisor.getSession(id)).state).toBe('running');
  });
});
