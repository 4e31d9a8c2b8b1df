/** What the writer checks before it takes work: the newest events of the sessions that something
 *  was going on in. A torn or damaged tail is found here, the rest by the verification in the
 *  background. A damaged session is reported and refuses appends; the others go on. */
import { SYSTEM } from './fold-row.ts';
import { findStart } from './heads.ts';
import { type EventRow, findDamage, toProblem } from './integrity.ts';
import type { Problem } from './thread-protocol.ts';
import type { Writer } from './writer.ts';

/** Together about 10 ms of a start, whatever the size of the journal. */
const SESSIONS_MAX = 512;
const TAIL_ROWS = 8;

export function checkTails(writer: Writer): readonly Problem[] {
  const unfinished = writer.db.all<{ id: string }>(
    'SELECT id FROM sessions WHERE unfinished = 1 ORDER BY created_id DESC LIMIT ?',
    SESSIONS_MAX,
  );
  return [SYSTEM, ...unfinished.map(({ id }) => id)].flatMap((session) => {
    const problem = checkTail(writer, session);
    return problem === undefined ? [] : [problem];
  });
}

function checkTail(writer: Writer, session: string): Problem | undefined {
  try {
    writer.heads.get(session);
    return checkRows(writer, session);
  } catch (error) {
    return toProblem(session, error);
  }
}

function checkRows(writer: Writer, session: string): Problem | undefined {
  const rows = writer.db
    .all<EventRow>(
      'SELECT * FROM events WHERE session = ? ORDER BY seq DESC LIMIT ?',
      session,
      TAIL_ROWS,
    )
    .toReversed();
  let previous = rows[0] === undefined ? undefined : findStart(writer.db, rows[0]);
  for (const row of rows) {
    const problem = findDamage(row, previous);
    if (problem !== undefined) return { session, seq: row.seq, problem };
    previous = row.hash;
  }
  return undefined;
}
