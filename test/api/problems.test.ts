/** Every refusal is a problem document that says what was wrong and with what. */
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type ErrorCode, errorTable, PrxError } from '../../base/errors.ts';
import { type LogFields, type Logger, silentLogger } from '../../base/logger.ts';
import { type Asked, ask, openRig, parseProblem, type Rig, readUntil } from './harness.ts';

const logged: LogFields[] = [];
const logger: Logger = {
  ...silentLogger,
  error: (event, fields) => logged.push({ event, ...fields }),
};

let rig: Rig;
beforeAll(async () => {
  rig = await openRig({ logger });
  await rig.client.createSession({ name: 'a' });
});
afterAll(() => rig.close());

const input = '/api/v1/sessions/a/input';
const post = (path: string, body: string | Buffer): Asked => ({ method: 'POST', path, body });
const form = { 'content-type': 'application/x-www-form-urlencoded' };
const deep = `${'['.repeat(200)}${']'.repeat(200)}`;
const huge = '9'.repeat(400);

const cases: readonly (readonly [string, Asked, number, string, RegExp])[] = [
  ['an unknown path', { path: '/nope' }, 404, 'NOT_FOUND', /GET \/nope/],
  ['a deeper path', { path: '/api/v1/sessions/a/b/c' }, 404, 'NOT_FOUND', /openapi/],
  [
    'a method it does not have',
    { method: 'PUT', path: '/api/v1/sessions' },
    405,
    'INVALID_REQUEST',
    /POST, GET/,
  ],
  ['an unknown path, whatever its body', post('/nope', '{'), 404, 'NOT_FOUND', /POST \/nope/],
  [
    'a method it does not have, whatever its body',
    { ...post('/api/v1/sessions', '{'), method: 'PUT' },
    405,
    'INVALID_REQUEST',
    /POST, GET/,
  ],
  ['a path that does not decode', { path: '/api/v1/sessions/%zz' }, 400, 'INVALID_REQUEST', /zz/],
  ['a name too long', { path: `/api/v1/sessions/${huge}` }, 400, 'INVALID_REQUEST', /path\.id/],
  [
    'a name that is taken by the journal of the supervisor',
    post('/api/v1/sessions', '{"name":"system"}'),
    400,
    'INVALID_REQUEST',
    /name: 'system' is the journal/,
  ],
  ['malformed JSON', post(input, '{"text":'), 400, 'INVALID_REQUEST', /not valid JSON/],
  ['no JSON at all', post(input, ''), 400, 'INVALID_REQUEST', /body/],
  [
    'invalid UTF-8',
    post(input, Buffer.from('{"text":"\xff"}', 'latin1')),
    400,
    'INVALID_REQUEST',
    /UTF-8/,
  ],
  ['deep nesting', post(input, deep), 400, 'INVALID_REQUEST', /nested/],
  [
    'a form',
    { ...post(input, 'text=x'), headers: form },
    415,
    'INVALID_REQUEST',
    /application\/json/,
  ],
  ['an unknown key', post(input, '{"text":"x","txt":1}'), 400, 'INVALID_REQUEST', /txt/],
  ['text and content', post(input, '{}'), 400, 'INVALID_REQUEST', /either text or content/],
  ['an empty text (regression)', post(input, '{"text":" "}'), 400, 'INVALID_REQUEST', /is empty/],
  [
    'content without a word (regression)',
    post(input, '{"content":[{"type":"text","text":""}]}'),
    400,
    'INVALID_REQUEST',
    /is empty/,
  ],
  ['an array for an object', post(input, '[]'), 400, 'INVALID_REQUEST', /body/],
  ['null', post('/api/v1/sessions', 'null'), 400, 'INVALID_REQUEST', /body/],
  ['a body nobody takes', post('/api/v1/reload', '{"a":1}'), 400, 'INVALID_REQUEST', /"a"/],
  ['an unknown query key', { path: '/api/v1/status?x=1' }, 400, 'INVALID_REQUEST', /"x"/],
  ['a token in the query', { path: '/api/v1/status?token=x' }, 400, 'INVALID_REQUEST', /token/],
  [
    'an unknown state',
    { path: '/api/v1/sessions?state=gone' },
    400,
    'INVALID_REQUEST',
    /query\.state/,
  ],
  ['a label without a value', { path: '/api/v1/sessions?label=x' }, 400, 'INVALID_REQUEST', /=/],
  [
    'an unknown event type',
    { path: '/api/v1/sessions/a/events?types=tool.gone' },
    400,
    'INVALID_REQUEST',
    /query\.types/,
  ],
  [
    'a negative position',
    { path: '/api/v1/sessions/a/events?since=-1' },
    400,
    'INVALID_REQUEST',
    /since/,
  ],
  ['a page of nothing', { path: '/api/v1/events?limit=0' }, 400, 'INVALID_REQUEST', /limit/],
  [
    'a stream of a page',
    { path: '/api/v1/sessions/a/events?follow=true&limit=5' },
    400,
    'INVALID_REQUEST',
    /limit: .*follow=false/,
  ],
  [
    'a stream of a page of all sessions',
    { path: '/api/v1/events?limit=5', headers: { accept: 'text/event-stream' } },
    400,
    'INVALID_REQUEST',
    /limit: .*follow=false/,
  ],
  ['a page too large', { path: '/api/v1/events?limit=1001' }, 400, 'INVALID_REQUEST', /limit/],
  [
    'a call that is none',
    post('/api/v1/sessions/a/approvals/x', '{"decision":"deny"}'),
    400,
    'INVALID_REQUEST',
    /call_id/,
  ],
  [
    'an artifact name with a path',
    { path: '/api/v1/sessions/a/artifacts/..%2fx' },
    400,
    'INVALID_REQUEST',
    /artifact_id/,
  ],
  [
    'a kind of content that there is not',
    post(input, '{"content":[{"type":"text","text":"x"},{"type":"sound"}]}'),
    400,
    'INVALID_REQUEST',
    /body\.content\.1\.type: /,
  ],
  ['an unknown session', { path: '/api/v1/sessions/zz' }, 404, 'SESSION_NOT_FOUND', /zz/],
  [
    'a position in the future',
    { path: '/api/v1/sessions/a/events?since=99' },
    409,
    'CURSOR_SUPERSEDED',
    /cursor/,
  ],
];

