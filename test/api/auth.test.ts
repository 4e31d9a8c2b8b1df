/** Who may ask what over TCP: every route with every scope, names, origins; and that the unix
 *  socket asks for nothing. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { authorize, checkAddress, type Door, toHostName } from '../../api/auth.ts';

import { routeTable } from '../../api/routes/index.ts';
import type { Scope } from '../../protocol/tokens.ts';
import {
  type Asked,
  ask,
  openRig,
  parseProblem,
  type Rig,
  tokenEntries,
  tokens,
} from './harness.ts';

const TCP: Door = { kind: 'tcp', hosts: [], origins: [] };
const rank: Readonly<Record<Scope | 'none', number>> = {
  none: 0,
  read: 1,
  approve: 2,
  operate: 3,
  admin: 4,
};

let rig: Rig;
let port: number;
beforeAll(async () => {
  rig = await openRig({ hosts: ['Prx.Example'], origins: ['https://console.example'] });
  port = (await rig.api.listenTcp({ host: '127.0.0.1', port: 0 })).port;
});
afterAll(() => rig.close());

const get = (headers: Record<string, string> = {}, path = '/api/v1/status') =>
  ask({ port }, { path, headers });
const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });

describe('the scope of a token', () => {
  const holders = ['nobody', 'read', 'approve', 'operate', 'admin'] as const;
  const matrix = routeTable.flatMap((route) =>
    holders.map((holder) => [`${holder} × ${route.id} (${route.scope})`, route, holder] as const),
  );

  test.each(matrix)('%s: as its scope says', async (_name, route, holder) => {
    const asked: Asked = {
      method: route.method,
      path: route.path.replace('{call_id}', '1.1.1').replaceAll(/\{\w+\}/g, 'nobody-of-this-name'),
      headers: holder === 'nobody' ? {} : bearer(tokens[holder]),
    };
    const { status } = await ask({ port }, asked);
    const isAnonymous = holder === 'nobody';
    const isEnough = rank[isAnonymous ? 'none' : holder] >= rank[route.scope];
    // Past the door a request may fail for other reasons (no such session, no body).
    if (route.id === 'createToken' && holder === 'admin') expect(status).toBe(403);
    else if (isEnough) expect([401, 403]).not.toContain(status);
    else expect(status).toBe(isAnonymous ? 401 : 403);
  });

  test('is checked before a body is read', async () => {
    const body = 'not json';
    const answer = await ask({ port }, { method: 'POST', path: '/api/v1/sessions', body });
    expect(answer.status).toBe(401);
  });

  test('is named in the journal', async () => {
    const headers = bearer(tokens.operate);
    await ask({ port }, { method: 'POST', path: '/api/v1/sessions', headers });
    expect(rig.supervisor.calls.at(-1)).toBe('createSession({}, "token:operate")');
  });
});

describe('a token', () => {
  test.each([
    ['another one', bearer('token-reax')],
    ['empty', { authorization: 'Bearer ' }],
    ['of another scheme', { authorization: `Basic ${tokens.read}` }],
    ['its hash', bearer(tokenEntries[0]?.sha256 ?? '')],
    ['two words', bearer(`${tokens.read} x`)],
  ])('is refused: %s', async (_name, headers) => {
    const answer = await get(headers);
    expect([answer.status, answer.headers['www-authenticate']]).toEqual([
      401,
      'Bearer realm="prx-supervisor"',
    ]);
  });

  test('in the query is no token', async () => {
    expect((await get({}, `/api/v1/status?token=${tokens.admin}`)).status).toBe(401);
  });

  test('can be replaced while the server runs', async () => {
    rig.tokens.configure([]);
    const answer = await get(bearer(tokens.read));
    expect(parseProblem(answer).detail).toContain('no token is configured');
    rig.tokens.configure(tokenEntries);
    expect((await get(bearer(tokens.read))).status).toBe(200);
  });

  test('without scopes allows nothing', () => {
    const [entry] = tokenEntries;
    const powerless = [{ ...entry, name: 'x', sha256: entry?.sha256 ?? '', scopes: [] }];
    const headers = bearer(tokens.read);
    const act = () => authorize(TCP, { scope: 'read' }, { headers, tokens: powerless, wallMs: 0 });
    expect(act).toThrow(/needs the scope 'read'/);
  });

  test('with a hash of the wrong length matches nothing', () => {
    const odd = [{ name: 'x', sha256: 'abcd', scopes: ['admin'] as const }];
    const act = () =>
      authorize(TCP, { scope: 'read' }, { headers: bearer('x'), tokens: odd, wallMs: 0 });
    expect(act).toThrow(/no valid token/);
  });
});

describe('the Host header', () => {
  test.each([
    ['127.0.0.1', 200],
    ['localhost:9', 200],
    ['[::1]:80', 200],
    ['prx.example', 200],
    ['PRX.example:8443', 200],
    ['evil.example', 421],
    ['localhost.evil.example', 421],
    ['127.0.0.1.evil.example', 421],
  ])('%s → %d', async (host, status) => {
    const answer = await get({ host }, '/healthz');
    expect(answer.status).toBe(status);
  });

  test('may be the address that the request arrived at', () => {
    const act = () => checkAddress(TCP, { host: '192.0.2.7:80' }, '::ffff:192.0.2.7');
    expect(act).not.toThrow();
  });

  test('must be there', () => {
    expect(() => checkAddress(TCP, {}, '127.0.0.1')).toThrow(/Host header ''/);
  });

  test('does not matter on the unix socket', async () => {
    const answer = await ask(rig, { path: '/healthz', headers: { host: 'anything' } });
    expect(answer.status).toBe(200);
  });
});

describe('the Origin header', () => {
  const origin = (value: string) => get({ origin: value, ...bearer(tokens.read) });

  test.each([
    ['the server itself', () => `http://127.0.0.1:${port}`, 200],
    ['an allowed one', () => 'https://console.example', 200],
    ['another site', () => 'https://evil.example', 403],
    ['another port here', () => 'http://127.0.0.1:1', 403],
    ['an opaque one', () => 'null', 403],
  ])('%s', async (_name, value, status) => {
    expect((await origin(value())).status).toBe(status);
  });
});

test.each([
  ['::1', '[::1]'],
  ['[::1]', '[::1]'],
  ['127.0.0.1', '127.0.0.1'],
  ['::ffff:10.0.0.1', '10.0.0.1'],
])('the address %s stands in a Host header as %s', (address, name) => {
  expect(toHostName(address)).toBe(name);
});
