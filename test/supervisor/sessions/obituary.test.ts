/** What is known of a worker's death is not lost to a full disk. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { type ErrorCode, PrxError } from '../../../base/errors.ts';
import { silentLogger } from '../../../base/logger.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';

import type { AppendRequest, Store } from '../../../store/contract.ts';
import { draft } from '../../../supervisor/sessions/journal.ts';
import { createObituary } from '../../../supervisor/sessions/obituary.ts';
import { createHouse, demolish } from '../house.ts';
import { overStore } from '../over-store.ts';
import { dataOf, typesOf } from '../script.ts';
import { createSteppedClock } from '../stepped-clock.ts';

afterEach(demolish);

const isExit = ({ events }: AppendRequest): boolean =>
  events.some(({ type }) => type === 'worker.exited');

/** A disk with no room for what a death says, until there is. */
function tightDisk() {
  const state = { isFull: false };
  let count = 0;
  let watchers: (() => void)[] = [];
  const wrapStore = (store: Store): Store =>
    overStore(store, {
      append(request) {
        if (!state.isFull || !isExit(request)) return store.append(request);
        count += 1;
        const watching = watchers;
        watchers = [];
        for (const look of watching) look();
        return Promise.reject(new PrxError('STORE_DEGRADED', 'ENOSPC'));
      },
    });
  const refused = async (times: number): Promise<void> => {
    while (count < times) {
      await new Promise<void>((resolve) => {
        watchers.push(resolve);
      });
    }
  };
  return { state, wrapStore, refused };
}

const toml = '[agent.worker]\nwarm_pool = 0';

const lives = (events: readonly EventEnvelope[]): string[] =>
  typesOf(events).filter((type) => /^worker\.(started|exited)$/.test(type));

describe('a death while the disk is full', () => {
  test('[promise:resource-runs-out] is journaled when there is room, before another worker begins', async () => {
    const { state, wrapStore, refused } = tightDisk();
    const house = await createHouse({ toml, wrapStore });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    state.isFull = true;
    house.machine.live('worker')[0]?.die({ code: 1, signal: undefined }, 'last words\n');
    // The death itself, and the worker that would take its place.
    await refused(2);
    await house.send(id, 'again');
    expect(lives(await house.events(id))).toEqual(['worker.started']);
    expect(house.machine.live('worker')).toEqual([]);
    state.isFull = false;
    await house.turnDone(id, 2);
    const events = await house.events(id);
    expect(lives(events)).toEqual(['worker.started', 'worker.exited', 'worker.started']);
    expect(dataOf(events, 'worker.exited')).toMatchObject([
      { generation: 1, code: 1, stderr_tail: 'last words\n' },
    ]);
  });

  test('is journaled as well where no worker is wanted, and its session is kept until then', async () => {
    const { state, wrapStore, refused } = tightDisk();
    const house = await createHouse({ toml, wrapStore });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    state.isFull = true;
    await house.supervisor.close(id, 'test');
    const session = house.session(id);
    expect(session.isQuiet()).toBe(false);
    await refused(2);
    state.isFull = false;
    await house.until(id, 'worker.exited');
    expect(session.resident.owesJournal()).toBe(false);
    expect(dataOf(await house.events(id), 'worker.exited')).toMatchObject([{ cause: 'stopped' }]);
  });
});

describe('what is known of a death', () => {
  const data = {
    ...{ generation: 1, pid: 2, cause: 'crashed' as const, code: 1, signal: null },
    ...{ stderr_tail: '', peak_rss_bytes: null },
  };
  const exited = draft('worker.exited', data);

  /** A journal that refuses so often, with this code. */
  function create(refusals: number, code: ErrorCode) {
    const clock = createSteppedClock();
    let tries = 0;
    const written: unknown[] = [];
    const journal = {
      async append(...drafts: readonly unknown[]) {
        tries += 1;
        if (tries <= refusals) throw new PrxError(code, 'refused');
        written.push(...drafts);
        return [];
      },
    };
    const obituary = createObituary({ clock, logger: silentLogger, journal });
    return { clock, obituary, written, tries: () => tries };
  }

  test('is tried again each second until it is written, and once', async () => {
    const { clock, obituary, written } = create(3, 'STORE_DEGRADED');
    await obituary.write(exited);
    for (let round = 1; round <= 2; round += 1) {
      expect(obituary.isOwed()).toBe(true);
      clock.advance(1000);
      await expect(obituary.flush()).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
    }
    expect(written).toEqual([]);
    await obituary.flush();
    expect(obituary.isOwed()).toBe(false);
    expect(written).toEqual([exited]);
    expect(clock.waiting()).toBe(0);
    await obituary.flush();
    expect(written).toEqual([exited]);
  });

  test('is not tried again where it can never be written, nor behind the end of the session', async () => {
    const corrupt = create(1, 'STORE_CORRUPT');
    await corrupt.obituary.write(exited);
    expect(corrupt.obituary.isOwed()).toBe(false);
    expect(corrupt.clock.waiting()).toBe(0);
    const full = create(9, 'STORE_DEGRADED');
    await full.obituary.write(exited);
    expect(full.clock.waiting()).toBe(1);
    full.obituary.close();
    expect(full.clock.waiting()).toBe(0);
    await expect(full.obituary.flush()).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
    expect(full.clock.waiting()).toBe(0);
  });
});
