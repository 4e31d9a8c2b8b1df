/** What of HTTP/1.1 itself is refused, on either door. Bytes, because no client would send them. */
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openRig, type Rig } from './harness.ts';

let rig: Rig;
let port: number;
beforeAll(async () => {
  rig = await openRig();
  port = (await rig.api.listenTcp({ host: '127.0.0.1', port: 0 })).port;
});
afterAll(() => rig.close());

async function exchange(where: 'socket' | 'tcp', lines: readonly string[]): Promise<string> {
  const socket = where === 'tcp' ? connect(port, '127.0.0.1') : connect(rig.socketPath);
  socket.write(`${[...lines, 'Connection: close', '', ''].join('\r\n')}`);
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}

const host = 'Host: 127.0.0.1';
const probe = 'GET /healthz HTTP/1.1';

describe.each(['socket', 'tcp'] as const)('through %s', (where) => {
  test.each([
    ['no name', [probe], 400, 'INVALID_REQUEST'],
    ['two names', [probe, host, 'Host: evil.example'], 400, 'INVALID_REQUEST'],
    ['the same name twice', [probe, host, host], 400, 'INVALID_REQUEST'],
    [
      'a target of another server',
      ['GET http://evil.example/healthz HTTP/1.1', host],
      421,
      'MISDIRECTED',
    ],
    [
      'a coding of the message that is not known',
      [probe, host, 'Transfer-Encoding: gzip, chunked'],
      501,
      'UNSUPPORTED',
    ],
    ['a coded body', [probe, host, 'Content-Encoding: gzip'], 415, 'INVALID_REQUEST'],
    [
      'a change on a condition',
      ['DELETE /api/v1/sessions/a HTTP/1.1', host, 'If-Match: "x"'],
      412,
      'INVALID_REQUEST',
    ],
    [
      'a change unless something changed since',
      ['POST /api/v1/reload HTTP/1.1', host, 'If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT'],
      412,
      'INVALID_REQUEST',
    ],
    ['an expectation nobody knows', [probe, host, 'Expect: the-moon'], 417, 'INVALID_REQUEST'],
  ])('a request with %s is refused', async (_name, lines, status, code) => {
    const text = await exchange(where, lines);
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(text).toContain(`"code":"${code}"`);
  });

  test.each([
    ['a target in the form for proxies', ['GET http://127.0.0.1/healthz HTTP/1.1', host]],
    ['a condition on what is read', [probe, host, 'If-Match: "x"']],
    ['an uncoded body, said so', [probe, host, 'Content-Encoding: Identity']],
  ])('a request with %s is taken', async (_name, lines) => {
    expect(await exchange(where, lines)).toMatch(/^HTTP\/1.1 200 /);
  });
});

test('HTTP/1.0 needs no name where none is asked', async () => {
  expect(await exchange('socket', ['GET /healthz HTTP/1.0'])).toMatch(/^HTTP\/1.1 200 /);
});
