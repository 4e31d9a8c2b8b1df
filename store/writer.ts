/** The one writer. A batch of append requests is one transaction: sequence numbers, hash chain,
 *  unique claims and projections together, or nothing. A request that is refused (no such
 *  session, a damaged one) leaves the others of its batch alone: it is decided before anything
 *  of it is written. Answers after COMMIT; who needs the sync asks for it (wal-sync.ts). */
import { toEnvelopeJson } from './envelope.ts';
import { foldRow } from './fold-row.ts';
import { changesRecord } from './fold-session.ts';
import { type Head, Heads, insertRecord, updateRecord } from './heads.ts';
import { checkRow, type EventRow, seal } from './integrity.ts';
import type { JournalFile } from './journal-file.ts';
import type { Database } from './sqlite.ts';
import {
  type CommitReport,
  type Outcome,
  toWireError,
  type WireEvent,
  type WireRequest,
} from './thread-protocol.ts';

export interface ClaimRow {
  readonly digest: string;
  readonly session: string;
  readonly seq: number;
  /** The claim's event as JSON, when retention removed its row. */
  readonly event: string | null;
}

interface Plan {
  readonly rows: readonly EventRow[];
  readonly heads: ReadonlyMap<string, Head>;
  /** Sessions whose record says something new, and with which event they began, if here. */
  readonly changed: ReadonlySet<string>;
  readonly created: ReadonlyMap<string, number>;
}

export class Writer {
  readonly db: Database;
  readonly epoch: number;
  readonly heads: Heads;
  #lastId: number;
  #lastPowerId: number;
  #writtenBytes = 0;

  constructor({ db, epoch, lastId }: JournalFile) {
    this.db = db;
    this.epoch = epoch;
    this.heads = new Heads(db);
    this.#lastId = lastId;
    this.#lastPowerId = lastId;
  }

  get lastId(): number {
    return this.#lastId;
  }

  /** Up to here every power-durable event is synced, given what is synced. */
  safeId(syncedId: number): number {
    return this.#lastPowerId > syncedId ? syncedId : this.#lastId;
  }

  /** Commits the batch. Throws the error of SQLite when nothing was written. */
  commit(requests: readonly WireRequest[], syncedId: number): CommitReport {
    const outcomes = this.write(() => {
      const touched = new Set<string>();
      const done = requests.map((request) => this.#append(request, touched));
      for (const session of touched) {
        const { record } = this.heads.get(session);
        if (record !== undefined) updateRecord(this.db, record);
      }
      return done;
    });
    return { outcomes, safeId: this.safeId(syncedId), writtenBytes: this.#writtenBytes };
  }

  /** Runs a transaction; when it fails, what is remembered of it is forgotten. */
  write<T>(work: () => T): T {
    const before = [this.#lastId, this.#lastPowerId, this.#writtenBytes] as const;
    try {
      return this.db.transaction('write', work);
    } catch (error) {
      [this.#lastId, this.#lastPowerId, this.#writtenBytes] = before;
      this.heads.clear();
      throw error;
    }
  }

  /** The row that `event` becomes behind `head`. Takes no id. */
  toRow(event: WireEvent, head: Head, timeMs: number, id: number): EventRow {
    const fields = {
      session: event.session,
      seq: head.lastSeq + 1,
      epoch: this.epoch,
      time_ms: timeMs,
      type: event.type,
      turn: event.turn,
      ref: event.ref,
      power: event.power ? 1 : 0,
      data: event.data,
    };
    return { id, ...fields, ...seal(fields, head.link) };
  }

  insert(row: EventRow): void {
    this.db.run(
      'INSERT INTO events (id, session, seq, epoch, time_ms, type, turn, ref, power, crc, hash, ' +
        'data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      row.id,
      row.session,
      row.seq,
      row.epoch,
      row.time_ms,
      row.type,
      row.turn,
      row.ref,
      row.power,
      row.crc,
      row.hash,
      row.data,
    );
    this.#lastId = row.id;
    if (row.power === 1) this.#lastPowerId = row.id;
    this.#writtenBytes += row.data.length;
  }

  #append(request: WireRequest, touched: Set<string>): Outcome {
    const claimed = request.unique === null ? undefined : this.#findClaim(request.unique);
    if (claimed !== undefined) return claimed;
    let plan: Plan;
    try {
      plan = this.#plan(request);
    } catch (error) {
      return { kind: 'refused', error: toWireError(error) };
    }
    for (const row of plan.rows) this.insert(row);
    for (const [session, head] of plan.heads) this.heads.set(session, head);
    for (const [session, id] of plan.created) {
      const { record } = this.heads.get(session);
      if (record !== undefined) insertRecord(this.db, record, id);
    }
    for (const session of plan.changed) if (!plan.created.has(session)) touched.add(session);
    this.#claim(request, plan.rows);
    return { kind: 'appended', seqs: plan.rows.map(({ seq }) => seq), id: this.#lastId };
  }

  #plan({ events, timeMs }: WireRequest): Plan {
    const heads = new Map<string, Head>();
    const changed = new Set<string>();
    const created = new Map<string, number>();
    const rows = events.map((event, index) => {
      const { session } = event;
      const head = heads.get(session) ?? this.heads.get(session);
      const row = this.toRow(event, head, timeMs, this.#lastId + 1 + index);
      const record = foldRow(head.record, row);
      if (head.record === undefined && record !== undefined) created.set(session, row.id);
      if (changesRecord(row.type)) changed.add(session);
      heads.set(session, { lastSeq: row.seq, link: row.hash, record });
      return row;
    });
    return { rows, heads, changed, created };
  }

  #findClaim(unique: NonNullable<WireRequest['unique']>): Outcome | undefined {
    const claim = this.db.get<ClaimRow>(
      'SELECT digest, session, seq, event FROM uniques WHERE scope = ? AND key = ?',
      unique.scope,
      unique.key,
    );
    if (claim === undefined) return undefined;
    const sameDigest = claim.digest === unique.digest;
    if (claim.event !== null) {
      return { kind: 'duplicate', event: claim.event, id: 0, sameDigest };
    }
    const row = this.db.get<EventRow>(
      'SELECT * FROM events WHERE session = ? AND seq = ?',
      claim.session,
      claim.seq,
    );
    if (row === undefined) return undefined;
    checkRow(row);
    return { kind: 'duplicate', event: toEnvelopeJson(row), id: row.id, sameDigest };
  }

  #claim({ unique }: WireRequest, [first]: readonly EventRow[]): void {
    if (unique === null || first === undefined) return;
    this.db.run(
      'INSERT OR REPLACE INTO uniques (scope, key, digest, session, seq) VALUES (?, ?, ?, ?, ?)',
      unique.scope,
      unique.key,
      unique.digest,
      first.session,
      first.seq,
    );
  }
}
