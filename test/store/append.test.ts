import { describe, expect, it } from '@jest/globals';
import { PrxError } from '../../base/errors.ts';
import type { Store } from '../../store/contract.ts';
import { withStore } from './setup.ts';
import { accepted, created, delta, inputId, renamed, sessionId } from './setup-events.ts';

describe('append', () => {
  it('numbers each session from 1 without a gap and reads back what was given', () =>
    withStore(async (store) => {
      const first = await store.append({ events: [created(1), accepted('in_1')] });
      await store.append({ events: [created(2)] });
      await store.append({ events: [delta('a', 1), delta('b', 2)] });
      expect(first).toMatchObject({ kind: 'appended', events: [{ seq: 1 }, { seq: 2 }] });
      const page = await store.readEvents(sessionId(1), { since: 0, limit: 100 });
      if (first.kind !== 'appended') throw new Error('not appended');
      expect(page.events.slice(0, 2)).toEqual(first.events);
      expect(page.events.map(({ seq, type }) => [seq, type])).toEqual([
        [1, 'session.created'],
        [2, 'input.accepted'],
        [3, 'model.delta'],
      ]);
      expect([page.next, page.last_seq]).toEqual([3, 3]);
    }));

  it('commits what one tick appends in call order', () =>
    withStore(async (store) => {
      await store.append({ events: [created()] });
      const results = await Promise.all(
        Array.from({ length: 300 }, (_, i) => store.append({ events: [delta(String(i))] })),
      );
      const seqs = results.flatMap((result) =>
        result.kind === 'appended' ? result.events.map(({ seq }) => seq) : [],
      );
      expect(seqs).toEqual(Array.from({ length: 300 }, (_, i) => i + 2));
    }));

  it('takes nothing of a request with a wrong event, and everything of its neighbours', () =>
    withStore(async (store) => {
      const outcomes = await Promise.allSettled([
        store.append({ events: [created(1)] }),
        store.append({ events: [renamed('x', 1), delta('to nobody', 9)] }),
        store.append({ events: [delta('ok', 1)] }),
        store.append({ events: [{ session: sessionId(1), type: 'session.renamed', data: {} }] }),
      ]);
      expect(outcomes.map(codeOf)).toEqual(['ok', 'SESSION_NOT_FOUND', 'ok', 'INTERNAL']);
      expect((await store.getSession(sessionId(1)))?.last_seq).toBe(2);
      expect((await store.getSession(sessionId(1)))?.name).toBeUndefined();
    }));

  it('keeps an input of 5 MB byte for byte', () =>
    withStore(async (store) => {
      const text = 'äöü€😀\u0000"\\\n'.repeat(5_000_000 / 20);
      await store.append({ events: [created(), accepted('in_big', text)] });
      const event = await store.readInput(sessionId(1), inputId('in_big'));
      expect(event.data).toMatchObject({ content: [{ type: 'text', text }] });
      expect((await store.verify()).problems).toEqual([]);
    }));

  it('refuses a request larger than 32 MiB', () =>
    withStore(async (store) => {
      await store.append({ events: [created()] });
      const request = store.append({ events: [accepted('in_x', 'x'.repeat(33 * 1024 * 1024))] });
      await expect(request).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    }));

  it('refuses what one session cannot have waiting, and serves the others', () =>
    withStore(async (store) => {
      await store.append({ events: [created(1), created(2)] });
      const flood = Array.from({ length: 4001 }, () => store.append({ events: [delta('x', 1)] }));
      const other = store.append({ events: [delta('y', 2)] });
      const outcomes = await Promise.allSettled(flood);
      expect(outcomes.filter(({ status }) => status === 'rejected').map(codeOf)).toEqual([
        'STORE_DEGRADED',
      ]);
      await expect(other).resolves.toMatchObject({ kind: 'appended' });
    }));
});

describe('unique claims', () => {
  const claim = (store: Store, key: string, digest: string) =>
    store.append({ events: [accepted(`in_${key}`)], unique: { scope: 'input', key, digest } });

  it('append once, whoever comes second, also within one tick', () =>
    withStore(async (store) => {
      await store.append({ events: [created()] });
      const [first, same, other] = await Promise.all([
        claim(store, 'k', 'd1'),
        claim(store, 'k', 'd1'),
        claim(store, 'k', 'd2'),
      ]);
      expect(first.kind).toBe('appended');
      const original = first.kind === 'appended' ? first.events[0] : undefined;
      expect(same).toEqual({ kind: 'duplicate', event: original, sameDigest: true });
      expect(other).toEqual({ kind: 'duplicate', event: original, sameDigest: false });
      expect((await store.getSession(sessionId(1)))?.last_seq).toBe(2);
      expect(await store.findClaim('input', 'k')).toEqual({ event: original, digest: 'd1' });
      expect(await store.findClaim('other', 'k')).toBeUndefined();
    }));

  it('are not taken by a request that was refused', () =>
    withStore(async (store) => {
      await expect(claim(store, 'k', 'd')).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
      await store.append({ events: [created()] });
      expect((await claim(store, 'k', 'd')).kind).toBe('appended');
    }));
});

function codeOf(outcome: PromiseSettledResult<unknown>): string {
  if (outcome.status === 'fulfilled') return 'ok';
  return outcome.reason instanceof PrxError ? outcome.reason.code : String(outcome.reason);
}

it('gives back the memory of what was written and read, and goes on', async () => {
  await withStore(async (store) => {
    await store.append({ events: [created()] });
    const text = 'x'.repeat(256 * 1024);
    for (let count = 0; count < 100; count += 1) await store.append({ events: [delta(text)] });
    await store.verify();
    const before = process.memoryUsage.rss();
    await store.shrink();
    expect(process.memoryUsage.rss()).toBeLessThan(before - 4 * 1024 * 1024);
    await store.append({ events: [delta('on')] });
    expect((await store.verify()).problems).toEqual([]);
  });
});
