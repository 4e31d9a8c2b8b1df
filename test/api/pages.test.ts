/** The list of sessions in pages, and answers that a client has already. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { isKnown } from '../../api/etag.ts';
import { toPage } from '../../api/pages.ts';
import { ask, openRig, parseProblem, type Rig } from './harness.ts';
import { createView } from './views.ts';

let rig: Rig;
beforeEach(async () => {
  rig = await openRig();
});
afterEach(() => rig.close());

const list = '/api/v1/sessions';

async function readPage(query: string) {
  const answer = await ask(rig, { path: `${list}?${query}` });
  const names = JSON.parse(answer.text).map(({ name }: { name: string }) => name);
  return { names, next: answer.headers['x-prx-next'] as string | undefined };
}

describe('the list of sessions', () => {
  beforeEach(async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) await rig.client.createSession({ name });
  });

  test('comes whole without a limit, as ever', async () => {
    expect(await readPage('')).toEqual({ names: ['e', 'd', 'c', 'b', 'a'], next: undefined });
  });

  test('comes in pages with one, the last without a next', async () => {
    const first = await readPage('limit=2');
    const second = await readPage(`limit=2&after=${first.next}`);
    const third = await readPage(`limit=2&after=${second.next}`);
    expect([first.names, second.names, third]).toEqual([
      ['e', 'd'],
      ['c', 'b'],
      { names: ['a'], next: undefined },
    ]);
  });

  test('goes on behind what was created meanwhile', async () => {
    const { next } = await readPage('limit=2');
    await rig.client.createSession({ name: 'f' });
    expect((await readPage(`limit=9&after=${next}`)).names).toEqual(['c', 'b', 'a']);
  });

  test.each(['after=d', 'after=~', 'limit=0', 'limit=1001'])('refuses %s', async (query) => {
    const answer = await ask(rig, { path: `${list}?${query}` });
    expect([answer.status, parseProblem(answer).code]).toEqual([400, 'INVALID_REQUEST']);
  });
});

test('a page goes on although the session at its end is removed', () => {
  const row = (number: number) => {
    const created_at = `2026-01-02T03:04:0${number}.000Z`;
    return { ...createView(number, {}), created_at };
  };
  const rows = [5, 4, 3, 2, 1].map(row);
  const { next } = toPage(rows, { limit: 2 });
  const left = rows.filter(({ id }) => id !== rows[1]?.id);
  expect(toPage(left, { limit: 9, ...(next === undefined ? {} : { after: next }) }).rows).toEqual(
    rows.slice(2),
  );
});

describe('an answer with a tag', () => {
  test.each([list, `${list}/a`])('%s: 304 while it is the same, then the new one', async (path) => {
    await rig.client.createSession({ name: 'a' });
    const first = await ask(rig, { path });
    const etag = String(first.headers.etag);
    const headers = { 'if-none-match': etag };
    const same = await ask(rig, { path, headers });
    expect([same.status, same.text, same.headers.etag]).toEqual([304, '', etag]);
    expect(same.headers['cache-control']).toBe('private, no-cache');
    await rig.client.suspend('a');
    const changed = await ask(rig, { path, headers });
    expect([changed.status, changed.headers.etag === etag]).toEqual([200, false]);
  });

  test.each([
    [undefined, false],
    ['"a"', true],
    ['W/"a"', true],
    ['"b", "a"', true],
    ['*', true],
    ['a', false],
    ['"b"', false],
  ])('If-None-Match %s: %p', (header, expected) => {
    expect(isKnown(header, '"a"')).toBe(expected);
  });
});
