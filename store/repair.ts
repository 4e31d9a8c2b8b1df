/** Mends a journal in place, without a supervisor. Each session keeps its longest valid prefix;
 *  what stood behind it is moved to the table `aside`, never deleted. Its record is folded anew.
 *  Nothing of a shortened session runs again by itself: what became of its open turn and of its
 *  waiting inputs stands in events that are gone, so the turn is closed and the inputs are set
 *  aside, as are outcomes in its spool. The epoch rises when a number may be given twice. A file
 *  whose pages cannot be read is copied first: see salvage.ts. */
import { existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Clock, toTimestamp } from '../base/clock.ts';
import { isPrxError } from '../base/errors.ts';
import { readBootId } from '../base/process.ts';
import { syncPath } from './backup-file.ts';
import type { SessionRecord } from './contract.ts';
import { foldRow, SYSTEM } from './fold-row.ts';
import { insertRecord, updateRecord } from './heads.ts';
import { describeLost, findLost, forgetHighMark, type Lost } from './high-mark.ts';
import { toProblem } from './integrity.ts';
import { type JournalFile, openJournalFile, raiseEpoch } from './journal-file.ts';
import { acquireLock } from './lock.ts';
import { writeMeta } from './meta.ts';
import { assertJournal, journalPath, type OfflineOptions } from './offline.ts';
import { findSession, resolveSession } from './reader.ts';
import { listJournals, type Place, walk } from './reader-verify.ts';
import { findSalvage, forgetSalvage, type Salvage, salvageIfUnreadable } from './salvage.ts';
import type { Database } from './sqlite.ts';
import { prepareStateDir } from './state-dir.ts';
import type { Problem, WireEvent } from './thread-protocol.ts';
import { Writer } from './writer.ts';

export interface RepairReport {
  readonly sessions: number;
  readonly mended: readonly Mended[];
  /** Set when the file had pages that cannot be read: where it is kept. */
  readonly salvage: Salvage | undefined;
  /** Set when the newest events were gone with the log: what was said of it. */
  readonly lost: string | undefined;
}

export interface Mended {
  readonly session: string;
  readonly problem: string;
  /** Events that stay; the session is gone when none does. */
  readonly kept: number;
  /** Rows that were moved aside. */
  readonly moved: number;
  /** True: events are gone from it. False: only its record was wrong. */
  readonly lost: boolean;
}

const STEP_EVENTS = 5000;

/** Idempotent. Throws NOT_FOUND, ALREADY_RUNNING, SESSION_NOT_FOUND; STORE_CORRUPT when the file
 *  cannot be read at all. */
export function repairOffline(options: OfflineOptions): RepairReport {
  const stateDir = prepareStateDir(options.stateDir);
  const path = journalPath(stateDir);
  assertJournal(path);
  const lock = acquireLock(stateDir, options.clock);
  try {
    const movedAt = toTimestamp(options.clock.wallMs());
    const lost = findLost(path, readBootId());
    if (lost !== undefined) closeLost(stateDir, lost, options.clock);
    const salvaged = salvageIfUnreadable(path, movedAt);
    const file = openJournalFile(path, { mode: 'keep' });
    try {
      const salvage = salvaged ?? findSalvage(file.db);
      const report = repairFile(file, options, { stateDir, movedAt, salvage });
      forgetHighMark(path);
      return { ...report, lost: lost === undefined ? undefined : describeClosed(lost) };
    } finally {
      file.db.close();
    }
  } finally {
    lock.release();
  }
}

/** At a start, under its lock, when the newest events are gone with the log that held them: which
 *  sessions had some, nobody knows. What is left is whole; but what was under way in it may have
 *  gone on, and its spools may answer what has a number for the second time. */
export function closeLost(stateDir: string, lost: Lost, clock: Clock): void {
  const timeMs = clock.wallMs();
  const file = openJournalFile(journalPath(stateDir), { mode: 'keep' });
  try {
    const { db } = file;
    const spools = join(stateDir, 'spool');
    moveSpools(stateDir, existsSync(spools) ? readdirSync(spools) : [], toTimestamp(timeMs));
    db.transaction('write', () => {
      const by = Math.max(1, lost.epoch + 1 - file.epoch);
      const writer = new Writer({ ...file, epoch: raiseEpoch(db, file.lastId, { by }) });
      const sessions = listJournals(db).filter((session) => session !== SYSTEM);
      for (const session of sessions) closeUndamaged(writer, session, timeMs);
      const data = { reason: describeClosed(lost) };
      append(writer, timeMs, { session: SYSTEM, type: 'store.repaired', data });
    });
  } finally {
    file.db.close();
  }
}

function describeClosed(lost: Lost): string {
  return `${describeLost(lost)}; what was open is closed`;
}

