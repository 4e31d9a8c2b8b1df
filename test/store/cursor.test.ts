import { copyFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import type { Store } from '../../store/contract.ts';
import { makeFolder, open, withStore } from './setup.ts';
import { accepted, created, delta, sessionId } from './setup-events.ts';

const one = sessionId(1);

describe('a page', () => {
  it('is empty at the newest event and refused beyond it', () =>
    withStore(async (store) => {
      await store.append({ events: [created(), delta('a')] });
      const page = await store.readEvents(one, { since: 2, limit: 10 });
      expect(page).toEqual({ events: [], next: 2, last_seq: 2 });
      await expect(store.readEvents(one, { since: 3, limit: 10 })).rejects.toMatchObject({
        code: 'CURSOR_SUPERSEDED',
        data: { epoch: 1, last_good_seq: 2 },
      });
      await expect(store.readEvents(sessionId(9), { since: 0, limit: 1 })).rejects.toMatchObject({
        code: 'SESSION_NOT_FOUND',
      });
    }));

  it('ends at 1000 events and at about 4 MiB', () =>
    withStore(async (store) => {
      await store.append({ events: [created()] });
      await store.append({ events: Array.from({ length: 1000 }, () => delta('x')) });
      await store.append({ events: [1, 2, 3].map(() => delta('y'.repeat(3_000_000))) });
      const first = await store.readEvents(one, { since: 0, limit: 5000 });
      expect([first.events.length, first.next, first.last_seq]).toEqual([1000, 1000, 1004]);
      const second = await store.readEvents(one, { since: 1000, limit: 5000 });
      expect([second.events.length, second.next]).toEqual([3, 1003]);
    }));

  it('of some types goes to the end of what it looked through', () =>
    withStore(async (store) => {
      await store.append({ events: [created(), delta('a'), accepted('in_1'), delta('b')] });
      const page = await store.readEvents(one, { since: 0, limit: 10, types: ['input.accepted'] });
      expect([page.events.map(({ seq }) => seq), page.next]).toEqual([[3], 4]);
      const none = await store.readEvents(one, { since: 3, limit: 10, types: ['input.accepted'] });
      expect([none.events, none.next]).toEqual([[], 4]);
    }));

  it('of the system is empty before its first event', () =>
    withStore(async (store) => {
      const page = await store.readEvents('system', { since: 0, limit: 1 });
      expect(page).toEqual({ events: [], next: 0, last_seq: 0 });
      const data = { reason: 'test' };
      await store.append({ events: [{ session: 'system', type: 'store.degraded', data }] });
      expect(await store.readEvents('system', { since: 0, limit: 9 })).toMatchObject({
        events: [{ seq: 1, type: 'store.degraded', data }],
      });
    }));
});

describe('the cursor over all sessions', () => {
  it('reads on in commit order, and past what was removed', () =>
    withStore(async (store) => {
      await store.append({ events: [created(1), created(2), delta('a', 1)] });
      const first = await store.readAll(undefined, 2);
      expect(first.events.map(({ session }) => session)).toEqual([sessionId(1), sessionId(2)]);
      await store.deleteSession(sessionId(1));
      await store.append({ events: [delta('b', 2)] });
      const second = await store.readAll(first.cursor, 10);
      expect(second.events).toMatchObject([{ session: sessionId(2), seq: 2 }]);
      expect((await store.readAll(second.cursor, 10)).events).toEqual([]);
    }));

  it('is not given again when the newest events were removed', async () => {
    const folder = makeFolder();
    const before = await open(folder.path);
    await before.append({ events: [created(1), created(2)] });
    const { cursor } = await before.readAll(undefined, 10);
    await before.deleteSession(sessionId(2));
    await before.close();
    const after = await open(folder.path);
    await after.append({ events: [delta('new')] });
    expect((await after.readAll(cursor, 10)).events).toMatchObject([{ seq: 2 }]);
    await after.close();
    folder.remove();
  });

  it.each(['', 'x', '1', '1.2.3.4', '-1.0', "1.0' OR 1"])('%p is refused', (cursor) =>
    withStore((store) =>
      expect(store.readAll(cursor, 1)).rejects.toMatchObject({ code: 'INVALID_REQUEST' }),
    ),
  );
});

describe('after the machine died', () => {
  /** A journal of epoch 1 that lost its newest events, and went on in epoch 2. */
  const afterLoss = async (test: (store: Store, cursor: string) => Promise<void>) => {
    const folder = makeFolder();
    const journal = join(folder.path, 'journal.db');
    const before = await open(folder.path, { bootId: 'a' });
    await before.append({ events: [created(), delta('a')] });
    await before.close();
    copyFileSync(journal, `${journal}.synced`);
    const lost = await open(folder.path, { bootId: 'a' });
    await lost.append({ events: [delta('lost'), delta('lost')] });
    const { cursor } = await lost.readAll(undefined, 10);
    await lost.close();
    renameSync(`${journal}.synced`, journal);
    const db = new DatabaseSync(journal);
    db.exec(`UPDATE meta SET value = 0 WHERE key = 'clean'`);
    db.close();
    const after = await open(folder.path, { bootId: 'b' });
    await after.append({ events: [delta('new'), delta('new'), delta('new')] });
    await test(after, cursor);
    await after.close();
    folder.remove();
  };

  it('a cursor that stands on a lost event is refused, whoever has its number now', () =>
    afterLoss(async (store) => {
      expect(store.epoch).toBe(2);
      const read = (since: number, epoch: number) =>
        store.readEvents(one, { since, epoch, limit: 10 });
      await expect(read(4, 1)).rejects.toMatchObject({
        code: 'CURSOR_SUPERSEDED',
        data: { epoch: 2, last_good_seq: 2 },
      });
      expect((await read(2, 1)).events.map(({ epoch }) => epoch)).toEqual([2, 2, 2]);
      expect((await read(4, 2)).events).toHaveLength(1);
    }));

  it('one beyond the newest event goes on from what was kept of its epoch, not from what came since (regression)', () =>
    afterLoss(async (store) => {
      for (const [epoch, good] of [
        [1, 2],
        [2, 5],
        [3, 0],
      ] as const) {
        await expect(store.readEvents(one, { since: 9, epoch, limit: 10 })).rejects.toMatchObject({
          code: 'CURSOR_SUPERSEDED',
          data: { epoch: 2, last_good_seq: good },
        });
      }
    }));

  it('and one of an epoch that this journal has not had: it is an older copy', () =>
    afterLoss(async (store) => {
      await expect(store.readEvents(one, { since: 4, epoch: 3, limit: 10 })).rejects.toMatchObject({
        code: 'CURSOR_SUPERSEDED',
        data: { epoch: 2, last_good_seq: 0 },
      });
      expect((await store.readEvents(one, { since: 0, epoch: 3, limit: 10 })).events).toHaveLength(
        5,
      );
    }));

  it('and so is one over all sessions', () =>
    afterLoss(async (store, cursor) => {
      await expect(store.readAll(cursor, 10)).rejects.toMatchObject({
        code: 'CURSOR_SUPERSEDED',
        data: { epoch: 2, cursor: '2.2.0' },
      });
      expect((await store.readAll('2.2', 10)).events).toHaveLength(3);
    }));
});
