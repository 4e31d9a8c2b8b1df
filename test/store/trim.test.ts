/** Retention of a session's first events: behind a snapshot, only what nothing needs any more, and
 *  everything else as if they were there still. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import type { NewEvent, Store } from '../../store/contract.ts';
import { verifyOffline } from '../../store/offline.ts';
import { makeFolder, open, withStore } from './setup.ts';
import { accepted, created, delta, effectId, event, inputId, sessionId } from './setup-events.ts';

const noUsage = { input_tokens: 0, output_tokens: 0 };

/** One closed turn with `deltas` deltas in its step. */
function turnEvents(turn: number, deltas: number, compaction?: number): NewEvent[] {
  const at = { session: sessionId(1), turn };
  const effect = effectId(`${turn}.1`);
  const message = { text: `answer ${turn}`, tool_calls: [] };
  return [
    accepted(`in_${turn}`, `question ${turn}`),
    event('turn.started', { turn, input_id: inputId(`in_${turn}`), attempt: 1 }, at),
    event(
      'model.started',
      { step: 1, attempt: 1, model: 'm', request_digest: 'd' },
      { ...at, effect },
    ),
    ...Array.from({ length: deltas }, (_, i) => ({ ...delta(`${i}`), turn, effect })),
    event(
      'model.completed',
      {
        step: 1,
        attempt: 1,
        message,
        usage: noUsage,
        cost_usd: 0.5,
        finish_reason: 'stop',
        latency_ms: 1,
      },
      { ...at, effect },
    ),
    ...(compaction === undefined ? [] : [compacted(turn, compaction)]),
    event(
      'turn.completed',
      {
        turn,
        input_id: inputId(`in_${turn}`),
        outcome: 'completed',
        usage: noUsage,
        cost_usd: 0.5,
        steps: 1,
      },
      at,
    ),
  ];
}

function compacted(turn: number, fromTurn: number): NewEvent {
  return event(
    'context.compacted',
    {
      step: 2,
      strategy: 'summarize',
      summary: `all before ${fromTurn}`,
      from_turn: fromTurn,
      from_step: 1,
      before_tokens: 9,
      after_tokens: 1,
    },
    { session: sessionId(1), turn },
  );
}

/** Ten turns; in turn 8 everything before turn 7 was compacted. */
async function fill(store: Store): Promise<void> {
  await store.append({ events: [created(1), created(2)] });
  const claim = { scope: 'input', key: 'k', digest: 'd' };
  for (let turn = 1; turn <= 10; turn += 1) {
    const [first, ...rest] = turnEvents(turn, 100, turn === 8 ? 7 : undefined);
    if (first === undefined) continue;
    await store.append({ events: [first], ...(turn === 1 ? { unique: claim } : {}) });
    await store.append({ events: rest });
  }
}

const page = (since: number) => ({ since, limit: 1000 });
const startOfTurn7 = 1 + 6 * 105 + 1;

