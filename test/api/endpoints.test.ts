/** Every route once: the request becomes one call of the supervisor, its result the answer, and a
 *  JSON answer has the shape that the OpenAPI document promises. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { routeTable } from '../../api/routes/index.ts';
import { findCitations } from '../requirements.ts';
import { type Answered, type Asked, ask, openRig, parseProblem, type Rig } from './harness.ts';

const ID = 's_0000000000000001';
const session = `/api/v1/sessions/${ID}`;

interface Case extends Asked {
  readonly status: number;
  /** The call that the supervisor got last. */
  readonly call?: string;
  readonly text?: string;
}

const post = (path: string, body?: unknown): Asked => ({
  method: 'POST',
  path,
  ...(body === undefined ? {} : { body: JSON.stringify(body) }),
});

const cases: readonly (readonly [string, Case])[] = [
  ['[endpoint:getHealth]', { path: '/healthz', status: 200, text: '{"status":"ok"}' }],
  ['[endpoint:getReadiness]', { path: '/readyz', status: 200, call: 'status(false)' }],
  ['[endpoint:getMetrics]', { path: '/metrics', status: 200, text: 'prx_sessions 1\n' }],
  ['[endpoint:getOpenapi]', { path: '/openapi.json', status: 200 }],
  ['[endpoint:getStatus]', { path: '/api/v1/status', status: 200, call: 'status(false)' }],
  ['getStatus deep', { path: '/api/v1/status?deep=true', status: 200, call: 'status(true)' }],
  ['[endpoint:reload]', { ...post('/api/v1/reload'), status: 200, call: 'reload()' }],
  ['[endpoint:sweep]', { ...post('/api/v1/sweep'), status: 200, call: 'sweep()' }],
  [
    '[endpoint:stop]',
    { ...post('/api/v1/stop'), status: 202, call: 'requestStop(30000, "socket")' },
  ],
  [
    'stop with a drain',
    {
      ...post('/api/v1/stop', { drain_secs: 1.5 }),
      status: 202,
      call: 'requestStop(1500, "socket")',
    },
  ],
  ['[endpoint:createToken]', { ...post('/api/v1/tokens', { name: 'ci' }), status: 201 }],
  ['[endpoint:listTokens]', { path: '/api/v1/tokens', status: 200 }],
  ['[endpoint:revokeToken]', { method: 'DELETE', path: '/api/v1/tokens/ci', status: 204 }],
  [
    '[endpoint:createSession]',
    {
      ...post('/api/v1/sessions', { name: 'b', labels: { team: 'x' } }),
      status: 201,
      call: 'createSession({"name":"b","labels":{"team":"x"}}, "socket")',
    },
  ],
  [
    'createSession without a body',
    { ...post('/api/v1/sessions'), status: 201, call: 'createSession({}, "socket")' },
  ],
  ['[endpoint:listSessions]', { path: '/api/v1/sessions', status: 200, call: 'listSessions({})' }],
  [
    'listSessions with filters',
    {
      path: '/api/v1/sessions?state=running,failed&label=a=1&label=b=x%3Dy&workspace=/w&name=n',
      status: 200,
      call:
        'listSessions({"state":["running","failed"],"labels":{"a":"1","b":"x=y"},' +
        '"workspace":"/w","name":"n"})',
    },
  ],
  ['[endpoint:getSession]', { path: session, status: 200, call: `getSession("${ID}")` }],
  [
    'getSession by a name or word',
    { path: '/api/v1/sessions/%40last', status: 404, call: 'getSession("@last")' },
  ],
  [
    '[endpoint:renameSession]',
    {
      method: 'PATCH',
      path: session,
      body: '{"name":"a.1"}',
      status: 200,
      call: `renameSession("${ID}", "a.1")`,
    },
  ],
  [
    '[endpoint:sendInput]',
    {
      ...post(`${session}/input`, { text: 'hi', on_busy: 'steer' }),
      status: 202,
      call: `acceptInput("${ID}", {"text":"hi","on_busy":"steer"}, "socket")`,
    },
  ],
  ['[endpoint:interrupt]', { ...post(`${session}/interrupt`), status: 200 }],
  ['[endpoint:suspend]', { ...post(`${session}/suspend`, {}), status: 200 }],
  ['[endpoint:resume]', { ...post(`${session}/resume`), status: 200 }],
  ['[endpoint:restart]', { ...post(`${session}/restart`), status: 200 }],
  [
    '[endpoint:close]',
    { ...post(`${session}/close`), status: 200, call: `close("${ID}", "socket")` },
  ],
  ['[endpoint:fork]', { ...post(`${session}/fork`), status: 201, call: `fork("${ID}", -, -)` }],
  [
    'fork at an event',
    {
      ...post(`${session}/fork`, { at: 7, name: 'f' }),
      status: 201,
      call: `fork("${ID}", 7, "f")`,
    },
  ],
  [
    '[endpoint:exportJournal]',
    {
      path: '/api/v1/journal?session=system&after=7&limit=2&aside=true',
      status: 200,
      call: 'exportJournal("system", {"after":7,"limit":2,"aside":true})',
      text: '{"events":[],"next":null}',
    },
  ],
  [
    '[endpoint:verifyJournal]',
    { path: '/api/v1/journal/verify?session=a', status: 200, call: 'verifyJournal("a")' },
  ],
  [
    '[endpoint:createBackup]',
    { ...post('/api/v1/backup', { path: '/b/x' }), status: 201, call: 'backup("/b/x")' },
  ],
  ['createBackup to a relative path', { ...post('/api/v1/backup', { path: 'x' }), status: 400 }],
  ['[endpoint:listApprovals]', { path: '/api/v1/approvals', status: 200, text: '[]' }],
  [
    '[endpoint:resolveApproval]',
    {
      ...post(`${session}/approvals/3.1.2`, { decision: 'deny', reason: 'no' }),
      status: 200,
      call: `resolveApproval("${ID}", "3.1.2", {"decision":"deny","reason":"no"}, "socket")`,
      text: '{"call_id":"3.1.2","decision":"deny"}',
    },
  ],
  [
    '[endpoint:explainPolicy]',
    {
      ...post('/api/v1/policy/explain', { tool: 'shell', arguments: { command: 'ls' } }),
      status: 200,
      call: 'explainPolicy({"tool":"shell","arguments":{"command":"ls"}})',
    },
  ],
  ['[endpoint:listKeptRules]', { path: '/api/v1/rules', status: 200, text: '[]' }],
  [
    '[endpoint:removeKeptRule]',
    {
      ...{ method: 'DELETE', path: '/api/v1/rules/r_1', status: 204 },
      call: 'removeKeptRule("r_1", "socket")',
    },
  ],
  ['[endpoint:readLink]', { path: '/api/v1/links/t.s', status: 200, call: 'readLink("t.s")' }],
  ['readLink of a link that is used up', { path: '/api/v1/links/spent', status: 409 }],
  [
    '[endpoint:answerLink]',
    { ...post('/api/v1/links/t.s/deny'), status: 200, call: 'answerLink("t.s", "deny")' },
  ],
  [
    '[endpoint:readEvents]',
    {
      path: `${session}/events?since=1&limit=10&epoch=1&types=input.accepted,turn.started`,
      status: 200,
      call: `readEvents("${ID}", {"since":1,"limit":10,"types":["input.accepted","turn.started"],"epoch":1})`,
    },
  ],
  [
    '[endpoint:readAllEvents]',
    { path: '/api/v1/events?cursor=c1&limit=1', status: 200, call: 'readAllEvents("c1", 1)' },
  ],
  ['[endpoint:openSocket]', { path: `${session}/ws`, status: 426, call: `getSession("${ID}")` }],
  [
    '[endpoint:listProcesses]',
    { path: '/api/v1/processes', status: 200, call: 'listProcesses(-)' },
  ],
  [
    '[endpoint:listSessionProcesses]',
    { path: `${session}/processes`, status: 200, call: `listProcesses("${ID}")` },
  ],
  [
    '[endpoint:getArtifact]',
    {
      path: `${session}/artifacts/out.1`,
      status: 200,
      call: `findArtifact("${ID}", "out.1")`,
      text: '0123456789',
    },
  ],
  [
    '[endpoint:deleteSession]',
    { method: 'DELETE', path: session, status: 204, call: `deleteSession("${ID}", "socket")` },
  ],
];

