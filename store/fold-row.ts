/** The projection over stored rows. */
import { toTimestamp } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { SessionRecord } from './contract.ts';
import { changesRecord, foldSession } from './fold-session.ts';
import type { EventRow } from './integrity.ts';

/** Session name of the supervisor's own events; they have no record. (Its twin in protocol/ comes
 *  with the schemas, which a thread does not load.) */
export const SYSTEM = 'system';

/** The record after this row; its content is parsed only where the record depends on it. */
export function foldRow(
  record: SessionRecord | undefined,
  row: EventRow,
): SessionRecord | undefined {
  if (row.session === SYSTEM) return undefined;
  if (record === undefined && row.type !== 'session.created') {
    throw new PrxError('SESSION_NOT_FOUND', `there is no session ${row.session}`, {
      data: { session: row.session },
    });
  }
  const data: unknown = changesRecord(row.type) ? JSON.parse(row.data) : undefined;
  return foldSession(record, { ...toEnvelope(row), data });
}

function toEnvelope(row: EventRow): EventEnvelope {
  return {
    // Only events of a session or of the system are written.
    session: row.session as EventEnvelope['session'],
    seq: row.seq,
    epoch: row.epoch,
    time: toTimestamp(row.time_ms),
    type: row.type,
    ...(row.turn === null ? {} : { turn: row.turn }),
    data: undefined,
  };
}
