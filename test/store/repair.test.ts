/** `journal verify` and `journal repair` without a supervisor: what was damaged is found, what is
 *  whole stays as it was, what is taken out is kept. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { exportOffline, verifyOffline } from '../../store/offline.ts';
import { repairOffline } from '../../store/repair.ts';
import { salvageIfUnreadable } from '../../store/salvage.ts';
import { type Folder, makeFolder, open } from './setup.ts';
import { accepted, created, delta, event, inputId, renamed, sessionId } from './setup-events.ts';

const EVENTS = 40;
const PAGE_BYTES = 4096;

let folder: Folder;
/** Lines of the undamaged journal, by session. */
let original: ReadonlyMap<string, readonly string[]>;

beforeAll(async () => {
  folder = makeFolder();
  const store = await open(join(folder.path, 'whole'));
  await store.append({ events: [created(1), created(2), created(3)] });
  for (let i = 1; i <= EVENTS; i += 1) {
    const text = `${i} `.repeat(200);
    await store.append({ events: [1, 2, 3].map((n) => delta(text, n)) });
    if (i % 10 === 0) await store.append({ events: [renamed(`n${i}`, 2)] });
  }
  await store.append({
    events: [event('supervisor.started', started, { session: 'system' })],
  });
  await store.close();
  original = readLines(join(folder.path, 'whole'));
});

afterAll(() => folder.remove());

const started = { pid: 1, version: 'v', epoch: 1, level: 'none' };
const options = (stateDir: string) => ({ stateDir, clock: realClock });

function readLines(stateDir: string, aside = false): Map<string, string[]> {
  const lines = new Map<string, string[]>();
  exportOffline({ ...options(stateDir), aside }, (line) => {
    const { session } = JSON.parse(line) as { session: string };
    lines.set(session, [...(lines.get(session) ?? []), line]);
  });
  return lines;
}

let copies = 0;

/** A copy of the journal, changed. */
function makeCopy(change: (file: Buffer) => void): string {
  copies += 1;
  const stateDir = join(folder.path, `copy-${copies}`);
  mkdirSync(stateDir);
  const file = readFileSync(join(folder.path, 'whole', 'journal.db'));
  change(file);
  writeFileSync(join(stateDir, 'journal.db'), file);
  return stateDir;
}

function sql(stateDir: string, statement: string): void {
  const db = new DatabaseSync(join(stateDir, 'journal.db'));
  db.exec(statement);
  db.close();
}