describe('the route table', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await openRig();
    await rig.client.createSession({ name: 'a' });
    rig.supervisor.artifactPath = join(rig.folder, 'artifact');
    await writeFile(rig.supervisor.artifactPath, '0123456789');
  });
  afterAll(() => rig.close());

  test.each(cases)('%s', async (name, { status, call, text, ...asked }) => {
    const answer = await ask(rig, asked);
    expect({ status: answer.status, id: typeof answer.headers['x-request-id'] }).toEqual({
      status,
      id: 'string',
    });
    if (call !== undefined) expect(rig.supervisor.calls.at(-1)).toBe(call);
    if (text !== undefined) expect(answer.text).toBe(text);
    const id = findCitations(name)[0]?.slice('endpoint:'.length);
    const route = routeTable.find((one) => one.id === id);
    if (status < 300 && route?.response !== undefined) {
      expect(() => route.response?.parse(JSON.parse(answer.text))).not.toThrow();
    }
  });

  test('has no route without a case here, but those that need a turn, or the built page', () => {
    const cited = cases.flatMap(([name]) => findCitations(name));
    const ours = routeTable.filter(({ path }) => !/^\/(v1\/|dashboard\/|$)/.test(path));
    expect(cited.sort()).toEqual(ours.map(({ id }) => `endpoint:${id}`).sort());
  });
});