describe('removing the first events of a session', () => {
  it('changes nothing of what is left: history, record, chain, sequence', () =>
    withStore(async (store) => {
      await fill(store);
      const [history, record] = [
        await store.readHistory(sessionId(1)),
        await store.getSession(sessionId(1)),
      ];
      const last = record?.last_seq ?? 0;
      const before = (await store.readEvents(sessionId(1), page(startOfTurn7))).events;
      expect(await store.trim(100)).toEqual({ sessions: 1, events: startOfTurn7 - 1 });
      expect(await store.readHistory(sessionId(1))).toEqual(history);
      expect(await store.getSession(sessionId(1))).toEqual(record);
      expect((await store.readEvents(sessionId(1), page(startOfTurn7))).events).toEqual(before);
      expect((await store.verify()).problems).toEqual([]);
      // Nothing more may go: the conversation begins there.
      expect(await store.trim(100)).toEqual({ sessions: 0, events: 0 });
      const result = await store.append({ events: [accepted('in_11')] });
      expect(result).toMatchObject({ events: [{ seq: last + 1 }] });
      expect((await store.verify(sessionId(1))).problems).toEqual([]);
    }));

  it('refuses older cursors by name: 410 with the first that is left', () =>
    withStore(async (store) => {
      await fill(store);
      const { cursor: stale } = await store.readAll(undefined, 100);
      const { cursor: fresh } = await store.readAll(undefined, 1000);
      await store.trim(100);
      for (const since of [0, 1, startOfTurn7 - 2]) {
        await expect(store.readEvents(sessionId(1), page(since))).rejects.toMatchObject({
          code: 'CURSOR_GONE',
          data: { first_seq: startOfTurn7 },
        });
      }
      const { events } = await store.readEvents(sessionId(1), page(startOfTurn7 - 1));
      expect(events[0]?.seq).toBe(startOfTurn7);
      const { epoch } = store;
      await store.readEvents(sessionId(1), { since: startOfTurn7 - 1, epoch, limit: 1 });
      await expect(store.readAll(stale, 10)).rejects.toMatchObject({ code: 'CURSOR_GONE' });
      await store.readAll(fresh, 10);
      // From the start: what is there, in pages, to the end.
      let count = 0;
      for (let cursor: string | undefined; ; ) {
        const next = await store.readAll(cursor, 50);
        if (next.events.length === 0) break;
        count += next.events.length;
        cursor = next.cursor;
      }
      expect(count).toBe(1 + 1052 - startOfTurn7 + 1);
    }));

  it('and those of an earlier epoch of which nothing is left, whoever has the number now (regression)', async () => {
    const folder = makeFolder();
    const before = await open(folder.path);
    await before.append({ events: [created(1)] });
    await before.close();
    const db = new DatabaseSync(join(folder.path, 'journal.db'));
    db.exec(`UPDATE meta SET value = 0 WHERE key = 'clean'`);
    db.close();
    const store = await open(folder.path, { bootId: 'another' });
    await store.append({ events: turnEvents(1, 100) });
    await store.append({ events: [...turnEvents(2, 100, 2), ...turnEvents(3, 0)] });
    const { events: removed } = await store.trim(1);
    for (const since of [removed, removed + 1, 9999]) {
      await expect(
        store.readEvents(sessionId(1), { since, epoch: 1, limit: 1 }),
      ).rejects.toMatchObject({ code: 'CURSOR_GONE', data: { first_seq: removed + 1 } });
    }
    await store.readEvents(sessionId(1), { since: removed, epoch: 2, limit: 1 });
    await store.close();
    folder.remove();
  });

  it('keeps an idempotency key for as long as the session lives', () =>
    withStore(async (store) => {
      await fill(store);
      const claim = { scope: 'input', key: 'k', digest: 'd' };
      const first = await store.findClaim('input', 'k');
      await store.trim(100);
      expect(await store.findClaim('input', 'k')).toEqual(first);
      expect(await store.append({ events: [accepted('in_1')], unique: claim })).toEqual({
        kind: 'duplicate',
        event: first?.event,
        sameDigest: true,
      });
      await store.deleteSession(sessionId(1));
      expect(await store.findClaim('input', 'k')).toBeUndefined();
    }));

  it('never touches an open turn, a waiting input, or a session without a compaction', () =>
    withStore(async (store) => {
      await store.append({ events: [created(1), created(2)] });
      await store.append({ events: turnEvents(1, 500) });
      expect(await store.trim(10)).toEqual({ sessions: 0, events: 0 });
      await store.append({ events: [accepted('in_waits')] });
      const { last_seq: waits = 0 } = (await store.getSession(sessionId(1))) ?? {};
      await store.append({ events: turnEvents(2, 500, 2) });
      await store.append({ events: turnEvents(3, 10).slice(0, 8) });
      expect(await store.trim(10)).toEqual({ sessions: 1, events: waits - 1 });
      const record = await store.getSession(sessionId(1));
      expect([record?.queued.length, record?.open_turn?.turn]).toEqual([1, 3]);
      await store.readInput(sessionId(1), inputId('in_waits'));
      expect((await store.verify()).problems).toEqual([]);
    }));

  it('a fork begins at the snapshot; one before the boundary is refused', () =>
    withStore(async (store) => {
      await fill(store);
      const history = await store.readHistory(sessionId(1));
      const { last_seq: last = 0 } = (await store.getSession(sessionId(1))) ?? {};
      await store.trim(100);
      await expect(
        store.forkSession(sessionId(1), startOfTurn7 + 5, sessionId(3)),
      ).rejects.toMatchObject({ code: 'CURSOR_GONE' });
      expect(await store.getSession(sessionId(3))).toBeUndefined();
      await store.forkSession(sessionId(1), last, sessionId(3));
      expect(await store.readHistory(sessionId(3))).toEqual(history);
      expect((await store.verify(sessionId(3))).problems).toEqual([]);
      await expect(store.readEvents(sessionId(3), page(0))).rejects.toMatchObject({
        code: 'CURSOR_GONE',
      });
      await store.append({ events: [{ ...accepted('in_20'), session: sessionId(3) }] });
      await store.deleteSession(sessionId(1));
      expect((await store.verify()).problems).toEqual([]);
    }));

  it.each([
    ['its record', `record = replace(record, '"turn":6', '"turn":5')`],
    ['its link', `link = '!' || substr(link, 2)`],
    ['its place', 'seq = seq - 1'],
    ['its hash', `hash = '!' || substr(hash, 2)`],
  ])('a snapshot of which %s was changed is found', async (_, change) => {
    const folder = makeFolder();
    const before = await open(folder.path);
    await fill(before);
    await before.trim(100);
    await before.close();
    const db = new DatabaseSync(join(folder.path, 'journal.db'));
    expect(db.prepare(`UPDATE snapshots SET ${change}`).run().changes).toBe(1);
    db.close();
    const { problems } = verifyOffline({ stateDir: folder.path, clock: realClock });
    expect(problems).toMatchObject([{ session: sessionId(1) }]);
    folder.remove();
  });

  it('that a death cut short is finished at the next start', async () => {
    const folder = makeFolder();
    const before = await open(folder.path);
    await fill(before);
    const lines = await before.exportEvents({ session: sessionId(1), after: 0, limit: 200 });
    await before.trim(100);
    await before.close();
    const db = new DatabaseSync(join(folder.path, 'journal.db'));
    // As if the last step had not come: some of the removed rows are there again.
    const put = db.prepare(
      'INSERT INTO events (id, session, seq, epoch, time_ms, type, turn, ref, power, crc, hash, ' +
        'data) VALUES (?, ?, ?, 1, ?, ?, 1, ?, ?, ?, ?, ?)',
    );
    type Line = {
      id: number;
      session: string;
      seq: number;
      time: string;
      type: string;
      ref: string;
    };
    type Seal = { power: boolean; crc: number; hash: string; data: unknown };
    for (const line of (lines.events as (Line & Seal)[]).slice(100)) {
      const { id, session, seq, time, type, ref, power, crc, hash, data } = line;
      const text = JSON.stringify(data);
      put.run(id, session, seq, Date.parse(time), type, ref, power ? 1 : 0, crc, hash, text);
    }
    db.close();
    const store = await open(folder.path);
    const after = await store.exportEvents({ session: sessionId(1), after: 0, limit: 1 });
    expect(after.events).toMatchObject([{ seq: startOfTurn7 }]);
    expect((await store.verify()).problems).toEqual([]);
    await store.close();
    folder.remove();
  });

  it('leaves a damaged session as it is, and names it', async () => {
    const folder = makeFolder();
    const before = await open(folder.path);
    await fill(before);
    await before.close();
    const db = new DatabaseSync(join(folder.path, 'journal.db'));
    db.exec(`UPDATE events SET crc = 1 WHERE session = '${sessionId(1)}' AND seq = 50`);
    db.close();
    const store = await open(folder.path);
    expect(await store.trim(100)).toEqual({ sessions: 0, events: 0 });
    expect(store.health().damaged).toMatchObject([{ session: sessionId(1), seq: 50 }]);
    await store.close();
    folder.remove();
  });
});

it('closed sessions with nothing new since a time are listed, oldest first', async () => {
  let wallMs = 1000;
  const clock = { ...realClock, wallMs: () => wallMs };
  await withStore(
    async (store) => {
      await store.append({ events: [created(1), created(2), created(3)] });
      const data = { from: 'stopping', to: 'stopped', reason: 'r' } as const;
      for (const n of [2, 1]) {
        wallMs += 1000;
        const at = { session: sessionId(n) };
        await store.append({ events: [event('session.state', data, at)] });
      }
      expect(await store.listExpired(9000, 9)).toEqual([sessionId(2), sessionId(1)]);
      expect(await store.listExpired(9000, 1)).toEqual([sessionId(2)]);
      expect(await store.listExpired(3000, 9)).toEqual([sessionId(2)]);
      expect(await store.listExpired(2000, 9)).toEqual([]);
    },
    { clock },
  );
});
