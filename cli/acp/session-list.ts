/** The sessions that an editor is shown, in pages. */
import { realpath } from 'node:fs/promises';
import { RequestError, type SessionInfo } from '@agentclientprotocol/sdk';
import type { SessionView } from '../../protocol/resources.ts';

/** Sessions of one page of session/list. */
const PAGE_SESSIONS = 50;

/** A folder as an editor names it, and by its real path, which is how a session has it. One that
 *  is not there, or only on the machine of the supervisor, has the one name. */
export async function toFolders(cwd: string | null | undefined): Promise<string[] | undefined> {
  if (cwd == null) return undefined;
  return [cwd, await realpath(cwd).catch(() => cwd)];
}

/** Newest first. The cursor is the last session of the page before with its time: it holds although
 *  that session is removed meanwhile. Pure. @throws -32602 for a cursor that no page gave. */
export function toSessionPage(
  views: readonly SessionView[],
  {
    folders,
    cursor,
  }: { folders: readonly string[] | undefined; cursor: string | null | undefined },
): { sessions: SessionInfo[]; nextCursor?: string } {
  const all = views
    .filter(({ workspace }) => folders === undefined || folders.includes(workspace))
    .toSorted((a, b) => b.updated_at.localeCompare(a.updated_at) || a.id.localeCompare(b.id));
  const start = cursor == null ? 0 : findStart(all, cursor);
  const page = all.slice(start, start + PAGE_SESSIONS);
  const last = page.at(-1);
  const hasMore = start + PAGE_SESSIONS < all.length;
  return {
    sessions: page.map(toInfo),
    ...(hasMore && last !== undefined ? { nextCursor: `${last.updated_at}~${last.id}` } : {}),
  };
}

function findStart(all: readonly SessionView[], cursor: string): number {
  const [stamp = '', id] = cursor.split('~');
  if (id === undefined || Number.isNaN(Date.parse(stamp))) {
    const hint = `'${cursor.slice(0, 64)}' is no place in the list; send nextCursor of a page`;
    throw RequestError.invalidParams(undefined, hint);
  }
  const next = all.findIndex(
    (view) => view.updated_at < stamp || (view.updated_at === stamp && view.id > id),
  );
  return next < 0 ? all.length : next;
}

function toInfo({ id, name, workspace, updated_at: updatedAt }: SessionView): SessionInfo {
  return {
    sessionId: id,
    cwd: workspace,
    updatedAt,
    ...(name === undefined ? {} : { title: name }),
  };
}