describe('answers', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await openRig();
    await rig.client.createSession({ name: 'a' });
  });
  afterAll(() => rig.close());

  test('say where a new session is, and that an old one is not new', async () => {
    const headers = { 'idempotency-key': '"k 1"' };
    const first = await ask(rig, { ...post('/api/v1/sessions', {}), headers });
    const again = await ask(rig, {
      ...post('/api/v1/sessions', { idempotency_key: 'k 1' }),
    });
    const { id } = JSON.parse(first.text);
    expect([first.status, first.headers.location]).toEqual([201, `/api/v1/sessions/${id}`]);
    expect([again.status, JSON.parse(again.text).id]).toEqual([200, id]);
  });

  test('refuse two different idempotency keys', async () => {
    const headers = { 'idempotency-key': 'k1' };
    const body = { text: 'x', idempotency_key: 'k2' };
    const answer = await ask(rig, { ...post('/api/v1/sessions/a/input', body), headers });
    expect(parseProblem(answer).code).toBe('INVALID_REQUEST');
  });

  test('pass the idempotency key of the header on', async () => {
    const headers = { 'idempotency-key': 'k3' };
    await ask(rig, { ...post('/api/v1/sessions/a/input', { text: 'x' }), headers });
    const call = 'acceptInput("a", {"text":"x","idempotency_key":"k3"}, "socket")';
    expect(rig.supervisor.calls.at(-1)).toBe(call);
  });

  test.each(['degraded', 'stopping'] as const)('say why it is not ready: %s', async (health) => {
    rig.supervisor.health = health;
    const answer = await ask(rig, { path: '/readyz' });
    const expected = { status: health, reasons: ['journal: the disk is full'] };
    expect([answer.status, JSON.parse(answer.text)]).toEqual([503, expected]);
    rig.supervisor.health = 'ok';
  });

  test('page through events without a gap', async () => {
    for (let n = 0; n < 5; n += 1) rig.supervisor.append('a', 'turn.started', { n });
    const seen: number[] = [];
    for (let page = await rig.client.readEvents('a', { limit: 3 }); page.events.length > 0; ) {
      seen.push(...page.events.map(({ seq }) => seq));
      page = await rig.client.readEvents('a', { since: page.next, limit: 3 });
    }
    const { last_seq } = await rig.client.getSession('a');
    expect(seen).toEqual(Array.from({ length: last_seq }, (_, index) => index + 1));
  });

  test('carry the request id that the client gave, if it is one', async () => {
    const given = await ask(rig, { path: '/healthz', headers: { 'x-request-id': 'abc-1' } });
    const odd = await ask(rig, { path: '/healthz', headers: { 'x-request-id': 'a b' } });
    expect(given.headers['x-request-id']).toBe('abc-1');
    expect(odd.headers['x-request-id']).not.toBe('a b');
  });

  test('with a range outside of the file say how long it is', async () => {
    rig.supervisor.artifactPath = join(rig.folder, 'artifact');
    await writeFile(rig.supervisor.artifactPath, '0123456789');
    const path = '/api/v1/sessions/a/artifacts/x';
    const whole = await ask(rig, { path });
    const etag = String(whole.headers.etag);
    const get = (range: string, condition: string) =>
      ask(rig, { path, headers: { range, 'if-range': condition } });
    const outside = await get('bytes=10-', etag);
    expect([outside.status, outside.headers['content-range']]).toEqual([416, 'bytes */10']);
    const part = await get('bytes=-2', etag);
    expect([part.status, part.headers['content-range'], part.text]).toEqual([
      206,
      'bytes 8-9/10',
      '89',
    ]);
    expect((await get('bytes=-2', '"older"')).status).toBe(200);
  });

  test('with a file that the client has are a 304', async () => {
    rig.supervisor.artifactPath = join(rig.folder, 'artifact');
    await writeFile(rig.supervisor.artifactPath, '0123456789');
    const path = '/api/v1/sessions/a/artifacts/x';
    const etag = String((await ask(rig, { path })).headers.etag);
    const again = await ask(rig, { path, headers: { 'if-none-match': etag } });
    expect([again.status, again.headers.etag, again.text]).toEqual([304, etag, '']);
    expect((await ask(rig, { path, headers: { 'if-none-match': '"older"' } })).status).toBe(200);
  });

  test.each([
    ['a probe', '/healthz'],
    ['a session', '/api/v1/sessions/a'],
    ['events', '/api/v1/sessions/a/events'],
    ['metrics', '/metrics'],
    ['an artifact', '/api/v1/sessions/a/artifacts/x'],
    ['an unknown session', '/api/v1/sessions/zz'],
  ])('to HEAD are those to GET without the body: %s', async (_name, path) => {
    rig.supervisor.artifactPath = join(rig.folder, 'artifact');
    await writeFile(rig.supervisor.artifactPath, '0123456789');
    const facts = ({ status, headers }: Answered) => {
      const { 'x-request-id': _id, date: _date, ...rest } = headers;
      return { status, ...rest };
    };
    // A range is asked of GET alone.
    const get = await ask(rig, { path });
    const head = await ask(rig, { method: 'HEAD', path, headers: { range: 'bytes=0-1' } });
    expect(facts(head)).toEqual(facts(get));
    expect(head.text).toBe('');
  });

  test('to HEAD of a stream end at once', async () => {
    const path = '/api/v1/sessions/a/events?follow=true';
    const { status, headers, text } = await ask(rig, { method: 'HEAD', path });
    expect([status, headers['content-type'], text]).toEqual([
      200,
      'text/event-stream; charset=utf-8',
      '',
    ]);
    expect(rig.supervisor.followerCount).toBe(0);
  });
});
