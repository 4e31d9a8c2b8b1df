/** A start on a journal with much in it: what rests stays where it is until somebody asks for it;
 *  what was under way comes back through the gate, and the supervisor answers meanwhile. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { SessionId } from '../../protocol/ids.ts';
import type { Store } from '../../store/contract.ts';
import type { FakeProcess } from './fake-process.ts';
import { createHouse, demolish } from './house.ts';
import { overStore } from './over-store.ts';
import { answers, createLatch, dataOf, say } from './script.ts';

afterEach(demolish);

describe('a start', () => {
  test('reads nothing of sessions that rest; each is read when it is wanted (FAULTS 62)', async () => {
    const COUNT = 12;
    const house = await createHouse();
    const ids: SessionId[] = [];
    while (ids.length < COUNT) ids.push(await house.create());
    for (const id of ids) {
      await house.send(id, 'hello');
      await house.turnDone(id);
    }
    const reads: string[] = [];
    const counted = <K extends 'readHistory' | 'readEvents' | 'getSession'>(
      store: Store,
      name: K,
    ) =>
      ((session: SessionId, ...rest: never[]) => {
        if (session.startsWith('s_')) reads.push(`${name} ${session}`);
        return (store[name] as (...all: unknown[]) => unknown)(session, ...rest);
      }) as Store[K];
    const next = await house.again({
      wrapStore: (store) =>
        overStore(store, {
          readHistory: counted(store, 'readHistory'),
          readEvents: counted(store, 'readEvents'),
          getSession: counted(store, 'getSession'),
        }),
    });
    expect(await next.supervisor.listSessions({})).toHaveLength(COUNT);
    expect(reads).toEqual([]);
    expect(next.runtime.directory.all()).toEqual([]);

    const [wanted = '' as SessionId] = ids;
    const before = await next.events(wanted);
    expect(before.map(({ seq }) => seq)).toEqual(before.map((_, index) => index + 1));
    await next.send(wanted, 'again');
    await next.turnDone(wanted, 2);
    expect(new Set(reads.map((read) => read.split(' ')[1]))).toEqual(new Set([wanted]));
    expect(reads.filter((read) => read.startsWith('readHistory'))).toHaveLength(1);
  });

  test('with many open turns lets as many in as there are slots, and answers (FAULTS 68)', async () => {
    const [COUNT, SLOTS] = [20, 8];
    const never = (): Promise<never> => new Promise(() => undefined);
    const first = Object.fromEntries([['1.1', never]]);
    const toml = '[agent.worker]\nwarm_pool = 0';
    const house = await createHouse({ toml, script: { gateway: answers(first) } });
    const ids: SessionId[] = [];
    while (ids.length < COUNT) ids.push(await house.create());
    // Accepted, and not begun for most: all of them are to go on.
    for (const id of ids) await house.send(id, 'hello');
    const held = createLatch();
    const gateway = answers({
      '1.1': async () => {
        await held.opened;
        return say('done');
      },
    });
    const seen = new Set<FakeProcess>();
    let most = 0;
    const onWorkerWrite = (_: unknown, worker: FakeProcess): undefined => {
      seen.add(worker);
      most = Math.max(most, [...seen].filter((each) => each.isAlive()).length);
    };
    const next = await house.again({ script: { gateway, onWorkerWrite } });
    for (const id of ids.slice(0, SLOTS)) await next.until(id, 'model.started');
    const { capacity } = await next.supervisor.status(false);
    expect(capacity).toMatchObject({ resident: SLOTS, queued: COUNT - SLOTS });
    expect(await next.supervisor.listSessions({})).toHaveLength(COUNT);
    held.open();
    for (const id of ids) {
      expect((await next.turnDone(id)).data).toMatchObject({ outcome: 'completed' });
      expect(dataOf(await next.events(id), 'turn.completed')).toHaveLength(1);
    }
    expect(most).toBe(SLOTS);
  });
});
