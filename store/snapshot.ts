/** What stands for the events of a session that retention removed. It continues the hash chain in
 *  both directions: its own hash covers the record as it was after event `seq` and the link of that
 *  event, and the first event that is left continues that link. So folds, the verification and a
 *  fork begin here as they would at the first event, and an exchanged record or link is found.
 *  Chained, not keyed: a key beside the file would prove no more, and a backup must verify
 *  wherever it is restored. */
import type { SessionRecord } from './contract.ts';
import { chain, corruptError } from './integrity.ts';
import type { Database } from './sqlite.ts';

export interface SnapshotRow {
  readonly session: string;
  /** The newest event that was removed. */
  readonly seq: number;
  /** Its place in commit order. */
  readonly id: number;
  readonly epoch: number;
  /** Its link of the hash chain. */
  readonly link: string;
  /** The session record after it, as JSON. */
  readonly record: string;
  readonly hash: string;
  /** The first event at which a fork has the whole conversation. */
  readonly fork_from: number;
  /** Number of the removal, counted over all sessions: what a cursor has missed. */
  readonly trim: number;
}

export interface Snapshot extends Omit<SnapshotRow, 'record'> {
  readonly record: SessionRecord;
}

export function toSnapshotRow(snapshot: Omit<Snapshot, 'hash' | 'trim'>): SnapshotRow {
  const row = { ...snapshot, record: JSON.stringify(snapshot.record) };
  return { ...row, hash: hashOf(row), trim: 0 };
}

function hashOf(row: Omit<SnapshotRow, 'hash' | 'trim'>): string {
  const { session, seq, id, epoch, fork_from, link, record } = row;
  const place = `${session}\n${seq}\n${id}\n${epoch}\n${fork_from}`;
  return chain(`snapshot\n${place}\n${record}`, link);
}

/** Undefined: nothing was removed. Throws STORE_CORRUPT. */
export function findSnapshot(db: Database, session: string): Snapshot | undefined {
  const row = db.get<SnapshotRow>('SELECT * FROM snapshots WHERE session = ?', session);
  if (row === undefined) return undefined;
  if (hashOf(row) !== row.hash) {
    throw corruptError(session, row.seq, 'the snapshot of its removed events is damaged');
  }
  // Written by putSnapshot, and its hash holds.
  return { ...row, record: JSON.parse(row.record) as SessionRecord };
}

/** Only its place, unchecked: what a read needs to know what is gone. */
export function findRemoved(
  db: Database,
  session: string,
): Pick<SnapshotRow, 'seq' | 'link' | 'epoch'> | undefined {
  return db.get('SELECT seq, link, epoch FROM snapshots WHERE session = ?', session);
}

export function putSnapshot(db: Database, row: SnapshotRow): void {
  db.run(
    'INSERT OR REPLACE INTO snapshots (session, seq, id, epoch, link, record, hash, trim, ' +
      'fork_from) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
    row.session,
    row.seq,
    row.id,
    row.epoch,
    row.link,
    row.record,
    row.hash,
    row.trim,
    row.fork_from,
  );
}
