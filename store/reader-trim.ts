/** What retention may remove, and what then stands for it. A prefix may go as far as
 *  nothing that is left needs it: not the conversation from the last compaction's boundary on (nor
 *  the inputs it begins with), not an open turn, not an input that waits. */
import { findSession } from './reader.ts';
import { findCompaction, findHistoryStart } from './reader-effects.ts';
import { walk } from './reader-verify.ts';
import { findRemoved, toSnapshotRow } from './snapshot.ts';
import type { Database } from './sqlite.ts';
import type {
  ReaderTasks,
  TrimPoint,
  TrimReport,
  TrimStep,
  TrimTarget,
} from './thread-protocol.ts';

/** Sessions that one listing names; the next one names the others. */
const LIST_MAX = 100;
/** So that not each new event costs a removal: a tenth more than is kept, but at least this. */
const SLACK_EVENTS_MIN = 100;
/** A session is never emptied. */
const KEEP_MIN = 1;

/** Sessions whose time is over: closed, and nothing new since. Oldest first. */
export function listExpired(
  db: Database,
  { beforeMs, limit }: ReaderTasks['expired'],
): readonly string[] {
  const rows = db.all<{ id: string }>(
    "SELECT s.id FROM sessions s JOIN events e ON e.session = s.id AND s.state = 'stopped' AND " +
      'e.seq = (SELECT max(seq) FROM events WHERE session = s.id) ' +
      'WHERE e.time_ms < ? ORDER BY e.time_ms LIMIT ?',
    beforeMs,
    limit,
  );
  return rows.map(({ id }) => id);
}

/** Sessions that hold clearly more than `keep` events. */
export function listTrimTargets(db: Database, keep: number): readonly TrimTarget[] {
  const limit = keep + Math.max(SLACK_EVENTS_MIN, Math.floor(keep / 10));
  return db.all<TrimTarget>(
    'SELECT id AS session, last - first AS events FROM (SELECT s.id, ' +
      '(SELECT max(seq) FROM events WHERE session = s.id) AS last, ' +
      'coalesce((SELECT seq FROM snapshots WHERE session = s.id), 0) AS first FROM sessions s) ' +
      'WHERE last - first > ? ORDER BY last - first DESC LIMIT ?',
    limit,
    LIST_MAX,
  );
}

/** How far the first events of a session may go when `keep` are to stay. */
export function findTrimPoint(db: Database, session: string, keep: number): TrimPoint | undefined {
  const record = findSession(db, session);
  if (record === undefined) return undefined;
  const compaction = findCompaction(db, session, record.open_turn?.turn ?? 0);
  // Without one the whole conversation is still needed; what is open lies behind its boundary.
  if (compaction === undefined) return undefined;
  const start = findHistoryStart(db, session, compaction);
  const input = findEarliestInput(db, session, start);
  const needed = [start, input, ...record.queued.map(({ seq }) => seq)];
  const seq = Math.min(record.last_seq - Math.max(keep, KEEP_MIN), ...needed.map((n) => n - 1));
  const removed = findRemoved(db, session)?.seq ?? 0;
  return seq > removed ? { session, seq, forkFrom: compaction.seq } : undefined;
}

/** The earliest input that a turn from `start` on was begun or steered with. */
function findEarliestInput(db: Database, session: string, start: number): number {
  const row = db.get<{ seq: number | null }>(
    "SELECT min(seq) AS seq FROM events WHERE session = ?1 AND type = 'input.accepted' AND " +
      "power = 1 AND ref IN (SELECT json_extract(data, '$.input_id') FROM events WHERE " +
      "session = ?1 AND seq >= ?2 AND power = 1 AND type IN ('turn.started', 'input.steered'))",
    session,
    start,
  );
  return row?.seq ?? start;
}

/** One step towards the snapshot at `point`: every event that is to go is verified first, so that
 *  a damaged session keeps what it has. */
export function trimStep(db: Database, { point, step }: TrimStep): TrimReport {
  const at = walk(db, step, point.seq);
  if (at.problem !== undefined) return { kind: 'damaged', problem: at.problem };
  const { session, seq, id, epoch, link, record } = at;
  if (!at.isEnd) {
    return {
      kind: 'next',
      step: { session, seq, link, record: record ?? null, limit: step.limit },
    };
  }
  if (seq !== point.seq || record === undefined) return { kind: 'gone' };
  const removed = findRemoved(db, session)?.seq ?? 0;
  const { forkFrom } = point;
  return {
    kind: 'done',
    events: seq - removed,
    snapshot: toSnapshotRow({ session, seq, id, epoch, link, record, fork_from: forkFrom }),
  };
}
