/** Stored rows as what clients see, without parsing what is stored as text. */
import { toTimestamp } from '../base/clock.ts';
import type { EventRow } from './integrity.ts';

/** The row's envelope as JSON. */
export function toEnvelopeJson(row: EventRow): string {
  const { session, seq, epoch, time_ms, type, turn, data } = row;
  const head = {
    session,
    seq,
    epoch,
    time: toTimestamp(time_ms),
    type,
    ...(turn === null ? {} : { turn }),
  };
  return `${JSON.stringify(head).slice(0, -1)},"data":${data}}`;
}

export function toJsonArray(items: readonly string[]): string {
  return `[${items.join(',')}]`;
}
