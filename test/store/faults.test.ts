/** The n-th operation of the writer fails, for each n until none does: once, or for a while. What
 *  was acknowledged is there, nothing else of a request is, and it goes on by itself. */
import { describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { AppendRequest, Store } from '../../store/contract.ts';
import { exportOffline, verifyOffline } from '../../store/offline.ts';
import type { WriterFaults } from '../../store/thread-protocol.ts';
import { makeFolder, open, withStore } from './setup.ts';
import { created, delta, renamed, sessionId } from './setup-events.ts';

const FULL = 13;
const IO_WRITE = 10 | (3 << 8);
const CANNOT_OPEN = 14;
const READ_ONLY = 8;

const requests: readonly AppendRequest[] = [
  { events: [created(1), created(2)] },
  { events: [delta('a', 1), delta('b', 2)] },
  { events: [renamed('x', 1)], unique: { scope: 's', key: 'k', digest: 'd' } },
  { events: [delta('c', 1), renamed('y', 2), delta('d', 1)] },
];
const TRIES_MAX = 400;
const UNHEARD_MAX = 20;

/** Opens, however often that takes; each failure is named. */
async function openAtLast(path: string, faults: WriterFaults): Promise<[Store, number]> {
  let failures = 0;
  for (let left = faults; ; left = {}) {
    try {
      return [await open(path, { faults: left }), failures];
    } catch (error) {
      expect(error).toMatchObject({ code: 'STORE_DEGRADED' });
      failures += 1;
    }
  }
}

/** Each request until it is acknowledged. @returns its events, and how often it was refused. */
async function appendAtLast(
  store: Store,
  request: AppendRequest,
): Promise<[readonly EventEnvelope[], number]> {
  for (let refused = 0; refused < TRIES_MAX; refused += 1) {
    try {
      const result = await store.append(request);
      return [result.kind === 'appended' ? result.events : [], refused];
    } catch (error) {
      if (!isPrxError(error, 'STORE_DEGRADED')) throw error;
    }
  }
  throw new Error('it never went on');
}

/** One life with faults, and a look at it without. @returns whether a fault was met. */
async function liveWith(faults: WriterFaults): Promise<boolean> {
  const folder = makeFolder();
  const at = { stateDir: folder.path, clock: realClock };
  const [store, failures] = await openAtLast(folder.path, faults);
  let met = failures > 0;
  const acknowledged: EventEnvelope[] = [];
  for (const request of requests) {
    const [events, refused] = await appendAtLast(store, request);
    acknowledged.push(...events);
    met ||= refused > 0;
  }
  await store.close().catch(() => undefined); // A fault at the very end.
  const found: Place[] = [];
  exportOffline({ ...at, aside: false }, (line) => found.push(toPlace(JSON.parse(line) as Place)));
  const expected = acknowledged.map(toPlace);
  expect(found.filter(({ session }) => session !== 'system')).toEqual(expected);
  for (const n of [1, 2]) {
    const seqs = expected.flatMap(({ session, seq }) => (session === sessionId(n) ? [seq] : []));
    expect(seqs).toEqual(seqs.map((_, index) => index + 1));
  }
  expect(verifyOffline(at).problems).toEqual([]);
  folder.remove();
  return met;
}

type Place = Pick<EventEnvelope, 'session' | 'seq' | 'type' | 'data'>;

const toPlace = ({ session, seq, type, data }: Place): Place => ({ session, seq, type, data });

/** All n (each `stride`-th) until faults are met no more. One that nobody hears of (the check of
 *  the tails, which the verification repeats) is not the end. @returns the last that was met. */
async function failEach(plan: { errcode: number; count: number; stride: number }): Promise<number> {
  const { errcode, count, stride } = plan;
  let last = 0;
  for (let at = 1; at <= last + UNHEARD_MAX; at += stride) {
    if (await liveWith({ failOperation: { at, count, errcode } })) last = at;
  }
  return last;
}

describe('[promise:resource-runs-out] each operation in turn fails', () => {
  it.each([
    ['a full disk, once', { errcode: FULL, count: 1, stride: 1 }],
    ['a full disk, for 30 operations', { errcode: FULL, count: 30, stride: 7 }],
    ['a failed write, once', { errcode: IO_WRITE, count: 1, stride: 5 }],
    ['a read-only file system, for 30 operations', { errcode: READ_ONLY, count: 30, stride: 8 }],
    ['no file descriptors, once', { errcode: CANNOT_OPEN, count: 1, stride: 6 }],
  ])('%s (FAULTS 55)', async (_, plan) => expect(await failEach(plan)).toBeGreaterThan(35));
});

describe('a degraded journal', () => {
  it('tells so in its own events, once it can write again [event:store.degraded]', async () => {
    let announced = 0;
    const onAnnounced = (): void => {
      announced += 1;
    };
    await withStore(
      async (store) => {
        await store.append({ events: [created(1), created(2)] });
        const big = 'x'.repeat(200_000);
        const fill = async () => {
          for (let i = 0; i < 100; i += 1) await store.append({ events: [delta(big, 2)] });
        };
        await expect(fill()).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
        expect((await store.readEvents('system', { since: 0, limit: 9 })).events).toEqual([]);
        await store.deleteSession(sessionId(2));
        while (announced === 0) await realClock.sleep(20);
        const { events } = await store.readEvents('system', { since: 0, limit: 9 });
        expect(events.map(({ type, data }) => [type, data])).toEqual([
          ['store.degraded', { reason: expect.stringContaining('full') }],
          ['store.repaired', { reason: expect.stringContaining('can be written again') }],
        ]);
      },
      { faults: { pagesMax: 1000 }, onAnnounced },
    );
  });
});

describe('time', () => {
  it('that jumps back or far ahead changes no order (FAULTS 21)', async () => {
    const hour = 3_600_000;
    let wallMs = Date.parse('2026-01-01T12:00:00Z');
    const clock = { ...realClock, wallMs: () => wallMs };
    await withStore(
      async (store) => {
        await store.append({ events: [created(1)] });
        for (const jump of [-hour, 30 * 24 * hour, -400 * 24 * hour]) {
          wallMs += jump;
          await store.append({ events: [renamed(`after ${jump}`)] });
        }
        await store.append({ events: [created(2)] });
        const { events } = await store.readEvents(sessionId(1), { since: 0, limit: 9 });
        expect(events.map(({ seq, data }) => [seq, (data as { name?: string }).name])).toEqual([
          [1, undefined],
          [2, `after ${-hour}`],
          [3, `after ${30 * 24 * hour}`],
          [4, `after ${-400 * 24 * hour}`],
        ]);
        const all = await store.readAll(undefined, 9);
        expect(all.events.map(({ session, seq }) => [session, seq])).toEqual([
          ...[1, 2, 3, 4].map((seq) => [sessionId(1), seq]),
          [sessionId(2), 1],
        ]);
        expect((await store.listSessions()).map(({ id }) => id)).toEqual([
          sessionId(2),
          sessionId(1),
        ]);
        expect((await store.resolveSession('@last')).id).toBe(sessionId(2));
        expect((await store.verify()).problems).toEqual([]);
      },
      { clock },
    );
  });
});

describe('a slow disk', () => {
  const [WRITERS, EACH] = [8, 50];

  it('of 5 ms a sync: each serves at least two appends of eight writers (FAULTS 57)', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created(1)] });
        const write = async (): Promise<void> => {
          for (let i = 0; i < EACH; i += 1) await store.append({ events: [renamed('x')] });
        };
        await Promise.all(Array.from({ length: WRITERS }, write));
        const { last_seq: last } = await store.readEvents(sessionId(1), { since: 0, limit: 1 });
        expect(last).toBe(1 + WRITERS * EACH);
      },
      // A sync too many would fail, and its appends with it.
      { faults: { syncDelayMs: 5, failSyncAt: (WRITERS * EACH) / 2 } },
    ));

  it('of 500 ms a sync leaves our event loop free, and process events unheld (FAULTS 57)', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created(1), created(2)] });
        let [turns, isSynced] = [0, false];
        const watch = (): void => {
          turns += 1;
          if (!isSynced) setImmediate(watch);
        };
        const synced = store.append({ events: [renamed('x', 1)] }).then(() => {
          isSynced = true;
        });
        watch();
        for (let i = 0; i < 5; i += 1) {
          await store.append({ events: [delta('d', 2)] });
          expect(isSynced).toBe(false);
        }
        await synced;
        expect(turns).toBeGreaterThan(100);
      },
      { faults: { syncDelayMs: 500 } },
    ));
});
