/** Issued tokens: through the api and the command line, on disk, in force, refused, and audited. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { WebSocket } from 'ws';
import { type Logger, silentLogger } from '../../base/logger.ts';
import { createSeededRandom } from '../../base/random.ts';
import { openTokenBook } from '../../supervisor/token-book.ts';
import { runCli } from '../cli/run-cli.ts';
import { createSteppedClock, type SteppedClock } from '../supervisor/stepped-clock.ts';
import { ask, open, openRig, parseProblem, type Rig, readUntil, tokens } from './harness.ts';

const DAY_MS = 86_400_000;

let clock: SteppedClock;
let logged: unknown[];
let rig: Rig;
let port: number;
beforeEach(async () => {
  clock = createSteppedClock(0);
  logged = [];
  rig = await openRig({ clock, logger: recording() });
  port = (await rig.api.listenTcp({ host: '127.0.0.1', port: 0 })).port;
});
afterEach(() => rig.close());

function recording(): Logger {
  const note = (event: string, fields?: object): void => void logged.push({ event, ...fields });
  return { ...silentLogger, warn: note, info: note, error: note };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const get = (token: string, path = '/api/v1/sessions') =>
  ask({ port }, { path, headers: bearer(token) });
const cli = (...argv: string[]) => runCli({ stateDir: join(rig.folder, 'run') }, argv);
const file = (): string => join(rig.folder, 'api-tokens.json');

describe('[command:token] create', () => {
  test('prints the value once; the file is owner-only and has its hash alone', async () => {
    const { exit, out, err } = await cli('token', 'create', '--name', 'ci', '--scope', 'operate');
    expect(exit).toBe(0);
    expect(out).toMatch(/^prx_[0-9a-f]{64}\n$/);
    expect(err).toContain("token 'ci' (operate)");
    expect((await get(out.trim())).status).toBe(200);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    const everything = `${readFileSync(file(), 'utf8')}${JSON.stringify([logged, rig.audit])}`;
    expect(everything).not.toContain(out.trim().slice(4));
    expect(rig.audit).toMatchObject([
      { type: 'token.created', data: { name: 'ci', scopes: ['operate'], by: 'socket' } },
    ]);
  });

  test('[event:token.created] without options: a name is made, it may read', async () => {
    const { out } = await cli('token', 'create', '--json');
    const { name, scopes, token } = JSON.parse(out);
    expect(name).toMatch(/^token-[0-9a-f]{8}$/);
    expect(scopes).toEqual(['read']);
    expect((await get(token)).status).toBe(200);
    expect((await get(token, '/api/v1/tokens')).status).toBe(403);
    expect(rig.audit).toMatchObject([{ type: 'token.created', data: { name } }]);
  });

  test.each([
    [['--name', 'read'], 1, "there is a token 'read' already"],
    [['--name', '-x y'], 2, 'name'],
    [['--scope', 'everything'], 2, 'scope'],
    [['--expires', 'soon'], 2, "--expires is 'soon'"],
  ])('refuses %j', async (options, exit, message) => {
    const ran = await cli('token', 'create', ...options);
    expect([ran.exit, ran.out]).toEqual([exit, '']);
    expect(ran.err).toContain(message);
    expect(existsSync(file())).toBe(false);
  });

  test('[endpoint:createToken] is refused over TCP, whatever the token', async () => {
    const asked = { method: 'POST', path: '/api/v1/tokens', headers: bearer(tokens.admin) };
    const answer = await ask({ port }, asked);
    expect([answer.status, parseProblem(answer).code]).toEqual([403, 'FORBIDDEN']);
  });

  test('two at once with one name: one of them is made', async () => {
    const both = ['a', 'a'].map((name) => rig.client.createToken({ name }));
    const outcomes = await Promise.allSettled(both);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(JSON.parse(readFileSync(file(), 'utf8')).tokens).toHaveLength(1);
  });
});

describe('[command:token] ls', () => {
  test('[endpoint:listTokens] names scopes, source, expiry and last use, and no value', async () => {
    const { token } = await rig.client.createToken({ name: 'ci', expires_in_secs: 3600 });
    await get(token);
    const listed = JSON.parse((await cli('token', 'ls', '--json')).out);
    expect(listed.at(-1)).toEqual({
      name: 'ci',
      scopes: ['read'],
      source: 'issued',
      fingerprint: expect.stringMatching(/^[0-9a-f]{12}$/),
      created_at: '1970-01-01T00:00:00.000Z',
      expires_at: '1970-01-01T01:00:00.000Z',
      last_used_at: '1970-01-01T00:00:00.000Z',
      is_expired: false,
    });
    expect(listed[0]).toMatchObject({ name: 'read', source: 'config' });
    expect((await cli('token', 'ls', '-q')).out).toBe('read\napprove\noperate\nadmin\nci\n');
    expect((await cli('token', 'ls', '--plain')).out).toContain('ci');
  });
});

describe('[command:token] revoke', () => {
  test('[endpoint:revokeToken] [event:token.revoked] refuses the next request', async () => {
    const { token, fingerprint } = await rig.client.createToken({ name: 'ci' });
    expect((await cli('token', 'revoke', 'ci')).out).toBe('revoked ci\n');
    expect((await get(token)).status).toBe(401);
    expect(rig.audit.at(-1)).toEqual({
      type: 'token.revoked',
      data: { name: 'ci', fingerprint, by: 'socket' },
    });
    expect(logged.at(-1)).toMatchObject({
      event: 'token.refused',
      code: 'UNAUTHORIZED',
      route: 'listSessions',
      fingerprint,
    });
    expect(JSON.stringify(logged)).not.toContain(token);
  });

  test('ends its event streams, and no others', async () => {
    await rig.client.createSession({ name: 'a' });
    const { token } = await rig.client.createToken({ name: 'ci' });
    const path = '/api/v1/sessions/a/events?follow=true';
    const mine = await open({ port }, { path, headers: bearer(token) });
    const other = await open({ port }, { path, headers: bearer(tokens.read) });
    await readUntil(stay(mine), 'id: 1\n');
    await readUntil(stay(other), 'id: 1\n');
    await rig.client.revokeToken('ci');
    await new Promise((resolve) => mine.once('close', resolve).resume());
    rig.supervisor.append('a', 'turn.started', {});
    expect(await readUntil(other, 'id: 2\n')).toContain('turn.started');
    other.destroy();
  });

  test('ends its WebSocket; what it sends meanwhile is not done', async () => {
    await rig.client.createSession({ name: 'a' });
    const { token } = await rig.client.createToken({ name: 'ci', scopes: ['operate'] });
    const ws = new WebSocket(`ws://127.0.0.1:${port}/api/v1/sessions/a/ws`, {
      headers: bearer(token),
    });
    await new Promise((resolve) => ws.once('message', resolve));
    const closed = new Promise((resolve) => ws.once('close', resolve));
    await rig.client.revokeToken('ci');
    ws.send(JSON.stringify({ type: 'input', text: 'too late' }));
    expect(await closed).toBe(1001);
    expect(rig.supervisor.calls.join()).not.toContain('too late');
  });

  test.each([
    ['nobody', 'there is no token'],
    ['read', 'is of the configuration'],
  ])('refuses %s', async (name, message) => {
    const { exit, err } = await cli('token', 'revoke', name);
    expect([exit, err]).toEqual([1, expect.stringContaining(message)]);
  });

  test('needs a name', async () => {
    expect((await cli('token', 'revoke')).exit).toBe(2);
  });
});

/** The stream, to be read in parts. */
function stay(stream: Awaited<ReturnType<typeof open>>) {
  return stream.iterator({ destroyOnReturn: false });
}

