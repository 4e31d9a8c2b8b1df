/** Answers questions from a read-only connection. Each answer comes from one snapshot, each row
 *  is checked before it is shown, and each answer says which power-durable event it must not
 *  outrun: the main thread holds it back until that event is synced. */
import { PrxError } from '../base/errors.ts';
import type { SessionProblem, SessionRecord } from './contract.ts';
import { toEnvelopeJson, toJsonArray } from './envelope.ts';
import { readRecord, type SessionRow } from './heads.ts';
import { CHAIN_START, checkRow, corruptError, type EventRow, findDamage } from './integrity.ts';
import { readMeta } from './meta.ts';
import { findRemoved } from './snapshot.ts';
import { type Database, findTrouble } from './sqlite.ts';
import type { ReaderTasks, WireReadOptions } from './thread-protocol.ts';

const PAGE_EVENTS_MAX = 1000;
/** A page may exceed it by its last event. */
const PAGE_BYTES_MAX = 4 * 1024 * 1024;
/** How far a page with a filter looks for something that matches. */
const SCAN_EVENTS_MAX = 20_000;
const SESSIONS_MAX = 10_000;
const CANDIDATES_MAX = 10;

interface LastRow {
  readonly seq: number;
  readonly epoch: number;
  readonly time_ms: number;
}

export interface Answer {
  readonly json: string;
  readonly powerId: number;
}

/** Newest power-durable event beyond what is known to be synced; of one session or of all. */
export function findPowerId(db: Database, safeId: number, session?: string): number {
  const row = db.get<{ id: number | null }>(
    'SELECT max(id) AS id FROM events WHERE id > ? AND power = 1 AND (?2 IS NULL OR session = ?2)',
    safeId,
    session ?? null,
  );
  return row?.id ?? 0;
}

export function readEvents(db: Database, options: WireReadOptions, safeId: number): Answer {
  const { session, since } = options;
  const last = findLast(db, session);
  if (last === undefined) {
    if (session !== 'system') throw sessionNotFound(session);
    if (since > 0) throw superseded(db, session, 0);
    return { json: '{"events":[],"next":0,"last_seq":0}', powerId: 0 };
  }
  checkRetained(db, options);
  checkCursor(db, options, last);
  const isFiltered = options.types !== null;
  const end = isFiltered ? Math.min(last.seq, since + SCAN_EVENTS_MAX) : last.seq;
  const limit = Math.max(1, Math.min(options.limit, PAGE_EVENTS_MAX));
  const rows = readPage(db, options, end, limit);
  const isWhole = rows.length < limit && countBytes(rows) <= PAGE_BYTES_MAX;
  const next = isWhole ? end : (rows.at(-1)?.seq ?? end);
  const events = toJsonArray(rows.map(toEnvelopeJson));
  return {
    json: `{"events":${events},"next":${next},"last_seq":${last.seq}}`,
    powerId: highestPower(rows, safeId),
  };
}

/** Without a filter the page must be gapless and continue the hash chain. */
function readPage(
  db: Database,
  { session, since, types }: WireReadOptions,
  end: number,
  limit: number,
): readonly EventRow[] {
  const rows = db.iterate<EventRow>(
    'SELECT * FROM events WHERE session = ?1 AND seq > ?2 AND seq <= ?3 ' +
      'AND (?4 IS NULL OR type IN (SELECT value FROM json_each(?4))) ORDER BY seq LIMIT ?5',
    session,
    since,
    end,
    types === null ? null : JSON.stringify(types),
    limit,
  );
  const page: EventRow[] = [];
  let bytes = 0;
  let link = types === null ? findLink(db, session, since) : undefined;
  for (const row of rows) {
    if (types === null && row.seq !== since + page.length + 1) {
      throw corruptError(session, since + page.length + 1, 'it is missing');
    }
    checkRow(row, link);
    if (types === null) link = row.hash;
    page.push(row);
    bytes += row.data.length;
    if (bytes > PAGE_BYTES_MAX) break;
  }
  return page;
}

function countBytes(rows: readonly EventRow[]): number {
  return rows.reduce((sum, row) => sum + row.data.length, 0);
}

