/** Clients that follow a session: each sees every event behind its cursor once and in order,
 *  whatever happens meanwhile; and what is told to one that asks for what cannot be had. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { openAppendLog } from '../../base/append-log.ts';
import type { SessionId } from '../../protocol/ids.ts';
import { createHouse, demolish, type House } from './house.ts';
import { overStore } from './over-store.ts';
import { answers, createLatch, say } from './script.ts';

afterEach(demolish);

/** Follows from `since`, with this many turns of the event loop between two events. Goes on behind
 *  what it has seen when the supervisor comes back. */
function createClient(id: SessionId, since: number, pauses: number) {
  const seen: number[] = [];
  let reading: Promise<void> = Promise.resolve();
  const read = async (house: House, signal: AbortSignal): Promise<void> => {
    const from = seen.at(-1) ?? since;
    for await (const { seq } of await house.supervisor.followEvents(id, { since: from, signal })) {
      seen.push(seq);
      for (let turn = 0; turn < pauses; turn += 1) await new Promise(setImmediate);
    }
  };
  return {
    seen,
    attach(house: House): () => Promise<void> {
      const end = new AbortController();
      reading = read(house, end.signal);
      return async () => {
        end.abort();
        await reading;
      };
    },
  };
}

describe('two clients with a cursor', () => {
  test('see each event behind it once, in order, under a flood and over a restart (FAULTS 63)', async () => {
    const DELTAS = 400;
    const flood = createLatch();
    const gateway = answers({
      '1.1': say('first'),
      '2.1#1': async ({ spoolPath }, { delta }) => {
        mkdirSync(dirname(spoolPath), { recursive: true });
        const log = openAppendLog(spoolPath);
        for (let at = 0; at < DELTAS; at += 1) {
          const text = `${at} `;
          delta(text, log.append({ kind: 'delta', delta: 'text', text }));
          if (at % 20 === 0) await new Promise(setImmediate);
        }
        log.close();
        flood.open();
        return new Promise<never>(() => undefined);
      },
      '2.1#2': say('second'),
    });
    const toml = '[agent]\nstream_buffer_size = 8\n[agent.worker]\nwarm_pool = 0';
    const house = await createHouse({ toml, script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    const { seq: since } = await house.turnDone(id);
    const clients = [createClient(id, since, 0), createClient(id, since, 3)];
    const leave = clients.map((client) => client.attach(house));
    await house.send(id, 'flood');
    await flood.opened;
    // One of them is cut in the middle, by the death of the supervisor, as the other is.
    await Promise.all(leave.map((end) => end()));
    const next = await house.again();
    const leaveAgain = clients.map((client) => client.attach(next));
    await next.turnDone(id, 2);
    const { last_seq: last } = await next.supervisor.getSession(id);
    while (clients.some(({ seen }) => (seen.at(-1) ?? 0) < last)) await new Promise(setImmediate);
    await Promise.all(leaveAgain.map((end) => end()));
    for (const { seen } of clients) {
      expect(seen).toEqual(seen.map((_, index) => since + 1 + index));
    }
    expect(last - since).toBeGreaterThan(DELTAS / 20);
  });
});

describe('a session that is not open for work', () => {
  test('unknown, stopped and failed are told apart, and each says what to do (FAULTS 64)', async () => {
    const onStart = (room: string): void => {
      if (room === 'worker') throw new Error('EAGAIN');
    };
    const toml = '[agent.worker]\nwarm_pool = 0\nmax_restart_attempts = 0';
    const house = await createHouse({ toml, script: { onStart } });
    const [stopped, failed] = [await house.create(), await house.create()];
    await house.supervisor.close(stopped, 'test');
    await house.send(failed, 'hello');
    await house.until(failed, ({ data }) => (data as { to?: string }).to === 'failed');
    const signal = new AbortController().signal;
    const unknown = 's_0000000000000000' as SessionId;
    await expect(
      house.supervisor.followEvents(unknown, { since: 0, signal }),
    ).rejects.toMatchObject({
      code: 'SESSION_NOT_FOUND',
      message: expect.stringContaining(unknown),
    });
    for (const [id, state] of [
      [stopped, 'stopped'],
      [failed, 'failed'],
    ] as const) {
      // What it was is there to see; only work is refused.
      expect((await house.supervisor.getSession(id)).state).toBe(state);
      expect((await house.events(id)).length).toBeGreaterThan(0);
      await expect(house.send(id, 'more')).rejects.toMatchObject({
        code: 'SESSION_NOT_OPEN',
        message: `session ${id} is ${state}; 'prx-supervisor restart ${id}' opens it again`,
        data: { state },
      });
    }
  });
});

describe('a client that comes back to an open session', () => {
  test('with its newest number asks nothing of the journal', async () => {
    let isClosed = false;
    const asked = <T>(read: () => Promise<T>): Promise<T> =>
      isClosed ? Promise.reject(new Error('the journal was asked')) : read();
    const house = await createHouse({
      wrapStore: (store) =>
        overStore(store, {
          resolveSession: (ref) => asked(() => store.resolveSession(ref)),
          readEvents: (id, options) => asked(() => store.readEvents(id, options)),
        }),
    });
    const id = await house.create();
    isClosed = true;
    const { last_seq: since } = await house.supervisor.getSession(id);
    const { signal } = new AbortController();
    const events = await house.supervisor.followEvents(id, { since, signal });
    const next = events[Symbol.asyncIterator]().next();
    await house.supervisor.renameSession(id, 'again');
    expect((await next).value).toMatchObject({ type: 'session.renamed', seq: since + 1 });
  });

  test('with its newest number of another epoch is refused', async () => {
    const house = await createHouse();
    const id = await house.create();
    const { last_seq: since, epoch } = await house.supervisor.getSession(id);
    const { signal } = new AbortController();
    const stale = { since, epoch: epoch + 1, signal };
    const refused = { code: 'CURSOR_SUPERSEDED' };
    await expect(house.supervisor.followEvents(id, stale)).rejects.toMatchObject(refused);
    const beyond = { since: since + 1, signal };
    await expect(house.supervisor.followEvents(id, beyond)).rejects.toMatchObject(refused);
  });
});
