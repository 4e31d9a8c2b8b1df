/** Full verification of one session, in steps: checksum of each event, hash chain, no gap, and
 *  the stored record equal to the fold over all events. */
import { isDeepStrictEqual } from 'node:util';
import { toPrxError } from '../base/errors.ts';
import type { SessionRecord } from './contract.ts';
import { foldRow, SYSTEM } from './fold-row.ts';
import { type EventRow, findDamage } from './integrity.ts';
import { findSession } from './reader.ts';
import type { Database } from './sqlite.ts';
import type { Problem, VerifyReportStep, VerifyStep } from './thread-protocol.ts';

const STEP_BYTES_MAX = 8 * 1024 * 1024;

/** Names of all that has events, the system's included. */
export function listJournals(db: Database): readonly string[] {
  const rows = db.all<{ id: string }>('SELECT id FROM sessions ORDER BY created_id');
  return [SYSTEM, ...rows.map(({ id }) => id)];
}

/** Checks up to `limit` events behind `step.seq`. Ends at the first problem of a session: what
 *  follows a broken link cannot be judged. */
export function verifyStep(db: Database, step: VerifyStep): VerifyReportStep {
  const { session, limit } = step;
  let { seq, link } = step;
  let record = step.record ?? undefined;
  let bytes = 0;
  let events = 0;
  const rows = db.iterate<EventRow>(
    'SELECT * FROM events WHERE session = ? AND seq > ? ORDER BY seq LIMIT ?',
    session,
    seq,
    limit,
  );
  for (const row of rows) {
    const problem =
      row.seq === seq + 1 ? findDamage(row, link) : `event ${seq + 1} is missing before it`;
    if (problem !== undefined) return ended(events, [{ session, seq: row.seq, problem }]);
    record = foldRow(record, row);
    [seq, link] = [row.seq, row.hash];
    events += 1;
    bytes += row.data.length;
    if (bytes > STEP_BYTES_MAX) break;
  }
  const isEnd = events < limit && bytes <= STEP_BYTES_MAX;
  if (isEnd) return ended(events, checkRecord(db, session, seq, record));
  return { next: { session, seq, link, record: record ?? null, limit }, events, problems: [] };
}

function ended(events: number, problems: readonly Problem[]): VerifyReportStep {
  return { next: undefined, events, problems };
}

function checkRecord(
  db: Database,
  session: string,
  seq: number,
  folded: SessionRecord | undefined,
): readonly Problem[] {
  if (session === SYSTEM) return [];
  try {
    const stored = findSession(db, session);
    // A session that was removed meanwhile has neither.
    if (stored === undefined && seq === 0) return [];
    if (isDeepStrictEqual(toPlain(stored), toPlain(folded))) return [];
    return [{ session, seq, problem: 'the session record differs from what its events say' }];
  } catch (error) {
    return [{ session, seq, problem: toPrxError(error).message }];
  }
}

/** As JSON has it: an absent field and an undefined one are the same. */
function toPlain(record: SessionRecord | undefined): unknown {
  return record === undefined ? undefined : JSON.parse(JSON.stringify(record));
}
