/** What an editor is shown of the sessions, page by page. */
import { describe, expect, test } from '@jest/globals';
import { toSessionPage } from '../../cli/acp/session-list.ts';
import type { SessionView } from '../../protocol/resources.ts';
import { createView } from '../api/views.ts';

/** Number 0 is the newest; two of each second. */
const views: SessionView[] = Array.from({ length: 120 }, (_, index) =>
  createView(index, {
    workspace: index % 2 === 0 ? '/even' : '/odd',
    updated_at: new Date(1_800_000_000_000 - Math.floor(index / 2) * 1000).toISOString(),
  }),
);
const ids = views.map(({ id }) => id);

function readAll(pageOf: (cursor: string | undefined) => ReturnType<typeof toSessionPage>) {
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const page = pageOf(cursor);
    seen.push(...page.sessions.map(({ sessionId }) => sessionId));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return seen;
}

describe('the pages of session/list', () => {
  test('together have each session once, newest first', () => {
    const page = (cursor: string | undefined) =>
      toSessionPage(views.toReversed(), { folders: undefined, cursor });
    expect(readAll(page)).toEqual(ids);
    expect(page(undefined).sessions).toHaveLength(50);
  });

  test('go on behind a session that was removed meanwhile', () => {
    const { nextCursor: cursor } = toSessionPage(views, { folders: undefined, cursor: undefined });
    const rest = views.filter((_, index) => index !== 49);
    const { sessions } = toSessionPage(rest, { folders: undefined, cursor });
    expect(sessions[0]?.sessionId).toBe(ids[50]);
  });

  test('are of the folders that were asked for', () => {
    const { sessions } = toSessionPage(views, { folders: ['/odd', '/x'], cursor: undefined });
    expect(new Set(sessions.map(({ cwd }) => cwd))).toEqual(new Set(['/odd']));
  });

  test.each(['bogus', '', ids[3] ?? '', 'never~s_0'])('%j is a place of none', (cursor) => {
    expect(() => toSessionPage(views, { folders: undefined, cursor })).toThrow('is no place in');
  });
});
