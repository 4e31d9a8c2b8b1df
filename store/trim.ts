/** Removes the first events of a session behind their snapshot, in short steps. The snapshot comes
 *  first: from then on the events count as removed, and a start after a death goes on with it. */
import { toEnvelopeJson } from './envelope.ts';
import { checkRow, type EventRow } from './integrity.ts';
import { readMeta, writeMeta } from './meta.ts';
import { findRemoved, putSnapshot, type SnapshotRow } from './snapshot.ts';
import type { StepReport } from './thread-protocol.ts';
import type { Writer } from './writer.ts';

const STEP_ROWS_MAX = 500;
const STEP_CLAIMS_MAX = 500;

export function trimStep(writer: Writer, snapshot: SnapshotRow): StepReport<null> {
  const { db } = writer;
  const { session, seq } = snapshot;
  return writer.write(() => {
    const removed = findRemoved(db, session)?.seq ?? 0;
    // Removed as a whole meanwhile, or less than is gone already.
    if (writer.heads.get(session).lastSeq <= seq || removed > seq) return done;
    if (removed < seq) {
      const trim = Number(readMeta(db, 'trims') ?? 0) + 1;
      writeMeta(db, 'trims', String(trim));
      putSnapshot(db, { ...snapshot, trim });
    }
    if (keepClaims(writer, snapshot) === STEP_CLAIMS_MAX) return more;
    const count = db.run(
      'DELETE FROM events WHERE id IN ' +
        '(SELECT id FROM events WHERE session = ? AND seq <= ? LIMIT ?)',
      session,
      seq,
      STEP_ROWS_MAX,
    );
    return count === STEP_ROWS_MAX ? more : done;
  });
}

const done: StepReport<null> = { done: true, value: null };
const more: StepReport<null> = { done: false, value: null };

/** An idempotency key is honoured for as long as its session lives: its event outlives its row. */
function keepClaims({ db }: Writer, { session, seq }: SnapshotRow): number {
  const claims = db.all<{ scope: string; key: string; seq: number }>(
    'SELECT scope, key, seq FROM uniques WHERE session = ? AND seq <= ? AND event IS NULL LIMIT ?',
    session,
    seq,
    STEP_CLAIMS_MAX,
  );
  for (const claim of claims) {
    const row = db.get<EventRow>(
      'SELECT * FROM events WHERE session = ? AND seq = ?',
      session,
      claim.seq,
    );
    if (row === undefined) {
      // A repair took it out of the session: nothing was accepted under this key.
      db.run('DELETE FROM uniques WHERE scope = ? AND key = ?', claim.scope, claim.key);
      continue;
    }
    checkRow(row);
    const event = toEnvelopeJson(row);
    const { scope, key } = claim;
    db.run('UPDATE uniques SET event = ? WHERE scope = ? AND key = ?', event, scope, key);
  }
  return claims.length;
}

/** Goes on with what a death left half removed. */
export function finishTrims(writer: Writer): void {
  const open = writer.db.all<SnapshotRow>(
    'SELECT * FROM snapshots n WHERE EXISTS ' +
      '(SELECT 1 FROM events WHERE session = n.session AND seq <= n.seq)',
  );
  for (const snapshot of open) while (!trimStep(writer, snapshot).done);
}
