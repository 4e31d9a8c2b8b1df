/** The export: every event with its seal, which anybody can check again with a few lines. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import { expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import type { JournalKey, Store } from '../../store/contract.ts';
import { exportOffline } from '../../store/offline.ts';
import { makeFolder, open, withStore } from './setup.ts';
import { created, delta, renamed, sessionId } from './setup-events.ts';

interface Line {
  readonly session: string;
  readonly seq: number;
  readonly epoch: number;
  readonly time: string;
  readonly type: string;
  readonly turn?: number;
  readonly data: unknown;
  readonly id: number;
  readonly ref: string | null;
  readonly power: boolean;
  readonly crc: number;
  readonly hash: string;
  readonly damaged?: string;
}

async function readAll(store: Store, limit: number, session?: JournalKey): Promise<Line[]> {
  const lines: Line[] = [];
  for (let after: number | null = 0; after !== null; ) {
    const page: Awaited<ReturnType<Store['exportEvents']>> = await store.exportEvents({
      after,
      limit,
      ...(session === undefined ? {} : { session }),
    });
    lines.push(...(page.events as Line[]));
    after = page.next;
  }
  return lines;
}

/** The recipe of docs/journal.md. */
function check(lines: readonly Line[]): void {
  const links = new Map<string, string>();
  for (const line of lines) {
    const { session, seq, epoch, time, type, turn = '', ref, power, data } = line;
    const place = `${session}\n${seq}\n${epoch}\n${Date.parse(time)}\n${type}`;
    const text = `${place}\n${turn}\n${ref ?? ''}\n${power ? 1 : 0}\n${JSON.stringify(data)}`;
    expect(crc32(text)).toBe(line.crc);
    const hash = createHash('sha256').update(`${links.get(session) ?? ''}\n${text}`);
    expect(hash.digest('base64url').slice(0, 22)).toBe(line.hash);
    links.set(session, line.hash);
  }
}

it('can be checked by anybody, in pages of any size, of all or one', () =>
  withStore(async (store) => {
    await store.append({ events: [created(1), created(2), delta('ü "quoted"\n', 1)] });
    for (let i = 0; i < 20; i += 1) await store.append({ events: [renamed(`n${i}`, 2)] });
    const all = await readAll(store, 1000);
    check(all);
    expect(all.map(({ id }) => id)).toEqual(all.map((_, index) => index + 1));
    for (const limit of [1, 7]) expect(await readAll(store, limit)).toEqual(all);
    const one = await readAll(store, 5, sessionId(2));
    expect(one).toEqual(all.filter(({ session }) => session === sessionId(2)));
    expect(await readAll(store, 5, 'system')).toEqual([]);
  }));

it('shows a damaged event as it was found, marked, and all others', async () => {
  const folder = makeFolder();
  const before = await open(folder.path);
  await before.append({ events: [created(1), delta('a'), delta('b'), delta('c')] });
  await before.close();
  const db = new DatabaseSync(join(folder.path, 'journal.db'));
  db.exec("UPDATE events SET data = '{torn' WHERE seq = 3");
  db.close();
  const offline: Line[] = [];
  exportOffline({ stateDir: folder.path, clock: realClock, aside: false }, (line) =>
    offline.push(JSON.parse(line) as Line),
  );
  const store = await open(folder.path);
  const online = await readAll(store, 2);
  expect(offline).toEqual(online);
  expect(online.map(({ seq, data, damaged }) => [seq, typeof data, damaged !== undefined])).toEqual(
    [
      [1, 'object', false],
      [2, 'object', false],
      [3, 'string', true],
      [4, 'object', false],
    ],
  );
  expect(online[2]).toMatchObject({ data: '{torn' });
  await store.close();
  folder.remove();
});
