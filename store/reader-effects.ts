/** Reads by reference: one effect's events, one input, and the conversation. */
import { toTimestamp } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import type { EventEnvelope, KnownEvent } from '../protocol/events.ts';
import { toEnvelopeJson, toJsonArray } from './envelope.ts';
import { foldHistory, historyTypes } from './fold-history.ts';
import { checkRow, type EventRow } from './integrity.ts';
import { type Answer, findSession, highestPower, sessionNotFound } from './reader.ts';
import type { Database } from './sqlite.ts';
import type { ReaderTasks } from './thread-protocol.ts';
import type { ClaimRow } from './writer.ts';

const streamTypes: readonly string[] = ['model.delta', 'tool.output', 'network.request'];

/** All events of one effect but its deltas and output, oldest first. */
export function readEffect(db: Database, session: string, effect: string): string {
  return toJsonArray(byRef(db, session, effect, 1).map(toEnvelopeJson));
}

/** What the conversation consists of: the fields of events that hold it. */
const contentFields: readonly string[] = ['message', 'arguments', 'output', 'stderr_tail'];

/** A turn's events in a range, without content, oldest first. An approval has only an effect. */
export function readTurn(db: Database, input: ReaderTasks['turn']): string {
  const { session, turn, since, until, limit, types } = input;
  const [start] = byRef(db, session, `turn:${turn}`, 1);
  const rows = db.all<EventRow>(
    'SELECT * FROM events WHERE session = ?1 AND seq > ?2 AND seq <= ?3 AND power = 1 ' +
      'AND (turn = ?4 OR ref GLOB ?5) AND type IN (SELECT value FROM json_each(?6)) ' +
      'ORDER BY seq LIMIT ?7',
    session,
    Math.max(since, (start?.seq ?? 1) - 1),
    until,
    turn,
    `${turn}.*`,
    JSON.stringify(types),
    limit,
  );
  return JSON.stringify(rows.map(toFacts));
}

function toFacts(row: EventRow): EventEnvelope {
  checkRow(row);
  const event = toEvent(row);
  const facts = Object.entries(event.data).filter(([field]) => !contentFields.includes(field));
  return { ...event, data: Object.fromEntries(facts) };
}

/** Highest spool offset in the journaled deltas, output, requests of an attempt, bytes; or 0. */
export function readSpoolOffset(
  db: Database,
  { session, effect, attempt }: ReaderTasks['spoolOffset'],
): number {
  return byRef(db, session, effect, 0)
    .filter(({ type }) => streamTypes.includes(type))
    .map(parseStream)
    .reduce(
      (highest, data) =>
        (data.attempt ?? 1) === attempt ? Math.max(highest, data.offset ?? 0) : highest,
      0,
    );
}

function parseStream(row: EventRow): { readonly attempt?: number; readonly offset?: number } {
  // The schemas of these types have these fields as numbers; they were applied at the append.
  return JSON.parse(row.data) as { attempt?: number; offset?: number };
}

/** The first event of the append that claimed the key, as JSON with the claim's digest. */
export function findClaim(db: Database, { scope, key }: ReaderTasks['claim']): string {
  const claim = db.get<ClaimRow>(
    'SELECT digest, session, seq, event FROM uniques WHERE scope = ? AND key = ?',
    scope,
    key,
  );
  const row =
    claim &&
    db.get<EventRow>(
      'SELECT * FROM events WHERE session = ? AND seq = ?',
      claim.session,
      claim.seq,
    );
  const kept = claim?.event ?? undefined;
  if (claim === undefined || (row === undefined && kept === undefined)) return 'null';
  if (row !== undefined) checkRow(row);
  const event = row === undefined ? kept : toEnvelopeJson(row);
  return `{"event":${event},"digest":${JSON.stringify(claim.digest)}}`;
}

export function readInput(db: Database, session: string, input: string): string {
  const row = byRef(db, session, input, 1).find(({ type }) => type === 'input.accepted');
  if (row === undefined) {
    throw new PrxError('NOT_FOUND', `session ${session} has no input ${input}`, {
      data: { session, input },
    });
  }
  return toEnvelopeJson(row);
}

/** @param power  1: power-durable events only; 0: the others only. */
function byRef(db: Database, session: string, ref: string, power: 0 | 1): readonly EventRow[] {
  const rows = db.all<EventRow>(
    'SELECT * FROM events WHERE session = ? AND ref = ? AND power = ? ORDER BY seq',
    session,
    ref,
    power,
  );
  for (const row of rows) checkRow(row);
  return rows;
}

/** The folded conversation. Reads from the turn in which the last compaction's boundary lies. Waits
 *  for the sync of what it shows only: the death of the worker whose successor asks for it may
 *  still be on its way. */
export function readHistory(db: Database, session: string, safeId: number): Answer {
  const record = findSession(db, session);
  if (record === undefined) throw sessionNotFound(session);
  const compaction = findCompaction(db, session, record.open_turn?.turn ?? 0);
  const start = compaction === undefined ? 1 : findHistoryStart(db, session, compaction);
  const rows = db.all<EventRow>(
    // All of them are power-durable: the index over those passes over the deltas.
    'SELECT * FROM events WHERE session = ? AND seq >= ? AND power = 1 AND type IN ' +
      '(SELECT value FROM json_each(?)) ORDER BY seq',
    session,
    start,
    JSON.stringify(historyTypes),
  );
  for (const row of rows) checkRow(row);
  const events = rows.map(toEvent);
  const history = foldHistory([...readEarlierInputs(db, session, events), ...events]);
  return { json: JSON.stringify(history), powerId: highestPower(rows, safeId) };
}

/** The last compaction. One in the open turn does not count: see fold-history.ts. */
export function findCompaction(
  db: Database,
  session: string,
  openTurn: number,
): EventRow | undefined {
  return byRef(db, session, 'compaction', 1).findLast(({ turn }) => turn !== openTurn);
}

/** Where the turn of a compaction's boundary starts. */
export function findHistoryStart(db: Database, session: string, compaction: EventRow): number {
  const event = toEvent(compaction);
  if (event.type !== 'context.compacted') return 1;
  const [start] = byRef(db, session, `turn:${event.data.from_turn}`, 1);
  return start?.seq ?? 1;
}

/** Inputs that were accepted before the start and taken up after it. */
function readEarlierInputs(
  db: Database,
  session: string,
  events: readonly KnownEvent[],
): readonly EventEnvelope[] {
  const present = new Set<string>();
  const missing = new Set<string>();
  for (const event of events) {
    if (event.type === 'input.accepted') present.add(event.data.input_id);
    if (event.type !== 'turn.started' && event.type !== 'input.steered') continue;
    if (!present.has(event.data.input_id)) missing.add(event.data.input_id);
  }
  return [...missing].flatMap((input) =>
    byRef(db, session, input, 1)
      .filter(({ type }) => type === 'input.accepted')
      .map(toEvent),
  );
}

function toEvent({ session, seq, epoch, time_ms, type, turn, data }: EventRow): KnownEvent {
  const at = {
    session,
    seq,
    epoch,
    time: toTimestamp(time_ms),
    ...(turn === null ? {} : { turn }),
  };
  // What was journaled was validated then, and its checksum holds.
  return { ...at, type, data: JSON.parse(data) } as KnownEvent;
}