/** A damaged one takes no input anyway, and is for `journal repair`. */
function closeUndamaged(writer: Writer, session: string, timeMs: number): void {
  try {
    closeOpenWork(writer, session, timeMs);
  } catch (error) {
    if (!isPrxError(error, 'STORE_CORRUPT')) throw error;
  }
}

interface Given {
  readonly stateDir: string;
  readonly movedAt: string;
  readonly salvage: Salvage | undefined;
}

function repairFile(
  file: JournalFile,
  { session: ref, clock }: OfflineOptions,
  { stateDir, movedAt, salvage }: Given,
): Omit<RepairReport, 'lost'> {
  const { db } = file;
  // What a bad page held is nobody's to know: behind a salvage each session is looked at.
  const isOne = ref !== undefined && salvage === undefined;
  const journals = isOne ? [findName(db, ref)] : listAll(db);
  const faults = journals.flatMap((session) => findFault(db, session));
  if (faults.length === 0 && salvage === undefined) {
    return { sessions: journals.length, mended: [], salvage };
  }
  const shortened = toShortened(faults, salvage, journals);
  moveSpools(stateDir, shortened, movedAt);
  const mended = db.transaction('write', () => {
    const epoch = raiseEpoch(db, file.lastId);
    const writer = new Writer({ ...file, epoch });
    const done = faults.map((fault) => mend(writer, fault, movedAt));
    for (const session of shortened) closeOpenWork(writer, session, clock.wallMs());
    append(writer, clock.wallMs(), {
      session: SYSTEM,
      type: 'store.repaired',
      data: { reason: describe(done, salvage) },
    });
    writeMeta(db, 'clean', '1');
    forgetSalvage(db);
    return done;
  });
  db.pragma('wal_checkpoint(TRUNCATE)');
  return { sessions: journals.length, mended, salvage };
}

function findName(db: Database, ref: string): string {
  if (ref === SYSTEM) return SYSTEM;
  const whole = db.get('SELECT 1 FROM events WHERE session = ?', ref);
  return whole === undefined ? resolveSession(db, ref).id : ref;
}

/** Also sessions whose row is gone; those that are half removed or half copied are no concern. */
function listAll(db: Database): readonly string[] {
  const rows = db.all<{ session: string }>(
    'SELECT DISTINCT session FROM events WHERE session NOT IN (SELECT session FROM unlisted)',
  );
  return [...new Set([...listJournals(db), ...rows.map(({ session }) => session)])];
}

interface Fault {
  readonly problem: Problem;
  /** False: only the record is wrong. */
  readonly lost: boolean;
  /** The end of the longest valid prefix. */
  readonly place: Pick<Place, 'session' | 'seq' | 'link' | 'record'>;
}

function findFault(db: Database, session: string): readonly Fault[] {
  let step = {
    session,
    seq: 0,
    link: '',
    record: null as SessionRecord | null,
    limit: STEP_EVENTS,
  };
  for (;;) {
    let place: Place;
    try {
      place = walk(db, step);
    } catch (error) {
      // The snapshot, or a fold, refuses: nothing of the session can be relied on.
      const nothing = { session, seq: 0, link: '', record: undefined };
      return [{ problem: toProblem(session, error), place: nothing, lost: true }];
    }
    if (place.problem !== undefined) return [{ problem: place.problem, place, lost: true }];
    if (place.isEnd) return findRecordFault(db, place);
    step = { ...step, seq: place.seq, link: place.link, record: place.record ?? null };
  }
}

function findRecordFault(db: Database, place: Place): readonly Fault[] {
  const { session, seq, record } = place;
  if (session === SYSTEM) return [];
  try {
    const stored = findSession(db, session);
    const isSame = isDeepStrictEqual(toPlain(stored), toPlain(record));
    if (isSame && (seq > 0 || !hasRow(db, session))) return [];
    const problem = 'the session record differs from what its events say';
    return [{ problem: { session, seq, problem }, place, lost: false }];
  } catch (error) {
    // A record that is newer than the events tells that there were more.
    const lost = isPrxError(error) && error.data['lost'] === true;
    return [{ problem: toProblem(session, error), place, lost }];
  }
}

function hasRow(db: Database, session: string): boolean {
  return db.get('SELECT 1 FROM sessions WHERE id = ?', session) !== undefined;
}

function toPlain(record: SessionRecord | undefined): unknown {
  return record === undefined ? undefined : JSON.parse(JSON.stringify(record));
}

function mend(writer: Writer, { problem, place, lost }: Fault, movedAt: string): Mended {
  const { db } = writer;
  const { session, seq, link, record } = place;
  const moved = moveAside(db, { session, seq, movedAt, reason: problem.problem });
  db.run('DELETE FROM uniques WHERE session = ? AND seq > ?', session, seq);
  const isGone = session !== SYSTEM && record === undefined;
  if (isGone) {
    db.run('DELETE FROM sessions WHERE id = ?', session);
    db.run('DELETE FROM snapshots WHERE session = ?', session);
  } else if (record !== undefined) putRecord(db, record);
  writer.heads.set(session, { lastSeq: seq, link, record: isGone ? undefined : record });
  return { session, problem: problem.problem, kept: seq, moved, lost };
}