/** The code of what it throws, or its result. */
function attempt<T>(work: () => T): T | string {
  try {
    return work();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** What the repair did not write itself, in order. The place among all sessions (`id`) is no part
 *  of the seal: it may have been what was flipped. */
function toContent(lines: readonly string[]): string[] {
  return lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line['epoch'] === 1 && line['type'] !== 'record')
    .sort((one, other) => Number(one['seq']) - Number(other['seq']))
    .map((line) => JSON.stringify({ ...line, id: 0 }));
}

/** After a repair: nothing is wrong, and each session is a prefix of what it was, and perhaps what
 *  the repair itself says. */
function expectMended(stateDir: string): void {
  expect(verifyOffline(options(stateDir)).problems).toEqual([]);
  for (const [session, lines] of readLines(stateDir)) {
    const kept = toContent(lines);
    const before = toContent(original.get(session) ?? []).slice(0, kept.length);
    // Not by the matcher: its message would be as long as the journal.
    expect([session, JSON.stringify(kept) === JSON.stringify(before)]).toEqual([session, true]);
  }
}

describe('a file of which', () => {
  it('a bit flipped is never silently different, and is mended (FAULTS 53)', () => {
    const size = readFileSync(join(folder.path, 'whole', 'journal.db')).length;
    const counts = { unnoticed: 0, noticed: 0, refused: 0 };
    for (let i = 0; i < 250; i += 1) {
      // A fixed stride over the whole file: each run flips the same bits.
      const position = (i * 7919 + 13) % size;
      const stateDir = makeCopy((file) => {
        file[position] = (file[position] ?? 0) ^ (1 << (i % 8));
      });
      const report = attempt(() => verifyOffline(options(stateDir)));
      if (typeof report === 'string') {
        expect(['STORE_CORRUPT', 'STATE_DIR_UNUSABLE', 'ERR_SQLITE_ERROR']).toContain(report);
        counts.refused += 1;
        continue;
      }
      if (report.problems.length === 0) {
        // The bit belongs to no content (free space of a page, the file's own counters).
        expect(readLines(stateDir)).toEqual(original);
        counts.unnoticed += 1;
        continue;
      }
      counts.noticed += 1;
      repairOffline(options(stateDir));
      expectMended(stateDir);
    }
    expect(counts.noticed).toBeGreaterThan(100);
  });

  it('any page was zeroed keeps every other page, and itself aside (FAULTS 54)', () => {
    const size = readFileSync(join(folder.path, 'whole', 'journal.db')).length;
    const whole = [...original.values()].flatMap(toContent).length;
    let [mended, costly] = [0, 0];
    for (let page = 1; page < size / PAGE_BYTES; page += 1) {
      const stateDir = makeCopy((file) => file.fill(0, page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
      const report = attempt(() => repairOffline(options(stateDir)));
      if (typeof report === 'string') {
        // Without this page nothing can be found at all: the file stays as it is.
        expect(report).toBe('STORE_CORRUPT');
        costly += 1;
        continue;
      }
      expectMended(stateDir);
      if (report.salvage === undefined && report.mended.length === 0) continue;
      mended += 1;
      if (report.salvage !== undefined) expect(existsSync(report.salvage.kept)).toBe(true);
      const count = [readLines(stateDir), readLines(stateDir, true)]
        .flatMap((lines) => [...lines.values()])
        .flatMap(toContent).length;
      // The events of one page are gone; what followed them in a session is kept aside. An inner
      // page of the table takes all along that it leads to.
      if (count < whole - 10) costly += 1;
    }
    expect(mended).toBeGreaterThan(10);
    expect(costly).toBeLessThanOrEqual(2);
  });

  it('pages were zeroed is mended as a whole, whichever session is named (regression)', () => {
    const size = readFileSync(join(folder.path, 'whole', 'journal.db')).length;
    let salvaged = 0;
    for (let page = 1; page < size / PAGE_BYTES && salvaged < 5; page += 7) {
      const stateDir = makeCopy((file) => file.fill(0, page * PAGE_BYTES, (page + 1) * PAGE_BYTES));
      const report = attempt(() => repairOffline({ ...options(stateDir), session: sessionId(1) }));
      if (typeof report === 'string' || report.salvage === undefined) continue;
      salvaged += 1;
      expectMended(stateDir);
    }
    expect(salvaged).toBe(5);
  });
});

it('a repair that died behind its salvage is ended by the next one (regression)', async () => {
  const stateDir = join(folder.path, 'died');
  const before = await open(stateDir);
  const at = { session: sessionId(1), turn: 1 };
  const turn = { turn: 1, input_id: inputId('in_1'), attempt: 1 };
  const deltas = Array.from({ length: EVENTS }, () => delta('x'.repeat(500)));
  await before.append({ events: [created(1), accepted('in_1'), ...deltas] });
  await before.append({ events: [event('turn.started', turn, at)] });
  await before.close();
  const path = join(stateDir, 'journal.db');
  // An index that does not fit its table.
  const other = "UPDATE sqlite_schema SET sql = replace(sql, 'power = 1', 'power = 0')";
  const db = new DatabaseSync(path);
  db.enableDefensive(false);
  db.exec(`PRAGMA writable_schema = ON; ${other} WHERE name = 'events_power'`);
  db.close();
  const salvage = salvageIfUnreadable(path, 'then');
  expect(salvage).toMatchObject({ kept: `${path}.damaged-then` });
  expect(repairOffline(options(stateDir))).toMatchObject({ salvage });
  expect(repairOffline(options(stateDir))).toMatchObject({ salvage: undefined, mended: [] });
  const store = await open(stateDir);
  expect(await store.listUnfinished()).toEqual([]);
  await store.close();
});

describe('a damaged session', () => {
  const flip = (n: number, seq: number): string =>
    makeCopyAnd(
      `UPDATE events SET data = '{"x":1}' WHERE session = '${sessionId(n)}' AND seq = ${seq}`,
    );
  const makeCopyAnd = (statement: string): string => {
    const stateDir = makeCopy(() => undefined);
    sql(stateDir, statement);
    return stateDir;
  };

  it('[event:store.repaired] keeps what is valid; the rest is aside, the epoch rises (FAULTS 53, 54)', async () => {
    const stateDir = flip(2, 20);
    expect(verifyOffline(options(stateDir)).problems).toMatchObject([
      { session: sessionId(2), seq: 20 },
    ]);
    const report = repairOffline(options(stateDir));
    const rows = original.get(sessionId(2))?.length ?? 0;
    expect(report).toEqual({
      sessions: 4,
      salvage: undefined,
      mended: [
        {
          session: sessionId(2),
          problem: 'its checksum does not match its content',
          kept: 19,
          moved: rows - 19,
          lost: true,
        },
      ],
    });
    expectMended(stateDir);
    const aside = readLines(stateDir, true).get(sessionId(2)) ?? [];
    expect(aside.slice(1).map((line) => JSON.parse(line))).toEqual(
      (original.get(sessionId(2)) ?? []).slice(19).map((line, index) => ({
        ...JSON.parse(line),
        moved_at: expect.any(String),
        reason: report.mended[0]?.problem,
        ...(index === 0 ? { data: '{"x":1}', damaged: report.mended[0]?.problem } : {}),
      })),
    );
    expect(repairOffline(options(stateDir)).mended).toEqual([]);

    const store = await open(stateDir);
    expect(store.epoch).toBe(2);
    const { events } = await store.readEvents('system', { since: 1, limit: 9 });
    expect(events).toMatchObject([{ type: 'store.repaired', epoch: 2 }]);
    await expect(
      store.readEvents(sessionId(2), { since: 30, epoch: 1, limit: 1 }),
    ).rejects.toMatchObject({ code: 'CURSOR_SUPERSEDED', data: { last_good_seq: 19 } });
    await store.append({ events: [delta('on', 2)] });
    expect((await store.verify()).problems).toEqual([]);
    await store.close();
  });

  it('of which the first event is damaged is moved aside as a whole', () => {
    const stateDir = flip(1, 1);
    expect(repairOffline(options(stateDir)).mended).toMatchObject([{ kept: 0, lost: true }]);
    expectMended(stateDir);
    expect(readLines(stateDir).has(sessionId(1))).toBe(false);
    const aside = readLines(stateDir, true).get(sessionId(1)) ?? [];
    expect(aside.length).toBe((original.get(sessionId(1))?.length ?? 0) + 1);
  });

  it('is mended alone when it is named', () => {
    const stateDir = flip(1, 5);
    sql(stateDir, `UPDATE events SET crc = 1 WHERE session = '${sessionId(3)}' AND seq = 7`);
    const session = sessionId(1);
    expect(repairOffline({ ...options(stateDir), session }).mended).toMatchObject([{ session }]);
    expect(verifyOffline(options(stateDir)).problems).toMatchObject([{ session: sessionId(3) }]);
  });

  it.each([
    ['a damaged record', `UPDATE sessions SET record = '{}' WHERE id = '${sessionId(2)}'`],
    ['a lost record', `DELETE FROM sessions WHERE id = '${sessionId(2)}'`],
  ])('%s is folded again; no event is touched', async (_, statement) => {
    const stateDir = makeCopyAnd(statement);
    expect(repairOffline(options(stateDir)).mended).toMatchObject([
      { session: sessionId(2), moved: 0, lost: false },
    ]);
    expectMended(stateDir);
    const store = await open(stateDir);
    expect(await store.getSession(sessionId(2))).toMatchObject({ name: 'n40', agent: 'default' });
    expect((await store.listSessions()).length).toBe(3);
    await store.close();
  });

  it('what was under way in it does not run again', async () => {
    const stateDir = join(folder.path, 'open-turn');
    const before = await open(stateDir);
    await before.append({ events: [created(1), accepted('in_1'), accepted('in_2')] });
    const at = { session: sessionId(1), turn: 1 };
    const turn = { turn: 1, input_id: inputId('in_1'), attempt: 1 };
    await before.append({ events: [event('turn.started', turn, at), delta('a'), delta('b')] });
    await before.close();
    sql(stateDir, 'UPDATE events SET crc = 0 WHERE seq = 6');
    repairOffline(options(stateDir));
    const store = await open(stateDir);
    expect(await store.listUnfinished()).toEqual([]);
    const { events } = await store.readEvents(sessionId(1), { since: 5, limit: 9 });
    expect(events.map(({ type, data }) => [type, data])).toEqual([
      ['turn.completed', expect.objectContaining({ outcome: 'failed', input_id: 'in_1' })],
      ['input.quarantined', expect.objectContaining({ input_id: 'in_2' })],
    ]);
    expect((await store.verify()).problems).toEqual([]);
    await store.close();
  });

  it('an outcome in its spool answers nothing that gets the same number (regression)', () => {
    const stateDir = flip(1, 5);
    const spoolOf = (n: number) => join(stateDir, 'spool', sessionId(n));
    for (const spool of [spoolOf(1), spoolOf(2)]) {
      mkdirSync(spool, { recursive: true });
      writeFileSync(join(spool, '1.1-1.log'), 'an outcome');
    }
    expect(repairOffline(options(stateDir)).mended).toMatchObject([{ session: sessionId(1) }]);
    expect([1, 2].map((n) => existsSync(spoolOf(n)))).toEqual([false, true]);
    const [aside = ''] = readdirSync(stateDir).filter((name) => name.startsWith('repaired-'));
    const kept = join(stateDir, aside, 'spool', sessionId(1), '1.1-1.log');
    expect(readFileSync(kept, 'utf8')).toBe('an outcome');
  });
});

describe('where nothing can be done', () => {
  it('no journal, no session, a running supervisor, no database: each is named', async () => {
    const empty = makeFolder();
    expect(attempt(() => verifyOffline(options(empty.path)))).toBe('NOT_FOUND');
    expect(attempt(() => repairOffline(options(empty.path)))).toBe('NOT_FOUND');
    const stateDir = makeCopy(() => undefined);
    const session = 'nobody';
    expect(attempt(() => verifyOffline({ ...options(stateDir), session }))).toBe(
      'SESSION_NOT_FOUND',
    );
    const store = await open(stateDir);
    expect(attempt(() => repairOffline(options(stateDir)))).toBe('ALREADY_RUNNING');
    await store.close();
    writeFileSync(join(empty.path, 'journal.db'), 'garbage '.repeat(1000));
    expect(attempt(() => repairOffline(options(empty.path)))).toBe('STORE_CORRUPT');
    expect(readFileSync(join(empty.path, 'journal.db'), 'utf8')).toContain('garbage');
    empty.remove();
  });

  it('a journal of the version before is brought up to date and verified (FAULTS 59)', () => {
    const stateDir = makeCopy(() => undefined);
    sql(
      stateDir,
      'DROP TABLE snapshots; DROP TABLE aside; ALTER TABLE uniques DROP COLUMN event; ' +
        'PRAGMA user_version = 1',
    );
    expect(verifyOffline(options(stateDir))).toMatchObject({ sessions: 3, problems: [] });
    copyFileSync(join(stateDir, 'journal.db'), join(folder.path, 'again.db'));
    expect(readdirSync(stateDir)).toContain('journal.db');
  });
});
