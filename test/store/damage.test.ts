import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import type { Store } from '../../store/contract.ts';
import { makeFolder, open } from './setup.ts';
import { accepted, created, delta, renamed, sessionId } from './setup-events.ts';

/** Writes two sessions, changes the file with `sql`, opens again. */
async function withDamage(
  sql: string,
  test: (store: Store, problems: readonly unknown[]) => Promise<void>,
  options: { readonly verifyInBackground?: boolean } = {},
): Promise<void> {
  const folder = makeFolder();
  const before = await open(folder.path);
  await before.append({ events: [created(1), accepted('in_1'), delta('a'), delta('b')] });
  await before.append({ events: [delta('c'), created(2), renamed('two', 2)] });
  await before.close();
  const db = new DatabaseSync(join(folder.path, 'journal.db'));
  db.exec(sql);
  db.close();
  const problems: unknown[] = [];
  const store = await open(folder.path, { ...options, onProblem: (each) => problems.push(each) });
  await test(store, problems);
  await store.close();
  folder.remove();
}

const one = `session = '${sessionId(1)}'`;
const read = (store: Store, since = 0) => store.readEvents(sessionId(1), { since, limit: 100 });

describe('a damaged row', () => {
  it.each([
    ['a bit of its content', `data = replace(data, '"a"', '"c"')`, 3],
    ['its type', `type = 'tool.output'`, 3],
    ['its time', 'time_ms = time_ms + 1', 3],
    ['its turn', 'turn = 2', 3],
    ['its durability', 'power = 1', 3],
    ['its number of epoch', 'epoch = 3', 3],
    ['its checksum', 'crc = crc + 1', 3],
    ['its place in the chain', `hash = '*' || substr(hash, 2)`, 3],
  ])('is found by the read that meets it: %s', (_, change, seq) =>
    withDamage(`UPDATE events SET ${change} WHERE ${one} AND seq = ${seq}`, async (store) => {
      await expect(read(store)).rejects.toMatchObject({
        code: 'STORE_CORRUPT',
        data: { session: sessionId(1), seq },
      });
      expect((await store.verify()).problems).toMatchObject([{ session: sessionId(1), seq }]);
      expect((await store.verify(sessionId(2))).problems).toEqual([]);
      await store.append({ events: [delta('other sessions go on', 2)] });
    }),
  );

  it('that was removed or swapped breaks the chain', async () => {
    await withDamage(`DELETE FROM events WHERE ${one} AND seq = 3`, async (store) => {
      await expect(read(store)).rejects.toMatchObject({
        data: { seq: 3, problem: 'it is missing' },
      });
      expect((await store.verify()).problems).toMatchObject([{ seq: 4 }]);
    });
  });

  it('whose checksum was forged with it breaks the chain', () =>
    withDamage(
      // The same event again with its own valid checksum, in another place.
      `UPDATE events SET hash = (SELECT hash FROM events WHERE ${one} AND seq = 2)
       WHERE ${one} AND seq = 4`,
      async (store) => {
        await expect(read(store)).rejects.toMatchObject({
          data: { seq: 4, problem: 'its hash does not continue the chain of its session' },
        });
      },
    ));

  it('at the end of an unfinished session is reported at the start, and refuses appends', () =>
    withDamage(
      `UPDATE events SET data = '{}' WHERE ${one} AND seq = 5`,
      async (store, problems) => {
        const append = store.append({ events: [delta('x', 1)] });
        await expect(append).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
        expect(problems).toMatchObject([{ session: sessionId(1), seq: 5 }]);
        expect(store.health()).toEqual({ degraded: undefined, damaged: problems });
        await store.append({ events: [delta('other sessions go on', 2)] });
      },
    ));

  it('is found by the verification in the background', async () => {
    const found = new Promise<unknown>((resolve) => {
      void withDamage(
        `UPDATE events SET data = '{}' WHERE session = '${sessionId(2)}' AND seq = 1`,
        async (_, problems) => {
          // The list is filled by the store; hand over its first entry.
          problems[0] === undefined
            ? Object.assign(problems, { push: (each: unknown) => resolve(each) })
            : resolve(problems[0]);
          await found;
        },
        { verifyInBackground: true },
      );
    });
    expect(await found).toMatchObject({ session: sessionId(2), seq: 1 });
  });
});

describe('a damaged record', () => {
  it.each([
    ['a bit of it', `UPDATE sessions SET record = replace(record, 'default', 'defauld')`],
    ['its newest events are gone', 'DELETE FROM events WHERE seq > 1'],
  ])('%s: is named when asked for, and hides no other session', (_, sql) =>
    withDamage(
      `${sql} ${sql.includes('WHERE') ? 'AND' : 'WHERE'} ${
        sql.includes('sessions') ? `id = '${sessionId(1)}'` : one
      }`,
      async (store) => {
        await expect(store.getSession(sessionId(1))).rejects.toMatchObject({
          code: 'STORE_CORRUPT',
        });
        expect((await store.listSessions()).map(({ id }) => id)).toEqual([sessionId(2)]);
        expect((await store.verify()).problems).toMatchObject([{ session: sessionId(1) }]);
      },
    ),
  );

  it('that is not what the events say is found by verify', async () => {
    const { crc32 } = await import('node:zlib');
    const folder = makeFolder();
    const before = await open(folder.path);
    await before.append({ events: [created(1)] });
    await before.close();
    const db = new DatabaseSync(join(folder.path, 'journal.db'));
    const row = db.prepare('SELECT id, record FROM sessions').get();
    const forged = String(row?.['record']).replace('"agent":"default"', '"agent":"other"');
    db.prepare('UPDATE sessions SET record = ?, crc = ?').run(
      forged,
      crc32(`${row?.['id']}\n${forged}`),
    );
    db.close();
    const store = await open(folder.path);
    expect((await store.verify()).problems).toEqual([
      {
        session: sessionId(1),
        seq: 1,
        problem: 'the session record differs from what its events say',
      },
    ]);
    await store.close();
    folder.remove();
  });
});

it('a file that is no database is refused as corrupt, and the lock is free again', async () => {
  const folder = makeFolder();
  writeFileSync(join(folder.path, 'journal.db'), 'garbage '.repeat(1000));
  for (let i = 0; i < 2; i += 1) {
    await expect(open(folder.path)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
  }
  folder.remove();
});