/** Newest of these beyond what is known to be synced; 0: none. */
export function highestPower(rows: readonly EventRow[], safeId: number): number {
  return rows.reduce((id, row) => (row.power === 1 && row.id > safeId ? row.id : id), 0);
}

/** Of this event, or of what stands for it; undefined: neither is there. */
export function findLink(db: Database, session: string, seq: number): string | undefined {
  if (seq === 0) return CHAIN_START;
  const row = db.get<{ hash: string }>(
    'SELECT hash FROM events WHERE session = ? AND seq = ?',
    session,
    seq,
  );
  if (row !== undefined) return row.hash;
  const removed = findRemoved(db, session);
  return removed?.seq === seq ? removed.link : undefined;
}

/** Throws CURSOR_GONE when retention removed an event that the reader asks for. */
function checkRetained(db: Database, { session, since }: WireReadOptions): void {
  const removed = findRemoved(db, session);
  if (removed === undefined || since >= removed.seq) return;
  throw goneError(session, removed.seq + 1);
}

export function goneError(session: string, firstSeq: number): PrxError {
  return new PrxError(
    'CURSOR_GONE',
    `retention removed the events of ${session} before ${firstSeq}; read on from ` +
      `since=${firstSeq - 1}`,
    { data: { session, first_seq: firstSeq } },
  );
}

/** A cursor is good when the event it stands on was there in the epoch it comes from. */
function checkCursor(
  db: Database,
  { session, since, epoch }: WireReadOptions,
  last: LastRow,
): void {
  const isBeyond = since > last.seq;
  if (epoch === null && isBeyond) throw superseded(db, session, last.seq);
  if (epoch === null || since === 0) return;
  // This journal is an older copy: how much of what was seen is in it, nobody knows.
  if (epoch > readEpoch(db)) throw superseded(db, session, 0);
  const removed = findRemoved(db, session);
  const at = db.get<{ epoch: number }>(
    'SELECT epoch FROM events WHERE session = ? AND seq = ?',
    session,
    since,
  );
  const stands = at ?? (removed?.seq === since ? removed : undefined);
  if (!isBeyond && (stands === undefined || stands.epoch <= epoch)) return;
  const good = db.get<{ seq: number | null }>(
    'SELECT max(seq) AS seq FROM events WHERE session = ? AND epoch <= ?',
    session,
    epoch,
  )?.seq;
  const isGone = !good && removed !== undefined && removed.epoch > epoch;
  throw isGone
    ? goneError(session, removed.seq + 1)
    : superseded(db, session, good ?? removed?.seq ?? 0);
}

function superseded(db: Database, session: string, lastGoodSeq: number): PrxError {
  const epoch = readEpoch(db);
  return new PrxError(
    'CURSOR_SUPERSEDED',
    `the cursor is beyond what the journal holds of ${session} in epoch ${epoch}; go on from ` +
      `event ${lastGoodSeq}`,
    { data: { epoch, last_good_seq: lastGoodSeq } },
  );
}

function readEpoch(db: Database): number {
  return db.get<{ epoch: number | null }>('SELECT max(epoch) AS epoch FROM epochs')?.epoch ?? 0;
}

export function sessionNotFound(session: string): PrxError {
  return new PrxError('SESSION_NOT_FOUND', `there is no session ${session}`, {
    data: { session },
  });
}

/** The newest event's place; undefined for a session that is not there (any more, or yet). */
function findLast(db: Database, session: string): LastRow | undefined {
  return db.get<LastRow>(
    'SELECT seq, epoch, time_ms FROM events WHERE session = ?1 AND NOT EXISTS ' +
      '(SELECT 1 FROM unlisted WHERE session = ?1) ORDER BY seq DESC LIMIT 1',
    session,
  );
}

/** Commit order over all sessions. The cursor is `epoch.id.trim`: the last number tells which
 *  removals of retention a reader has heard of. */
