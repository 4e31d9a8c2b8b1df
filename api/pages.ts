/** A list of sessions in pages. The cursor is the last session of a page with its time: it holds
 *  although that session is removed meanwhile, and a session that is created meanwhile, which
 *  stands before it, moves nothing. Pure. */
import { PrxError } from '../base/errors.ts';
import type { SessionView } from '../protocol/resources.ts';

type Row = Pick<SessionView, 'id' | 'created_at'>;

/** @param rows  newest first.
 *  @throws INVALID_REQUEST for a cursor that no page gave. */
export function toPage<T extends Row>(
  rows: readonly T[],
  { limit, after }: { limit?: number | undefined; after?: string | undefined },
): { readonly rows: readonly T[]; readonly next?: string } {
  const start = after === undefined ? 0 : findStart(rows, after);
  const end = limit === undefined ? rows.length : start + limit;
  const page = rows.slice(start, end);
  const last = page.at(-1);
  if (last === undefined || end >= rows.length) return { rows: page };
  return { rows: page, next: `${last.created_at}~${last.id}` };
}

function findStart(rows: readonly Row[], after: string): number {
  const [stamp = '', id] = after.split('~');
  if (id === undefined || Number.isNaN(Date.parse(stamp))) {
    const message = `'${after.slice(0, 64)}' is no place in the list; send X-Prx-Next of a page`;
    throw new PrxError('INVALID_REQUEST', message);
  }
  const found = rows.findIndex((row) => row.id === id);
  if (found >= 0) return found + 1;
  // It is gone, or in a state that is filtered out. One of the same millisecond may come twice:
  // better than never.
  const older = rows.findIndex((row) => row.created_at <= stamp);
  return older < 0 ? rows.length : older;
}
