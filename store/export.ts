/** The journal as text, one event a line: the envelope with all that its seal covers, so that
 *  anybody can check it again. A damaged event is exported as it was found, marked. Format and
 *  recipe: docs/journal.md. */
import { toEnvelopeJson } from './envelope.ts';
import { type EventRow, findDamage } from './integrity.ts';
import type { Database } from './sqlite.ts';
import type { WireExport } from './thread-protocol.ts';

const PAGE_ROWS_MAX = 1000;
/** A page may exceed it by its last line. */
const PAGE_BYTES_MAX = 4 * 1024 * 1024;

export interface ExportPage {
  /** JSON texts. */
  readonly lines: readonly string[];
  /** `after` of the next page; undefined: that was all. */
  readonly next: number | undefined;
  /** Highest id of a power-durable event. */
  readonly powerId: number;
}

interface AsideRow extends EventRow {
  readonly place: number;
  readonly moved_at: string;
  readonly reason: string;
}

/** One page in commit order, or (`aside`) in the order in which rows were moved. */
export function exportPage(db: Database, options: WireExport): ExportPage {
  const { session, after, aside } = options;
  const limit = Math.max(1, Math.min(options.limit, PAGE_ROWS_MAX));
  const [table, place] = aside ? ['aside', 'place'] : ['events', 'id'];
  const hidden = aside ? '' : ' AND session NOT IN (SELECT session FROM unlisted)';
  // Two statements, because each has an index of its own.
  const order = session === null || aside ? place : 'seq';
  const rows = db.iterate<EventRow | AsideRow>(
    `SELECT * FROM ${table} WHERE ${session === null ? '?1 IS NULL' : 'session = ?1'} AND ` +
      `${order} > ?2${hidden} ORDER BY ${order} LIMIT ?3`,
    session,
    after,
    limit,
  );
  const lines: string[] = [];
  let [bytes, next, powerId] = [0, after, 0];
  for (const row of rows) {
    lines.push(toLine(row));
    next = 'place' in row ? row.place : order === 'seq' ? row.seq : row.id;
    bytes += lines.at(-1)?.length ?? 0;
    if (!aside && row.power === 1) powerId = Math.max(powerId, row.id);
    if (bytes > PAGE_BYTES_MAX) break;
  }
  const isWhole = lines.length < limit && bytes <= PAGE_BYTES_MAX;
  return { lines, next: isWhole ? undefined : next, powerId };
}

/** All lines; one page is in memory at a time. */
export function* exportLines(
  db: Database,
  options: Pick<WireExport, 'session' | 'aside'>,
): Generator<string> {
  let after: number | undefined = 0;
  while (after !== undefined) {
    const page: ExportPage = exportPage(db, { ...options, after, limit: PAGE_ROWS_MAX });
    yield* page.lines;
    after = page.next;
  }
}

function toLine(row: EventRow | AsideRow): string {
  const { id, ref, power, crc, hash } = row;
  const damage = findDamage(row, undefined);
  const rest = {
    id,
    ref,
    power: power === 1,
    crc,
    hash,
    ...(damage === undefined ? {} : { damaged: damage }),
    ...('place' in row ? { moved_at: row.moved_at, reason: row.reason } : {}),
  };
  // Damaged content may be no JSON, and then it is text.
  const envelope = toEnvelopeJson(
    damage === undefined ? row : { ...row, data: JSON.stringify(row.data) },
  );
  return `${envelope.slice(0, -1)},${JSON.stringify(rest).slice(1)}`;
}