export function readAll(db: Database, input: ReaderTasks['all'], safeId: number): Answer {
  const after = parseCursor(db, input.cursor);
  const limit = Math.max(1, Math.min(input.limit, PAGE_EVENTS_MAX));
  const rows = db.iterate<EventRow>(
    'SELECT * FROM events WHERE id > ? AND session NOT IN (SELECT session FROM unlisted) ' +
      'ORDER BY id LIMIT ?',
    after,
    limit,
  );
  const page: EventRow[] = [];
  const damaged: SessionProblem[] = [];
  let bytes = 0;
  let lastId = after;
  for (const row of rows) {
    lastId = row.id;
    const { session, seq } = row;
    const problem = findDamage(row, undefined);
    if (problem === undefined) page.push(row);
    else damaged.push({ session, seq, problem });
    bytes += row.data.length;
    if (bytes > PAGE_BYTES_MAX) break;
  }
  const events = toJsonArray(page.map(toEnvelopeJson));
  const write = createCursorWriter(db);
  const cursors = page.map(({ id }) => write(id));
  const rest = JSON.stringify({ cursor: write(lastId), cursors, damaged });
  return { json: `{"events":${events},${rest.slice(1)}`, powerId: highestPower(page, safeId) };
}

function createCursorWriter(db: Database): (id: number) => string {
  const [epoch, trims] = [readEpoch(db), readMeta(db, 'trims') ?? 0];
  return (id) => `${epoch}.${id}.${trims}`;
}

function parseCursor(db: Database, cursor: string | null): number {
  if (cursor === null) return 0;
  const match = /^(\d{1,10})\.(\d{1,15})(?:\.(\d{1,15}))?$/.exec(cursor);
  if (match === null) {
    throw new PrxError('INVALID_REQUEST', `'${cursor.slice(0, 40)}' is no cursor of this api`);
  }
  const [epoch, id] = [Number(match[1]), Number(match[2])];
  const current = readEpoch(db);
  const later = db.get<{ first_id: number | null }>(
    'SELECT min(first_id) AS first_id FROM epochs WHERE epoch > ?',
    epoch,
  );
  const goodId = later?.first_id ? later.first_id - 1 : Number.POSITIVE_INFINITY;
  if (epoch <= current && id <= goodId) {
    checkNothingMissed(db, id, Number(match[3] ?? 0));
    return id;
  }
  throw new PrxError(
    'CURSOR_SUPERSEDED',
    `the cursor is of epoch ${epoch} and beyond what epoch ${current} kept of it; read each ` +
      'session again from its last good event',
    { data: { epoch: current, cursor: createCursorWriter(db)(Math.min(goodId, id)) } },
  );
}

/** Throws CURSOR_GONE when retention removed, since the cursor was given, what comes behind it. */
function checkNothingMissed(db: Database, id: number, trim: number): void {
  const missed = db.get<{ session: string; seq: number }>(
    'SELECT session, seq FROM snapshots WHERE trim > ? AND id > ? LIMIT 1',
    trim,
    id,
  );
  if (missed === undefined) return;
  throw new PrxError(
    'CURSOR_GONE',
    `retention removed events behind this cursor, of ${missed.session} and maybe others; read ` +
      'again without a cursor',
    { data: { session: missed.session, first_seq: missed.seq + 1 } },
  );
}

const selectRecords =
  'SELECT s.id, s.crc, s.record, e.seq, e.time_ms, e.epoch FROM sessions s JOIN events e ' +
  'ON e.session = s.id AND e.seq = (SELECT max(seq) FROM events WHERE session = s.id)';

type RecordRow = SessionRow & LastRow;

/** Throws STORE_CORRUPT. */
export function findSession(db: Database, id: string): SessionRecord | undefined {
  const row = db.get<RecordRow>(`${selectRecords} WHERE s.id = ?`, id);
  return row === undefined ? undefined : readRecord(row, row);
}

export function listSessions(
  db: Database,
  { states, labels, workspace, name }: ReaderTasks['sessions'],
): readonly SessionRecord[] {
  const rows = readRecords(
    db,
    'WHERE (?1 IS NULL OR s.state IN (SELECT value FROM json_each(?1))) ' +
      'ORDER BY s.created_id DESC LIMIT ?2',
    [states === null ? null : JSON.stringify(states), SESSIONS_MAX],
  );
  const wanted = Object.entries(labels);
  return readable(rows).filter(
    (record) =>
      wanted.every(([key, value]) => record.labels[key] === value) &&
      (workspace === null || record.workspace === workspace) &&
      (name === null || record.name === name),
  );
}

