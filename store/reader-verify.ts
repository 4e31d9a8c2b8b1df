/** Full verification of one session, in steps: checksum of each event, hash chain, no gap, and
 *  the stored record equal to the fold over all events. */
import { isDeepStrictEqual } from 'node:util';
import type { SessionRecord } from './contract.ts';
import { foldRow, SYSTEM } from './fold-row.ts';
import { type EventRow, findDamage, toProblem } from './integrity.ts';
import { findSession } from './reader.ts';
import { findSnapshot } from './snapshot.ts';
import type { Database } from './sqlite.ts';
import type { Problem, VerifyReportStep, VerifyStep } from './thread-protocol.ts';

const STEP_BYTES_MAX = 8 * 1024 * 1024;
/** How many events are in memory at most, about. */
const WHOLE_STEP_EVENTS = 5000;

/** Names of all that has events, the system's included. */
export function listJournals(db: Database): readonly string[] {
  const rows = db.all<{ id: string }>('SELECT id FROM sessions ORDER BY created_id');
  return [SYSTEM, ...rows.map(({ id }) => id)];
}

/** Checks up to `limit` events behind `step.seq`. Ends at the first problem of a session: what
 *  follows a broken link cannot be judged. */
export function verifyStep(db: Database, step: VerifyStep): VerifyReportStep {
  try {
    return verifyRows(db, step);
  } catch (error) {
    return ended(0, [toProblem(step.session, error)]);
  }
}

function verifyRows(db: Database, step: VerifyStep): VerifyReportStep {
  const { session } = step;
  const at = walk(db, step);
  if (at.problem !== undefined) return ended(at.events, [at.problem]);
  if (at.isEnd) return ended(at.events, checkRecord(db, at));
  const { seq, link, record = null, events } = at;
  return { next: { session, seq, link, record, limit: step.limit }, events, problems: [] };
}

/** Where a walk over a session's events has come to. */
export interface Place {
  readonly session: string;
  readonly seq: number;
  /** In commit order; 0 before the first event. */
  readonly id: number;
  readonly epoch: number;
  readonly link: string;
  readonly record: SessionRecord | undefined;
  /** How many events this walk has checked. */
  readonly events: number;
  readonly problem: Problem | undefined;
  /** There is no further event, or `until` is reached. */
  readonly isEnd: boolean;
}

/** Checks and folds up to `limit` events behind `step.seq`, none behind `until`. */
export function walk(
  db: Database,
  step: VerifyStep,
  until: number = Number.MAX_SAFE_INTEGER,
): Place {
  const { session, limit } = step;
  const start = toStart(db, step);
  let { seq, link, record } = start;
  let [id, epoch, bytes, events] = [0, 0, 0, 0];
  let problem: Problem | undefined;
  const rows = db.iterate<EventRow>(
    'SELECT * FROM events WHERE session = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?',
    session,
    seq,
    until,
    limit,
  );
  for (const row of rows) {
    const found =
      row.seq === seq + 1 ? findDamage(row, link) : `event ${seq + 1} is missing before it`;
    if (found !== undefined) problem = { session, seq: row.seq, problem: found };
    if (problem !== undefined) break;
    record = foldRow(record, row);
    ({ seq, id, epoch, hash: link } = row);
    events += 1;
    bytes += row.data.length;
    if (bytes > STEP_BYTES_MAX) break;
  }
  const isEnd = seq >= until || (events < limit && bytes <= STEP_BYTES_MAX);
  return { session, seq, id, epoch, link, record, events, problem, isEnd };
}

/** One session from its first event to its newest, in one go. */
export function verifyWhole(
  db: Database,
  session: string,
): Pick<Place, 'seq' | 'link' | 'events'> & { readonly problems: readonly Problem[] } {
  let step: VerifyStep = { session, seq: 0, link: '', record: null, limit: WHOLE_STEP_EVENTS };
  let events = 0;
  try {
    for (;;) {
      const at = walk(db, step);
      events += at.events;
      const { seq, link, record = null } = at;
      if (at.problem !== undefined) return { seq, link, events, problems: [at.problem] };
      if (at.isEnd) return { seq, link, events, problems: checkRecord(db, at) };
      step = { ...step, seq, link, record };
    }
  } catch (error) {
    return { seq: step.seq, link: step.link, events, problems: [toProblem(session, error)] };
  }
}

/** A session whose first events retention removed begins at what stands for them. */
function toStart(db: Database, { session, seq, link, record }: VerifyStep) {
  const snapshot = seq === 0 ? findSnapshot(db, session) : undefined;
  if (snapshot !== undefined) {
    return { seq: snapshot.seq, link: snapshot.link, record: snapshot.record as Folded };
  }
  return { seq, link, record: (record ?? undefined) as Folded };
}

type Folded = SessionRecord | undefined;

function ended(events: number, problems: readonly Problem[]): VerifyReportStep {
  return { next: undefined, events, problems };
}

function checkRecord(
  db: Database,
  { session, seq, record: folded }: Pick<Place, 'session' | 'seq' | 'record'>,
): readonly Problem[] {
  if (session === SYSTEM) return [];
  try {
    const stored = findSession(db, session);
    // A session that was removed meanwhile has neither.
    if (stored === undefined && seq === 0) return [];
    if (isDeepStrictEqual(toPlain(stored), toPlain(folded))) return [];
    return [{ session, seq, problem: 'the session record differs from what its events say' }];
  } catch (error) {
    return [{ ...toProblem(session, error), seq }];
  }
}

/** As JSON has it: an absent field and an undefined one are the same. */
function toPlain(record: SessionRecord | undefined): unknown {
  return record === undefined ? undefined : JSON.parse(JSON.stringify(record));
}
