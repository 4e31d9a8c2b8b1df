/** A session that is removed while somebody asks for it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import type { SessionId } from '../../protocol/ids.ts';
import { createHouse, demolish, type House } from './house.ts';
import { overStore } from './over-store.ts';

afterEach(demolish);

test.each(['before', 'while', 'read before, opened after'])(
  'a session that is asked for as it is removed is not open behind that: %s (regression)',
  async (when) => {
    let ask: () => Promise<unknown> = async () => undefined;
    let reading = Promise.withResolvers<void>();
    const house: House = await createHouse({
      wrapStore: (store) =>
        overStore(store, {
          async deleteSession(id) {
            if (when === 'before') await ask();
            const deleting = store.deleteSession(id);
            if (when === 'while') void ask();
            await deleting;
          },
          async resolveSession(ref) {
            const record = await store.resolveSession(ref);
            await reading.promise;
            return record;
          },
        }),
    });
    reading.resolve();
    const id = await house.create({ name: 'walrus' });
    await house.supervisor.close(id, 'test');
    const asked: Promise<unknown>[] = [];
    ask = async () => {
      asked.push(house.supervisor.restart('walrus', 'test').catch((error: unknown) => error));
      await new Promise(setImmediate);
    };
    if (when.startsWith('read')) {
      reading = Promise.withResolvers<void>();
      await ask();
    }
    await house.supervisor.deleteSession(id, 'test');
    reading.resolve();
    await Promise.all(asked);
    expect(house.runtime.directory.all()).toEqual([]);
    await expect(house.supervisor.getSession(id)).rejects.toMatchObject({
      code: 'SESSION_NOT_FOUND',
    });
  },
);

type Act = (house: House, id: SessionId) => Promise<unknown>;

const asks: readonly (readonly [string, Act])[] = [
  ['rename', ({ supervisor }, id) => supervisor.renameSession(id, 'late')],
  ['restart', ({ supervisor }, id) => supervisor.restart(id, 'test')],
];

test.each(asks)(
  'who asks just before a removal and is answered behind it hears that it is gone: %s (regression)',
  async (_, act) => {
    const answer = Promise.withResolvers<void>();
    const written = Promise.withResolvers<void>();
    let isSlow = false;
    const house = await createHouse({
      wrapStore: (store) =>
        overStore(store, {
          async append(request) {
            const result = await store.append(request);
            if (!isSlow) return result;
            written.resolve();
            await answer.promise;
            return result;
          },
        }),
    });
    const id = await house.create();
    await house.supervisor.close(id, 'test');
    isSlow = true;
    const asked = act(house, id);
    await written.promise;
    const removed = house.supervisor.deleteSession(id, 'test');
    await Promise.all([removed, removed.then(() => answer.resolve())]);
    await expect(asked).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
  },
);

test('a close that waits as its session is removed hears that it is gone (regression)', async () => {
  const house = await createHouse();
  const id = await house.create();
  const session = house.session(id);
  const stopping = house.until(id, ({ data }) => JSON.stringify(data).includes('"to":"stopping"'));
  // Its loop stands still: nobody brings the session from stopping to stopped.
  session.driver.halt();
  const closed = session.close('test');
  await stopping;
  house.runtime.directory.drop(id);
  await expect(closed).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
});

test('a fork whose original is removed as it is copied says so (regression)', async () => {
  let remove: () => Promise<void> = async () => undefined;
  const house = await createHouse({
    wrapStore: (store) =>
      overStore(store, {
        async resolveSession(ref) {
          const record = await store.resolveSession(ref);
          await remove();
          return record;
        },
      }),
  });
  const id = await house.create();
  await house.supervisor.close(id, 'test');
  const folder = join(house.stateDir, 'workspaces', id);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'file'), 'kept');
  remove = async () => {
    remove = async () => undefined;
    await house.supervisor.deleteSession(id, 'test');
  };
  // By a part of its id: by a whole one, the journal is not asked for a session that is open.
  const forked = house.supervisor.fork(id.slice(2), undefined, undefined);
  await expect(forked).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
});
