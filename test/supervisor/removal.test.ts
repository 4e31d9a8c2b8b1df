/** A session that is removed while somebody asks for it. */
import { afterEach, expect, test } from '@jest/globals';
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
