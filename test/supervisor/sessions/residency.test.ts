/** What a session says of its worker is true again when a full disk has room. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { PrxError } from '../../../base/errors.ts';
import type { SessionId } from '../../../protocol/ids.ts';
import type { AppendRequest, Store } from '../../../store/contract.ts';
import { createHouse, demolish, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, createLatch, say } from '../script.ts';

afterEach(demolish);

const toml = `
[agent.limits]
max_concurrent_sessions = 1
[agent.worker]
warm_pool = 0
`;

/** Two sessions and one slot, which the first one keeps; and a disk that can be without room for
 *  what is said of workers. */
async function crowded() {
  const [held, refused] = [createLatch(), createLatch()];
  const disk = { isFull: false };
  const isAbout = ({ events }: AppendRequest): boolean =>
    events.some(({ type }) => type === 'session.residency');
  const wrapStore = (store: Store): Store =>
    overStore(store, {
      append(request) {
        if (!disk.isFull || !isAbout(request)) return store.append(request);
        refused.open();
        return Promise.reject(new PrxError('STORE_DEGRADED', 'ENOSPC'));
      },
    });
  const gateway = answers({
    '1.1': async () => {
      await held.opened;
      return say('done');
    },
  });
  const house = await createHouse({ toml, wrapStore, script: { gateway } });
  const [first, second] = [await house.create(), await house.create()];
  await house.send(first, 'hello');
  await house.until(first, 'model.started');
  return { house, second, disk, refused: refused.opened };
}

const isTo = (to: string) => (event: { type: string; data: unknown }) =>
  event.type === 'session.residency' && (event.data as { to: string }).to === to;

const shown = async (house: House, id: SessionId) =>
  (await house.supervisor.getSession(id)).residency;

describe('a session whose slot never came, on a full disk', () => {
  test('is not queued when its turn was stopped (regression)', async () => {
    const { house, second, disk, refused } = await crowded();
    disk.isFull = true;
    await house.send(second, 'hello');
    await refused;
    await house.supervisor.interrupt(second, 'test');
    await house.turnDone(second);
    expect(await shown(house, second)).toBe('hibernated');
    expect((await house.events(second)).filter(isTo('queued'))).toEqual([]);
  });

  test('says that it waits no longer when there is room (regression)', async () => {
    const { house, second, disk, refused } = await crowded();
    await house.send(second, 'hello');
    await house.until(second, isTo('queued'));
    disk.isFull = true;
    await house.supervisor.close(second, 'test');
    await refused;
    expect([await shown(house, second), house.session(second).isQuiet()]).toEqual([
      'hibernated',
      false,
    ]);
    disk.isFull = false;
    await house.until(second, isTo('hibernated'));
    expect(house.session(second).resident.owesJournal()).toBe(false);
  });
});
