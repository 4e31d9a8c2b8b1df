/** Removing and copying whole sessions, in short steps: a step is one transaction of bounded
 *  size, so other sessions' appends pass in between. While it is under way the session is
 *  `unlisted`: nothing shows it, and a start after a death removes what is left. */
import { PrxError } from '../base/errors.ts';
import type { SessionId } from '../protocol/ids.ts';
import type { SessionRecord } from './contract.ts';
import { foldRow } from './fold-row.ts';
import { insertRecord } from './heads.ts';
import { checkRow, corruptError, type EventRow } from './integrity.ts';
import { writeMeta } from './meta.ts';
import { findLink, goneError } from './reader.ts';
import { findRemoved, findSnapshot, putSnapshot, toSnapshotRow } from './snapshot.ts';
import { keepSpending } from './spending.ts';
import type { Database } from './sqlite.ts';
import type { ForkStep, StepReport } from './thread-protocol.ts';
import type { Writer } from './writer.ts';

const STEP_ROWS_MAX = 500;
const STEP_BYTES_MAX = 4 * 1024 * 1024;

/** One step of removing `session`. Idempotent; a session that is not there is done. */
export function deleteStep(writer: Writer, session: string): StepReport<null> {
  const { db } = writer;
  return writer.write(() => {
    writer.heads.forget(session);
    db.run('INSERT OR IGNORE INTO unlisted (session) VALUES (?)', session);
    keepSpending(db, session);
    db.run('DELETE FROM sessions WHERE id = ?', session);
    db.run('DELETE FROM uniques WHERE session = ?', session);
    db.run('DELETE FROM snapshots WHERE session = ?', session);
    db.run('DELETE FROM aside WHERE session = ?', session);
    // A number that a removed event had is not given again: cursors over all sessions rely on it.
    writeMeta(db, 'last_id', String(writer.lastId));
    const removed = db.run(
      'DELETE FROM events WHERE id IN (SELECT id FROM events WHERE session = ? LIMIT ?)',
      session,
      STEP_ROWS_MAX,
    );
    if (removed === STEP_ROWS_MAX) return { done: false, value: null };
    db.run('DELETE FROM unlisted WHERE session = ?', session);
    return { done: true, value: null };
  });
}

/** Removes what a death left half removed or half copied. */
export function removeUnlisted(writer: Writer): void {
  for (const { session } of writer.db.all<{ session: string }>('SELECT session FROM unlisted')) {
    while (!deleteStep(writer, session).done);
  }
}

/** One step of copying `from` up to `seq` as `to`; the last one appends session.created and makes
 *  it visible. Throws SESSION_NOT_FOUND, INVALID_REQUEST, CURSOR_GONE, STORE_CORRUPT. */
export function forkStep(writer: Writer, step: ForkStep): StepReport<SessionRecord> {
  return writer.write(() => {
    const { from, to, seq } = step;
    const source = writer.heads.get(from);
    if (source.record === undefined) {
      throw new PrxError('SESSION_NOT_FOUND', `there is no session ${from}`);
    }
    checkFork(writer, step, source.lastSeq);
    writer.db.run('INSERT OR IGNORE INTO unlisted (session) VALUES (?)', to);
    const record = copyRows(writer, step.record === null ? startFork(writer, step) : step);
    if (writer.heads.get(to).lastSeq < seq) return { done: false, value: record };
    return { done: true, value: finishFork(writer, step, record) };
  });
}

/** A copy of a session whose first events are gone begins at what stands for them. */
function startFork(writer: Writer, step: ForkStep): ForkStep {
  const { from, to, seq } = step;
  const snapshot = findSnapshot(writer.db, from);
  if (snapshot === undefined) return step;
  if (seq < snapshot.fork_from) throw goneError(from, snapshot.fork_from);
  const record = { ...snapshot.record, id: to as SessionId };
  const row = toSnapshotRow({ ...snapshot, session: to, record });
  putSnapshot(writer.db, { ...row, trim: snapshot.trim });
  writer.heads.forget(to);
  return { ...step, record };
}

