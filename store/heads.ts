/** The newest state of each session the writer works on: last sequence number, last link of the
 *  hash chain, record. A bounded cache over the journal; a failed transaction empties it. */
import { PrxError } from '../base/errors.ts';
import type { SessionRecord } from './contract.ts';
import { SYSTEM } from './fold-row.ts';
import { isUnfinished } from './fold-session.ts';
import { CHAIN_START, checkRow, corruptError, type EventRow, recordCrc } from './integrity.ts';
import { findRemoved } from './snapshot.ts';
import type { Database } from './sqlite.ts';

export interface Head {
  readonly lastSeq: number;
  readonly link: string;
  /** Undefined: the session does not exist yet, or is the system's. */
  readonly record: SessionRecord | undefined;
}

export interface SessionRow {
  readonly id: string;
  readonly crc: number;
  readonly record: string;
}

/** Sessions kept in memory; a record is about 1 KiB. */
const HEADS_MAX = 2048;

export class Heads {
  readonly #db: Database;
  readonly #heads = new Map<string, Head>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** Throws STORE_CORRUPT when the session's newest row or its record is damaged. */
  get(session: string): Head {
    const head = this.#heads.get(session) ?? this.#load(session);
    this.set(session, head);
    return head;
  }

  set(session: string, head: Head): void {
    // Deleted first, so that the map's order is the order of use.
    this.#heads.delete(session);
    this.#heads.set(session, head);
    if (this.#heads.size <= HEADS_MAX) return;
    const [oldest] = this.#heads.keys();
    if (oldest !== undefined) this.#heads.delete(oldest);
  }

  forget(session: string): void {
    this.#heads.delete(session);
  }

  clear(): void {
    this.#heads.clear();
  }

  #load(session: string): Head {
    const rows = this.#db.all<EventRow>(
      'SELECT * FROM events WHERE session = ? ORDER BY seq DESC LIMIT 2',
      session,
    );
    const [last, previous] = rows;
    const stored = this.#db.get<SessionRow>(
      'SELECT id, crc, record FROM sessions WHERE id = ?',
      session,
    );
    if (last === undefined) {
      if (stored !== undefined) throw corruptError(session, 0, 'its events are missing');
      // A copy under way of a session whose first events are gone begins behind them.
      const removed = findRemoved(this.#db, session);
      return { lastSeq: removed?.seq ?? 0, link: removed?.link ?? CHAIN_START, record: undefined };
    }
    // The system's session goes on behind its damage: see damage-list.ts.
    if (session !== SYSTEM) checkRow(last, previous?.hash ?? findStart(this.#db, last));
    const record = stored === undefined ? undefined : readRecord(stored, last);
    return { lastSeq: last.seq, link: last.hash, record };
  }
}

/** The link before the first event that is left, or undefined when it is another event. */
export function findStart(db: Database, row: EventRow): string | undefined {
  if (row.seq === 1) return CHAIN_START;
  const removed = findRemoved(db, row.session);
  return removed?.seq === row.seq - 1 ? removed.link : undefined;
}

/** The record of a session row, brought up to its newest event. Throws STORE_CORRUPT. */
export function readRecord(
  row: SessionRow,
  last: Pick<EventRow, 'seq' | 'time_ms' | 'epoch'>,
): SessionRecord {
  if (recordCrc(row.id, row.record) !== row.crc) {
    throw corruptError(row.id, last.seq, 'the checksum of the session record does not match');
  }
  // Written by writeRecord, and the checksum holds.
  const record = JSON.parse(row.record) as SessionRecord;
  if (record.last_seq > last.seq) {
    const problem = `events up to ${record.last_seq} were there once`;
    throw corruptError(row.id, last.seq, problem, { lost: true });
  }
  const updatedAt = new Date(last.time_ms).toISOString();
  return { ...record, last_seq: last.seq, epoch: last.epoch, updated_at: updatedAt };
}

export function insertRecord(db: Database, record: SessionRecord, createdId: number): void {
  const text = JSON.stringify(record);
  db.run(
    'INSERT INTO sessions (id, created_id, name, state, unfinished, crc, record) ' +
      'VALUES (?, ?, ?, ?, ?, ?, ?)',
    record.id,
    createdId,
    record.name ?? null,
    record.state,
    isUnfinished(record) ? 1 : 0,
    recordCrc(record.id, text),
    text,
  );
}

export function updateRecord(db: Database, record: SessionRecord): void {
  const text = JSON.stringify(record);
  const changes = db.run(
    'UPDATE sessions SET name = ?, state = ?, unfinished = ?, crc = ?, record = ? WHERE id = ?',
    record.name ?? null,
    record.state,
    isUnfinished(record) ? 1 : 0,
    recordCrc(record.id, text),
    text,
    record.id,
  );
  if (changes !== 1) throw new PrxError('SESSION_NOT_FOUND', `there is no session ${record.id}`);
}
