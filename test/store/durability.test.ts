import { describe, expect, it } from '@jest/globals';
import { withStore } from './setup.ts';
import { created, delta, renamed, sessionId } from './setup-events.ts';

describe('durability', () => {
  it('a process-durable append does not wait for the sync of a power-durable one', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created(1), created(2)] });
        const order: string[] = [];
        const note = (name: string) => () => void order.push(name);
        const power = store.append({ events: [renamed('x', 1)] }).then(note('power'));
        for (let i = 0; i < 20; i += 1) {
          await store.append({ events: [delta('d', 2)] }).then(note('process'));
          await store.append({ events: [delta('d', 1)] }).then(note('process'));
        }
        await power;
        expect(order).toEqual([...Array.from({ length: 40 }, () => 'process'), 'power']);
      },
      { faults: { syncDelayMs: 500 } },
    ));

  it('no answer shows a power-durable event before it is synced', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created(1), created(2)] });
        await store.listSessions(); // The readers have started.
        const order: string[] = [];
        const note = (name: string) => () => void order.push(name);
        const power = store.append({ events: [renamed('x', 1)] }).then(note('append'));
        await store.append({ events: [delta('d', 2)] }); // By now the rename is committed.
        const answers = [
          power,
          store.readEvents(sessionId(1), { since: 0, limit: 9 }).then(note('page')),
          store.getSession(sessionId(1)).then(note('record')),
          store.readAll(undefined, 9).then(note('all')),
        ];
        await store.readEvents(sessionId(2), { since: 0, limit: 9 }).then(note('other session'));
        for (let i = 0; i < 10; i += 1) await store.append({ events: [delta('d', 2)] });
        expect(order).toEqual(['other session']);
        await Promise.all(answers);
      },
      { faults: { syncDelayMs: 500 } },
    ));

  it('a duplicate waits for the sync of the first claim', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created()] });
        const order: string[] = [];
        const request = { events: [renamed('x')], unique: { scope: 's', key: 'k', digest: 'd' } };
        const first = store.append(request).then(() => order.push('first'));
        await store.append({ events: [delta('d')] });
        const second = store.append(request).then(({ kind }) => order.push(kind));
        await Promise.all([first, second]);
        expect(order).toEqual(['first', 'duplicate']);
      },
      { faults: { syncDelayMs: 200 } },
    ));

  it('appends that come during a sync share the next one', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created()] });
        const before = process.hrtime.bigint();
        await Promise.all(
          Array.from({ length: 50 }, async (_, i) => {
            for (let n = 0; n < i % 3; n += 1) await store.append({ events: [delta('d')] });
            await store.append({ events: [renamed(`n${i}`)] });
          }),
        );
        const tookMs = Number(process.hrtime.bigint() - before) / 1e6;
        expect(tookMs).toBeLessThan(50 * 100);
      },
      { faults: { syncDelayMs: 100 } },
    ));

  it('a failed sync is for good: what is synced is read, the rest and appends refused', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created()] }); // Syncs 1 (open) and 2.
        const failed = store.append({ events: [renamed('lost')] });
        await expect(failed).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
        const later = store.append({ events: [delta('d')] });
        await expect(later).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
        expect(store.health().degraded).toMatch(/could not be synced \(EIO\).*check the disk/);
        const page = await store.readEvents(sessionId(1), { since: 0, limit: 1 });
        expect(page.events.map(({ seq }) => seq)).toEqual([1]);
        const record = store.getSession(sessionId(1));
        await expect(record).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
      },
      { faults: { failSyncAt: 3 } },
    ));
});

describe('a full disk', () => {
  it('refuses what does not fit, goes on reading, and resumes by itself', async () => {
    const reasons: (string | undefined)[] = [];
    let repaired = (): void => undefined;
    const isRepaired = new Promise<void>((resolve) => {
      repaired = resolve;
    });
    const onDegraded = (reason: string | undefined): void => {
      reasons.push(reason);
      if (reason === undefined) repaired();
    };
    await withStore(
      async (store) => {
        await store.append({ events: [created(1), created(2)] });
        const big = 'x'.repeat(200_000);
        const fill = async () => {
          for (let i = 0; i < 100; i += 1) await store.append({ events: [delta(big, 2)] });
        };
        await expect(fill()).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
        expect(store.health().degraded).toMatch(/full.*goes on by itself/);
        const { last_seq: lastSeq } = await store.readEvents(sessionId(2), { since: 0, limit: 1 });
        expect((await store.verify()).problems).toEqual([]);

        await store.deleteSession(sessionId(2)); // Frees the pages; the probe finds out.
        await isRepaired;
        expect(store.health()).toEqual({ degraded: undefined, damaged: [] });
        expect(reasons).toEqual([expect.stringMatching(/full/), undefined]);
        expect(lastSeq).toBeGreaterThan(1);
        await store.append({ events: [delta(big, 1)] });
      },
      { faults: { pagesMax: 1000 }, onDegraded },
    );
  });
});