function checkFork(writer: Writer, { from, to, seq, record }: ForkStep, lastSeq: number): void {
  if (!Number.isSafeInteger(seq) || seq < 1 || seq > lastSeq) {
    throw new PrxError(
      'INVALID_REQUEST',
      `cannot fork ${from} at event ${seq}: it has the events 1 to ${lastSeq}`,
      { data: { seq, last_seq: lastSeq } },
    );
  }
  if (record === null && writer.heads.get(to).lastSeq > 0) {
    throw new PrxError('INVALID_REQUEST', `cannot fork ${from} as ${to}: it exists already`);
  }
}

function copyRows(writer: Writer, { from, to, seq, record: before }: ForkStep): SessionRecord {
  let head = writer.heads.get(to);
  let record = before ?? undefined;
  let bytes = 0;
  let link = findLink(writer.db, from, head.lastSeq);
  const rows = writer.db.all<EventRow>(
    'SELECT * FROM events WHERE session = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?',
    from,
    head.lastSeq,
    seq,
    STEP_ROWS_MAX,
  );
  if (rows.length === 0 && head.lastSeq < seq) throw findGap(writer.db, from, head.lastSeq);
  for (const source of rows) {
    if (bytes > STEP_BYTES_MAX) break;
    // The copy numbers anew: what is missing here would not be missed there.
    if (source.seq !== head.lastSeq + 1) throw findGap(writer.db, from, head.lastSeq);
    checkRow(source, link);
    link = source.hash;
    const event = { ...source, session: to, power: source.power === 1 };
    const row = writer.toRow(event, head, source.time_ms, writer.lastId + 1);
    record = foldRow(record, row);
    writer.insert(row);
    bytes += row.data.length;
    // No record yet: until it is finished the copy is no session that could be appended to.
    head = { lastSeq: row.seq, link: row.hash, record: undefined };
  }
  writer.heads.set(to, head);
  if (record === undefined) throw new PrxError('SESSION_NOT_FOUND', `there is no session ${from}`);
  return record;
}

/** Why the event behind this one is not there. */
function findGap(db: Database, from: string, seq: number): PrxError {
  const removed = findRemoved(db, from);
  if (removed === undefined || removed.seq <= seq) {
    return corruptError(from, seq + 1, 'it is missing');
  }
  const message = `retention removed events of ${from} while it was copied; fork it again`;
  return new PrxError('CURSOR_GONE', message, {
    data: { session: from, first_seq: removed.seq + 1 },
  });
}

/** The copy's own session.created. A workspace that it shares with the original is not the copy's
 *  to remove. */
function finishFork(writer: Writer, step: ForkStep, copied: SessionRecord): SessionRecord {
  const { to, from, seq, name, timeMs } = step;
  const head = writer.heads.get(to);
  const data = {
    ...(name === null ? {} : { name }),
    agent: copied.agent,
    ...(copied.model === undefined ? {} : { model: copied.model }),
    workspace: step.workspace ?? copied.workspace,
    private_workspace: step.workspace !== null,
    labels: copied.labels,
    limits: copied.limits,
    approve: copied.approve,
    source: 'fork',
    forked_from: { session: from, seq },
  };
  const event = {
    session: to,
    type: 'session.created',
    turn: null,
    ref: null,
    power: true,
    data: JSON.stringify(data),
  };
  const row = writer.toRow(event, head, timeMs, writer.lastId + 1);
  // The copied events were folded under the copy's own id.
  const record = foldRow({ ...copied, id: to as SessionId }, row);
  if (record === undefined) throw new PrxError('INTERNAL', `${to} has no record after its fork`);
  writer.insert(row);
  insertRecord(writer.db, record, row.id);
  writer.db.run('DELETE FROM unlisted WHERE session = ?', to);
  writer.heads.set(to, { lastSeq: row.seq, link: row.hash, record });
  return record;
}