test.each(cases)('%s', async (_name, asked, status, code, detail) => {
  const answer = await ask(rig, asked);
  const problem = parseProblem(answer);
  expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8');
  expect({ http: answer.status, status: problem.status, code: problem.code }).toEqual({
    http: status,
    status,
    code,
  });
  expect(problem.detail).toMatch(detail);
});

test('issues are listed with their paths', async () => {
  const body = JSON.stringify({ name: '-', labels: { k: 1 }, limits: { max_turns: 0 } });
  const { data } = parseProblem(await ask(rig, post('/api/v1/sessions', body)));
  const paths = ['body.name', 'body.labels.k', 'body.limits.max_turns'];
  expect(data).toEqual({
    issues: paths.map((path) => ({ path, message: expect.any(String) })),
  });
});

test('a key that may not be one is told which may', async () => {
  const body = JSON.stringify({ labels: { größe: 'x' } });
  const { detail } = parseProblem(await ask(rig, post('/api/v1/sessions', body)));
  expect(detail).toMatch(
    /^body\.labels\.größe: a label's key has letters, digits, \. _ -, at most/,
  );
});

test('the facade refers to nothing that its errors do not have', async () => {
  const { text } = await ask(rig, post('/v1/chat/completions', '{}'));
  expect(JSON.parse(text).error.message).toMatch(/^body\.model: .* \(and 1 more\)$/);
});

test('a parameter that the facade does not know is named', async () => {
  const known = { model: 'default', messages: [{ role: 'user', content: 'x' }] };
  const body = JSON.stringify({ ...known, bogus: 1 });
  const answer = await ask(rig, post('/v1/chat/completions', body));
  const { error } = JSON.parse(answer.text);
  expect([answer.status, error.param]).toEqual([400, 'bogus']);
});

