import { describe, expect, it } from '@jest/globals';
import { withStore, withSyncGate } from './setup.ts';
import { accepted, created, delta, renamed, sessionId } from './setup-events.ts';

describe('durability', () => {
  it('a process-durable append does not wait for the sync of a power-durable one', () =>
    withSyncGate(async (store, gate) => {
      gate.allow(1);
      await store.append({ events: [created(1), created(2)] });
      const order: string[] = [];
      const note = (name: string) => () => void order.push(name);
      const power = store.append({ events: [renamed('x', 1)] }).then(note('power'));
      for (let i = 0; i < 20; i += 1) {
        await store.append({ events: [delta('d', 2)] }).then(note('process'));
        await store.append({ events: [delta('d', 1)] }).then(note('process'));
      }
      gate.allow(1);
      await power;
      expect(order).toEqual([...Array.from({ length: 40 }, () => 'process'), 'power']);
    }));

  it('no answer shows a power-durable event before it is synced', () =>
    withSyncGate(async (store, gate) => {
      gate.allow(1);
      await store.append({ events: [created(1), created(2)] });
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
      // As many questions again as there are readers, each behind those above.
      for (let i = 0; i < 4; i += 1) {
        await store.readEvents(sessionId(2), { since: 0, limit: 9 }).then(note('other session'));
      }
      for (let i = 0; i < 10; i += 1) await store.append({ events: [delta('d', 2)] });
      expect(order).toEqual(Array.from({ length: 4 }, () => 'other session'));
      gate.allow(1);
      await Promise.all(answers);
    }));

  it('a sync makes safe what was committed before it began, and nothing that came during it', () =>
    withSyncGate(async (store, gate) => {
      gate.allow(1);
      await store.append({ events: [created(1), created(2)] });
      const order: string[] = [];
      const note = (name: string) => () => void order.push(name);
      const before = store.append({ events: [renamed('x', 1)] }).then(note('before'));
      await store.append({ events: [delta('d', 2)] });
      const during = store.append({ events: [renamed('y', 1)] }).then(note('during'));
      await store.append({ events: [delta('d', 2)] });
      gate.allow(1);
      await before;
      // What is read by now was answered by the writer behind the end of that sync.
      await store.append({ events: [delta('d', 2)] });
      await store.readEvents(sessionId(2), { since: 0, limit: 9 });
      expect(order).toEqual(['before']);
      gate.allow(1);
      await during;
    }));

  it('a conversation waits for the sync of what it shows, not of what it leaves out', () =>
    withSyncGate(async (store, gate) => {
      gate.allow(1);
      await store.append({ events: [created(1), created(2)] });
      const order: string[] = [];
      const note = (name: string) => () => void order.push(name);
      const left = store.append({ events: [renamed('x')] }).then(note('renamed'));
      await store.append({ events: [delta('d')] }); // By now the rename is committed.
      await store.readHistory(sessionId(1)).then(note('without'));
      gate.allow(1);
      await left;
      const shown = store.append({ events: [accepted('in_1')] }).then(note('input'));
      await store.append({ events: [delta('d')] });
      const history = store.readHistory(sessionId(1)).then(note('with'));
      for (let i = 0; i < 4; i += 1) {
        await store.readEvents(sessionId(2), { since: 0, limit: 9 });
      }
      expect(order).toEqual(['without', 'renamed']);
      gate.allow(1);
      await Promise.all([shown, history]);
      expect(order.slice(2).toSorted()).toEqual(['input', 'with']);
    }));

  it('a duplicate waits for the sync of the first claim', () =>
    withSyncGate(async (store, gate) => {
      gate.allow(1);
      await store.append({ events: [created()] });
      const order: string[] = [];
      const request = { events: [renamed('x')], unique: { scope: 's', key: 'k', digest: 'd' } };
      const first = store.append(request).then(() => order.push('first'));
      await store.append({ events: [delta('d')] });
      const second = store.append(request).then(({ kind }) => order.push(kind));
      await store.append({ events: [delta('d')] });
      expect(order).toEqual([]);
      gate.allow(1);
      await Promise.all([first, second]);
      expect(order).toEqual(['first', 'duplicate']);
    }));

  it('a sync that was asked for before another one failed fails as well (FAULTS 56)', () =>
    withSyncGate(
      async (store, gate) => {
        gate.allow(1);
        await store.append({ events: [created()] }); // Syncs 1 (open) and 2.
        const lost = ['a', 'b'].map(async (name) => {
          const append = store.append({ events: [renamed(name)] });
          await expect(append).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
        });
        // The second one asks for a sync of its own: that of the first one is under way.
        await store.append({ events: [delta('d')] });
        lost.push(
          expect(store.append({ events: [renamed('c')] })).rejects.toMatchObject({
            code: 'STORE_DEGRADED',
          }),
        );
        await store.append({ events: [delta('d')] });
        gate.allow(3);
        await Promise.all(lost);
        await expect(store.getSession(sessionId(1))).rejects.toMatchObject({
          code: 'STORE_DEGRADED',
        });
      },
      { faults: { failSyncAt: 3 } },
    ));

  it('appends that come during a sync share the next one (FAULTS 57)', () =>
    withStore(
      async (store) => {
        await store.append({ events: [created()] });
        await Promise.all(
          Array.from({ length: 50 }, async (_, i) => {
            for (let n = 0; n < i % 3; n += 1) await store.append({ events: [delta('d')] });
            await store.append({ events: [renamed(`n${i}`)] });
          }),
        );
      },
      // More than these, and the last ones would fail.
      { faults: { syncDelayMs: 20, failSyncAt: 25 } },
    ));

  it('a failed sync is for good: what is synced is read, the rest refused (FAULTS 56)', () => {
    const told: string[] = [];
    return withStore(
      async (store) => {
        await store.append({ events: [created()] }); // Syncs 1 (open) and 2.
        const failed = store.append({ events: [renamed('lost')] });
        await expect(failed).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
        expect(told).toEqual([expect.stringMatching(/what reached the disk is unknown/)]);
        const later = store.append({ events: [delta('d')] });
        await expect(later).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
        expect(store.health().degraded).toMatch(/could not be synced \(EIO\).*check the disk/);
        const page = await store.readEvents(sessionId(1), { since: 0, limit: 1 });
        expect(page.events.map(({ seq }) => seq)).toEqual([1]);
        const record = store.getSession(sessionId(1));
        await expect(record).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
      },
      { faults: { failSyncAt: 3 }, onFatal: (reason) => void told.push(reason) },
    );
  });
});

describe('a full disk', () => {
  it('refuses what does not fit, goes on reading, and resumes by itself (FAULTS 55)', async () => {
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
