/** A supervisor that dies while a session is made, forked or removed leaves its folders without a
 *  session: the next one sweeps them, and nothing else. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { SessionId } from '../../../protocol/ids.ts';
import type { Store } from '../../../store/contract.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import { createLatch } from '../script.ts';

afterEach(demolish);

const never = new Promise<never>(() => undefined);

/** A house whose store gets so far and no further, once told to. */
async function stoppable(toOwn: (store: Store, stop: () => boolean) => Partial<Store>) {
  const reached = createLatch();
  let isArmed = false;
  const stop = (): boolean => {
    if (isArmed) reached.open();
    return isArmed;
  };
  const house = await createHouse({ wrapStore: (store) => overStore(store, toOwn(store, stop)) });
  const id = await house.create();
  const { workspace } = await house.supervisor.getSession(id);
  writeFileSync(join(workspace, 'work'), 'done');
  isArmed = true;
  return { house, id, reached: reached.opened };
}

const list = ({ stateDir }: House, folder: string): string[] =>
  existsSync(join(stateDir, folder)) ? readdirSync(join(stateDir, folder)) : [];

const isLive = (house: House, id: SessionId) =>
  house.supervisor.getSession(id).then(
    () => true,
    () => false,
  );

/** What is left by a death, swept by the next supervisor. */
async function sweepAgain(house: House): Promise<House> {
  const next = await house.again({ wrapStore: (store) => store });
  await next.supervisor.sweep();
  expect(list(next, 'unsettled')).toEqual([]);
  return next;
}

describe('a death while a session is', () => {
  test('made leaves nothing behind the next sweep; that of the living keeps it', async () => {
    const { house, id, reached } = await stoppable((store, stop) => ({
      append: (request) =>
        request.events[0]?.type === 'session.created' && stop() ? never : store.append(request),
    }));
    void house.create();
    await reached;
    await house.supervisor.sweep();
    expect(list(house, 'workspaces')).toHaveLength(2);
    const next = await sweepAgain(house);
    expect(list(next, 'workspaces')).toEqual([id]);
    expect(list(next, join('workspaces', id))).toEqual(['work']);
  });

  test('made, behind its journal, keeps it', async () => {
    const { house, reached } = await stoppable((store, stop) => ({
      async append(request) {
        const result = await store.append(request);
        return request.events[0]?.type === 'session.created' && stop() ? never : result;
      },
    }));
    void house.create();
    await reached;
    const next = await sweepAgain(house);
    const sessions = await next.supervisor.listSessions({});
    expect(list(next, 'workspaces').sort()).toEqual(sessions.map((each) => each.id).sort());
    expect(sessions).toHaveLength(2);
  });

  test('forked leaves no copy behind the next sweep', async () => {
    const { house, id, reached } = await stoppable((store, stop) => ({
      forkSession: (...args) => (stop() ? never : store.forkSession(...args)),
    }));
    void house.supervisor.fork(id, undefined, undefined);
    await reached;
    expect(list(house, 'workspaces')).toHaveLength(2);
    const next = await sweepAgain(house);
    expect(list(next, 'workspaces')).toEqual([id]);
  });

  test('removed leaves none of its folders behind the next sweep', async () => {
    const { house, id, reached } = await stoppable((store, stop) => ({
      async deleteSession(session) {
        await store.deleteSession(session);
        if (stop()) await never;
      },
    }));
    mkdirSync(join(house.stateDir, 'artifacts', id), { recursive: true });
    await house.supervisor.close(id, 'test');
    void house.supervisor.deleteSession(id, 'test');
    await reached;
    const next = await sweepAgain(house);
    expect([list(next, 'workspaces'), list(next, 'artifacts')]).toEqual([[], []]);
  });

  test('removed, before its journal, keeps all', async () => {
    const { house, id, reached } = await stoppable((store, stop) => ({
      deleteSession: (session) => (stop() ? never : store.deleteSession(session)),
    }));
    await house.supervisor.close(id, 'test');
    void house.supervisor.deleteSession(id, 'test');
    await reached;
    const next = await sweepAgain(house);
    expect([list(next, 'workspaces'), await isLive(next, id)]).toEqual([[id], true]);
  });
});

test('a folder of a session that the journal does not know is kept: it may be brought back', async () => {
  const house = await createHouse();
  const id = await house.create();
  await house.store.deleteSession(id);
  await house.supervisor.sweep();
  expect(list(house, 'workspaces')).toEqual([id]);
});