test.each([
  ['/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }] }],
  ['/v1/responses', { input: 'x' }],
])(
  'a stream of %s that is refused when its input is in is not asked for again (regression)',
  async (path, rest) => {
    rig.supervisor.followEvents = () =>
      Promise.reject(new PrxError('AT_CAPACITY', 'too many streams'));
    const body = JSON.stringify({ model: 'default', stream: true, ...rest });
    const { status, headers } = await ask(rig, post(path, body));
    const [session] = await rig.supervisor.listSessions({});
    expect([status, headers['x-should-retry'], headers['x-prx-session']]).toEqual([
      429,
      'false',
      session?.id,
    ]);
  },
);

describe('the size of a body', () => {
  const textOf = (count: number): string => JSON.stringify({ text: 'x'.repeat(count) });

  test('of a prompt of 5 MB passes', async () => {
    const answer = await ask(rig, post(input, textOf(5_000_000)));
    expect([answer.status, rig.supervisor.calls.at(-1)]).toEqual([
      202,
      'acceptInput("a", {"characters":5000000}, "socket")',
    ]);
  });

  test('of exactly the limit is read, one byte more is refused', async () => {
    const limit = 16 * 1024 * 1024;
    const full = textOf(limit - textOf(0).length);
    expect(Buffer.byteLength(full)).toBe(limit);
    const asked = { method: 'POST', path: input, headers: { expect: '100-continue' } };
    expect((await ask(rig, post(input, full))).status).toBe(400); // Longer than a text may be.
    const answer = await ask(rig, { ...asked, body: `${full} ` });
    expect([answer.status, parseProblem(answer).code]).toEqual([413, 'PAYLOAD_TOO_LARGE']);
  });

  test('of unknown length is bounded too', async () => {
    const headers = { 'transfer-encoding': 'chunked' };
    const body = textOf(17 * 1024 * 1024);
    const answer = await ask(rig, { ...post(input, body), headers });
    expect([answer.status, parseProblem(answer).code]).toEqual([413, 'PAYLOAD_TOO_LARGE']);
  });
});

test('a body that is too large is read to its end, so that its client reads the answer', async () => {
  const length = 17 * 1024 * 1024;
  const socket = connect(rig.socketPath);
  const answered = readAll(socket);
  socket.write(
    `POST ${input} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n` +
      `content-type: application/json\r\ncontent-length: ${length}\r\n\r\n`,
  );
  // By then the length has been read, and is known to be too much.
  await ask(rig, { path: '/healthz' });
  socket.write(Buffer.alloc(length, ' '));
  expect(await answered).toContain('PAYLOAD_TOO_LARGE');
});

async function readAll(socket: Socket): Promise<string> {
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}

describe('an error of the supervisor', () => {
  const status = { path: '/api/v1/status' };

  test.each(Object.keys(errorTable) as ErrorCode[])('%s has its HTTP status', async (code) => {
    rig.supervisor.failNext(new PrxError(code, 'because', { data: { limit: 1 } }));
    const answer = await ask(rig, status);
    const problem = parseProblem(answer);
    const { http, title } = errorTable[code];
    const isOurs = code === 'INTERNAL';
    expect(problem).toEqual({
      type: `urn:prx-supervisor:problem:${code.toLowerCase()}`,
      title,
      status: http,
      code,
      detail: isOurs ? expect.stringContaining('its log names it') : 'because',
      ...(isOurs ? {} : { data: { limit: 1 } }),
    });
    expect(answer.headers['retry-after']).toBe(http === 429 ? '1' : undefined);
  });

  test('says when to come back', async () => {
    rig.supervisor.failNext(new PrxError('AT_CAPACITY', 'x', { data: { retry_after_secs: 2.2 } }));
    expect((await ask(rig, status)).headers['retry-after']).toBe('3');
  });

  test('that nobody expected shows nothing of the inside, and is logged', async () => {
    logged.length = 0;
    rig.supervisor.failNext(new Error('the secret path /root/x'));
    const answer = await ask(rig, { ...status, headers: { 'x-request-id': 'r1' } });
    expect(answer.text).not.toMatch(/secret|root|stack|\.ts/);
    expect([answer.status, parseProblem(answer).code]).toEqual([500, 'INTERNAL']);
    expect(logged).toMatchObject([
      { event: 'api.failed', requestId: 'r1', route: 'GET /api/v1/status' },
    ]);
  });
});

describe('bytes that are not a request', () => {
  const send = async (bytes: string): Promise<string> => {
    const socket = connect({ path: rig.socketPath });
    socket.write(bytes);
    return readUntil(socket, '}');
  };

  test('are answered', async () => {
    const text = await send('what is this\r\n\r\n');
    expect(text).toMatch(/^HTTP\/1.1 400 .*"code":"INVALID_REQUEST"/s);
  });

  test('such as headers without an end are refused', async () => {
    const text = await send(`GET / HTTP/1.1\r\nx: ${'y'.repeat(70_000)}\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1.1 431 .*"status":431/s);
  });
});