/** After a salvage nobody knows which sessions lost their newest events. */
function toShortened(
  faults: readonly Fault[],
  salvage: Salvage | undefined,
  journals: readonly string[],
): readonly string[] {
  const lost = faults.filter((fault) => fault.lost).map(({ place }) => place.session);
  const shortened = salvage === undefined ? lost : journals;
  return shortened.filter((session) => session !== SYSTEM);
}

/** The next turns get numbers that were given before: an outcome of then must not answer an effect
 *  that has the same one. Before the journal is mended: until then nothing of its session runs. */
function moveSpools(stateDir: string, sessions: readonly string[], movedAt: string): void {
  const aside = join(stateDir, `repaired-${movedAt.replaceAll(':', '')}`, 'spool');
  for (const session of sessions) {
    const spool = join(stateDir, 'spool', session);
    if (!existsSync(spool)) continue;
    mkdirSync(aside, { recursive: true, mode: 0o700 });
    renameSync(spool, join(aside, session));
    syncPath(dirname(spool));
  }
}

/** The record that was stored goes along, when its session does not keep it as it was. */
function moveAside(
  db: Database,
  at: { session: string; seq: number; movedAt: string; reason: string },
): number {
  const { session, seq, movedAt, reason } = at;
  db.run(
    'INSERT INTO aside (moved_at, reason, session, seq, type, data) ' +
      "SELECT ?, ?, id, 0, 'record', record FROM sessions WHERE id = ?",
    movedAt,
    reason,
    session,
  );
  const moved = db.run(
    'INSERT INTO aside (moved_at, reason, id, session, seq, epoch, time_ms, type, turn, ref, ' +
      'power, crc, hash, data) SELECT ?, ?, id, session, seq, epoch, time_ms, type, turn, ref, ' +
      'power, crc, hash, data FROM events WHERE session = ? AND seq > ? ORDER BY seq',
    movedAt,
    reason,
    session,
    seq,
  );
  db.run('DELETE FROM events WHERE session = ? AND seq > ?', session, seq);
  return moved;
}

function putRecord(db: Database, record: SessionRecord): void {
  if (hasRow(db, record.id)) {
    updateRecord(db, record);
    return;
  }
  const first = db.get<{ id: number | null }>(
    'SELECT min(id) AS id FROM events WHERE session = ?',
    record.id,
  );
  insertRecord(db, record, first?.id ?? 0);
}

/** What was under way in a session that lost events must not run again. */
function closeOpenWork(writer: Writer, session: string, timeMs: number): void {
  const { record, lastSeq } = writer.heads.get(session);
  if (record === undefined) return;
  const reason = `the journal was repaired: events behind ${lastSeq} were lost`;
  const { open_turn: open } = record;
  if (open !== undefined) {
    const { turn, input_id, usage, cost_usd, steps } = open;
    const data = { turn, input_id, outcome: 'failed', reason, usage, cost_usd, steps };
    append(writer, timeMs, { session, type: 'turn.completed', turn, data });
  }
  for (const { input_id } of record.queued) {
    const data = { input_id, reason };
    append(writer, timeMs, { session, type: 'input.quarantined', ref: input_id, data });
  }
  if (record.state !== 'awaiting') return;
  const data = { from: 'awaiting', to: 'running', reason };
  append(writer, timeMs, { session, type: 'session.state', data });
}

interface OwnEvent {
  readonly session: string;
  readonly type: string;
  readonly turn?: number;
  readonly ref?: string;
  readonly data: unknown;
}

function append(writer: Writer, timeMs: number, own: OwnEvent): void {
  const { session, type, turn = null, ref = null, data } = own;
  const event: WireEvent = { session, type, turn, ref, power: true, data: JSON.stringify(data) };
  const head = writer.heads.get(session);
  const row = writer.toRow(event, head, timeMs, writer.lastId + 1);
  const record = foldRow(head.record, row);
  writer.insert(row);
  writer.heads.set(session, { lastSeq: row.seq, link: row.hash, record });
  if (record !== undefined) updateRecord(writer.db, record);
}

function describe(mended: readonly Mended[], salvage: Salvage | undefined): string {
  const moved = mended.reduce((sum, each) => sum + each.moved, 0);
  const parts = [`${mended.length} sessions mended, ${moved} rows moved aside`];
  if (salvage !== undefined) {
    parts.push(`${salvage.events} events read from a damaged file, kept as ${salvage.kept}`);
  }
  return `journal repair: ${parts.join('; ')}`;
}