describe('a token that expires', () => {
  test('is valid until then, and refused from then on', async () => {
    const { token } = await rig.client.createToken({ name: 'ci', expires_in_secs: 86_400 });
    clock.advance(DAY_MS - 1);
    expect((await get(token)).status).toBe(200);
    clock.advance(1);
    const answer = await get(token);
    expect([answer.status, parseProblem(answer).detail]).toEqual([
      401,
      expect.stringContaining("the token 'ci' expired at 1970-01-02"),
    ]);
    expect((await rig.client.listTokens()).at(-1)).toMatchObject({ is_expired: true });
  });

  test('takes its streams along', async () => {
    await rig.client.createSession({ name: 'a' });
    const { token } = await rig.client.createToken({ expires_in_secs: 60 });
    const path = '/api/v1/sessions/a/events?follow=true';
    const stream = await open({ port }, { path, headers: bearer(token) });
    await readUntil(stay(stream), 'id: 1\n');
    clock.advance(60_000);
    await new Promise((resolve) => stream.once('close', resolve).resume());
    await rig.supervisor.unfollowed();
  });
});

describe('the file of tokens', () => {
  const reopen = () =>
    openTokenBook({
      file: file(),
      configured: [],
      clock,
      random: createSeededRandom('tokens'),
      logger: recording(),
      announce: async () => undefined,
    });

  test('has what the next supervisor needs, last use within a minute', async () => {
    const { token, ...view } = await rig.client.createToken({ name: 'ci', scopes: ['approve'] });
    await rig.client.createToken({ name: 'gone' });
    await rig.client.revokeToken('gone');
    clock.advance(500);
    await get(token);
    clock.advance(60_000);
    const used = { ...view, last_used_at: '1970-01-01T00:00:00.500Z' };
    await rig.client.createToken({ name: 'next' }); // Its save is behind that of the use.
    expect((await reopen()).list()).toMatchObject([used, { name: 'next' }]);
  });

  test.each(['{', '{"version":2,"tokens":[]}', '{"version":1,"tokens":[{"name":"a"}]}'])(
    'that is damaged (%s) makes no token valid, is named, and is not overwritten',
    async (text) => {
      writeFileSync(file(), text);
      const book = await reopen();
      expect(book.tokens()).toEqual([]);
      expect(logged.at(-1)).toMatchObject({ event: 'token.file_unreadable', file: file() });
      await expect(book.create({}, 'socket')).rejects.toMatchObject({ code: 'STATE_DIR_UNUSABLE' });
      await expect(book.revoke('a', 'socket')).rejects.toMatchObject({
        code: 'STATE_DIR_UNUSABLE',
      });
      expect(readFileSync(file(), 'utf8')).toBe(text);
    },
  );

  test('that cannot be written: no token is made', async () => {
    const book = await openTokenBook({
      file: '/proc/nobody/api-tokens.json',
      configured: [],
      clock,
      random: createSeededRandom('tokens'),
      logger: silentLogger,
      announce: async () => undefined,
    });
    await expect(book.create({ name: 'a' }, 'socket')).rejects.toMatchObject({
      code: 'STATE_DIR_UNUSABLE',
    });
    expect(book.tokens()).toEqual([]);
  });

  test('that cannot be written: what is revoked can be revoked again (regression)', async () => {
    const book = await reopen();
    await book.create({ name: 'a' }, 'socket');
    mkdirSync(`${file()}.new`); // In the way of what is written.
    await expect(book.revoke('a', 'socket')).rejects.toMatchObject({
      code: 'STATE_DIR_UNUSABLE',
      message: expect.stringMatching(/^'a' is refused from now on, but .* revoke it again$/),
    });
    expect([book.tokens(), (await reopen()).tokens().length]).toEqual([[], 1]);
    rmSync(`${file()}.new`, { recursive: true });
    await book.revoke('a', 'socket');
    expect((await reopen()).tokens()).toEqual([]);
    await expect(book.revoke('a', 'socket')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('the roles', () => {
  const decide = (token: string, body: object) =>
    ask(
      { port },
      {
        method: 'POST',
        path: '/api/v1/sessions/a/approvals/1.1.1',
        headers: bearer(token),
        body: JSON.stringify(body),
      },
    );
  const approve = { decision: 'approve' };
  const edited = { ...approve, arguments: { command: 'ls' } };

  beforeEach(async () => {
    await rig.client.createSession({ name: 'a' });
  });

  test.each([
    ['observer', tokens.read, [403, 403]],
    ['approver', tokens.approve, [200, 403]],
    ['driver', tokens.operate, [200, 200]],
  ])('%s: approves, and edits what is run: %#', async (_role, token, expected) => {
    const statuses = [(await decide(token, approve)).status, (await decide(token, edited)).status];
    expect(statuses).toEqual(expected);
  });

  test.each([
    ['observer', tokens.read, ['problem', 'problem', 'problem']],
    ['approver', tokens.approve, ['ack', 'problem', 'problem']],
    ['driver', tokens.operate, ['ack', 'ack', 'ack']],
  ])('%s over a WebSocket: approves, edits, prompts: %#', async (_role, token, expected) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/api/v1/sessions/a/ws?since=1`, {
      headers: bearer(token),
    });
    const answers: unknown[] = [];
    const done = new Promise<void>((resolve) => {
      ws.on('message', (data) => {
        const { type, ref } = JSON.parse(String(data));
        if (ref !== undefined) answers.push(type);
        if (answers.length === 3) resolve();
      });
    });
    await new Promise((resolve) => ws.once('open', resolve));
    const call_id = '1.1.1';
    for (const message of [
      { type: 'approval', ref: '1', call_id, ...approve },
      { type: 'approval', ref: '2', call_id, ...edited },
      { type: 'input', ref: '3', text: 'hello' },
    ]) {
      ws.send(JSON.stringify(message));
    }
    await done;
    expect(answers).toEqual(expected);
    ws.terminate();
  });

  test('are handed over by revoking one token and naming another', async () => {
    const first = await rig.client.createToken({ name: 'anna', scopes: ['operate'] });
    const second = await rig.client.createToken({ name: 'ben', scopes: ['operate'] });
    await rig.client.revokeToken('anna');
    const statuses = [await decide(first.token, approve), await decide(second.token, approve)];
    expect(statuses.map(({ status }) => status)).toEqual([401, 200]);
    expect(rig.supervisor.calls.at(-1)).toContain('"token:ben"');
  });
});