export function countSessions(db: Database): Readonly<Record<string, number>> {
  const rows = db.all<{ state: string; count: number }>(
    'SELECT state, count(*) AS count FROM sessions GROUP BY state',
  );
  return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
}

export function listUnfinished(db: Database): readonly SessionRecord[] {
  const where = 'WHERE s.unfinished = 1 ORDER BY s.created_id LIMIT ?';
  return readable(readRecords(db, where, [SESSIONS_MAX]));
}

/** A page of the file that cannot be read takes only the sessions on it along: they are then read
 *  one by one. */
function readRecords(
  db: Database,
  where: string,
  values: readonly (string | number | null)[],
): readonly RecordRow[] {
  try {
    return db.all<RecordRow>(`${selectRecords} ${where}`, ...values);
  } catch (error) {
    if (findTrouble(error) !== 'corrupt') throw error;
    const ids = db.all<{ id: string }>(`SELECT s.id FROM sessions s ${where}`, ...values);
    return ids.flatMap(({ id }) => {
      try {
        return db.all<RecordRow>(`${selectRecords} WHERE s.id = ?`, id);
      } catch {
        return []; // Named by the verification.
      }
    });
  }
}

/** A damaged session does not hide the others: it is left out here, named when it is asked for,
 *  and reported by the verification. */
function readable(rows: readonly RecordRow[]): readonly SessionRecord[] {
  return rows.flatMap((row) => {
    try {
      return [readRecord(row, row)];
    } catch {
      return [];
    }
  });
}

/** Id, name, part of an id, or @last. */
export function resolveSession(db: Database, ref: string): SessionRecord {
  const ids = findIds(db, ref);
  const [id] = ids;
  if (id === undefined) {
    const asked = ref.slice(0, 80);
    throw new PrxError(
      'SESSION_NOT_FOUND',
      `no session has the id or name '${asked}'; \`prx-supervisor ps -a\` lists them all`,
      { data: { ref: asked } },
    );
  }
  if (ids.length > 1) throw ambiguous(db, ref, ids);
  const record = findSession(db, id);
  if (record === undefined) throw sessionNotFound(id);
  return record;
}

function findIds(db: Database, ref: string): readonly string[] {
  const ways: readonly [string, string | null][] = [
    ['ORDER BY created_id DESC LIMIT 1', ref === '@last' ? '' : null],
    ['WHERE id = ?', ref],
    [`WHERE name = ? ORDER BY created_id DESC LIMIT ${CANDIDATES_MAX + 1}`, ref],
    [
      `WHERE instr(id, ?) > 0 ORDER BY created_id DESC LIMIT ${CANDIDATES_MAX + 1}`,
      ref === '' ? null : ref,
    ],
  ];
  for (const [where, value] of ways) {
    if (value === null) continue;
    const values = where.includes('?') ? [value] : [];
    const rows = db.all<{ id: string }>(`SELECT id FROM sessions ${where}`, ...values);
    if (rows.length > 0) return rows.map(({ id }) => id);
  }
  return [];
}

function ambiguous(db: Database, ref: string, ids: readonly string[]): PrxError {
  const candidates = ids.slice(0, CANDIDATES_MAX).flatMap((id) => {
    const row = db.get<{ name: string | null; state: string }>(
      'SELECT name, state FROM sessions WHERE id = ?',
      id,
    );
    return row === undefined ? [] : [{ id, name: row.name ?? undefined, state: row.state }];
  });
  const named = candidates.map(({ id }) => id).join(', ');
  const others = ids.length > CANDIDATES_MAX ? ' and others' : '';
  const message = `'${ref.slice(0, 80)}' means more than one session: ${named}${others}`;
  return new PrxError('SESSION_AMBIGUOUS', `${message}; give a whole id`, { data: { candidates } });
}
