/** The audit log: who did what to what, by which token, with which status; and nothing that was
 *  said. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { WebSocket } from 'ws';
import { createLogger } from '../../base/logger.ts';
import { type Answered, ask, openRig, type Rig, tokens } from './harness.ts';

let folder: string;
let file: string;
let rig: Rig;
let port: number;
let logged: string[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'prx-audit-'));
  file = join(folder, 'audit.log');
  logged = [];
  const logger = createLogger('test', 'warn', { write: (line) => logged.push(line) });
  rig = await openRig({ auditFile: file, logger });
  ({ port } = await rig.api.listenTcp({ host: '127.0.0.1', port: 0, allowInsecure: false }));
});

afterEach(async () => {
  await rig.close();
  rmSync(folder, { recursive: true });
});

const read = (): Record<string, unknown>[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
const fingerprint = (token: string): string =>
  createHash('sha256').update(token).digest('hex').slice(0, 12);

interface Request {
  readonly token?: string;
  readonly method?: string;
  readonly path: string;
  readonly body?: unknown;
}

function request({ token, body, ...rest }: Request): Promise<Answered> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const text = body === undefined ? {} : { body: JSON.stringify(body) };
  return ask({ port }, { method: 'POST', ...rest, ...text, headers });
}

const facts = {
  time: expect.stringMatching(/^\d{4}-.*Z$/),
  request_id: expect.any(String),
  address: '127.0.0.1',
};

describe('the audit log', () => {
  test('has who made and changed what, by which token, and what came of it', async () => {
    const { token } = { token: tokens.operate };
    const made = await request({ token, path: '/api/v1/sessions', body: { name: 'n' } });
    const { id } = JSON.parse(made.text) as { id: string };
    const path = `/api/v1/sessions/${id}`;
    await request({ token, path: `${path}/input`, body: { text: 'walrus' } });
    await request({ token, path: '/api/v1/sessions/nobody/close' });
    const by = { by: 'token:operate', token: fingerprint(token) };
    expect(read()).toEqual([
      { ...facts, ...by, route: 'createSession', created: id, status: 201 },
      { ...facts, ...by, route: 'sendInput', on: { id }, status: 202 },
      {
        ...facts,
        ...by,
        route: 'close',
        on: { id: 'nobody' },
        status: 404,
        code: 'SESSION_NOT_FOUND',
      },
    ]);
  });

  test('names the socket, where no token is asked for', async () => {
    const body = JSON.stringify({ name: 'n' });
    await ask({ socketPath: rig.socketPath }, { method: 'POST', path: '/api/v1/sessions', body });
    expect(read()).toMatchObject([{ by: 'socket', route: 'createSession', status: 201 }]);
    expect(read()[0]).not.toHaveProperty('token');
  });

  test('has refused requests, by the first digits of the hash of what they bore', async () => {
    await request({ token: 'guessed', path: '/api/v1/sessions' });
    await request({ token: tokens.read, path: '/api/v1/sessions' });
    expect(read()).toMatchObject([
      { by: 'refused', token: fingerprint('guessed'), status: 401, code: 'UNAUTHORIZED' },
      { by: 'refused', token: fingerprint(tokens.read), status: 403, code: 'FORBIDDEN' },
    ]);
  });

  test('has no reading, no content, no token, and is owner-only', async () => {
    const { token } = { token: tokens.admin };
    await request({ token, method: 'GET', path: '/api/v1/sessions?label=walrus=1' });
    await request({ token, path: '/api/v1/sessions', body: { name: 'walrus' } });
    await request({ token, path: '/api/v1/sessions?walrus=1', body: {} });
    expect(read().map(({ route }) => route)).toEqual(['createSession', 'createSession']);
    const text = readFileSync(file, 'utf8');
    expect(text).not.toMatch(/walrus|token-admin/);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test('has nothing of a path that could be a credential: of a link, only how it was answered', async () => {
    await request({ path: '/api/v1/links/a-signed-link/approve' });
    expect(read()).toMatchObject([
      { by: 'anonymous', route: 'answerLink', on: { decision: 'approve' } },
    ]);
    expect(readFileSync(file, 'utf8')).not.toContain('a-signed-link');
  });

  test('has what came through a WebSocket, but pings', async () => {
    const { token } = { token: tokens.operate };
    const made = await request({ token, path: '/api/v1/sessions', body: {} });
    const { id } = JSON.parse(made.text) as { id: string };
    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/sessions/${id}/ws`, {
      headers: { authorization: `Bearer ${token}` },
    });
    const answers: string[] = [];
    const answered = Promise.withResolvers<void>();
    socket.on('message', (data) => {
      const { type } = JSON.parse(String(data)) as { type: string };
      if (!['pong', 'ack', 'problem'].includes(type)) return;
      answers.push(type);
      if (answers.length === 3) answered.resolve();
    });
    await once(socket, 'open');
    socket.send(JSON.stringify({ type: 'ping' }));
    socket.send(JSON.stringify({ type: 'input', text: 'walrus' }));
    socket.send(JSON.stringify({ type: 'approval', call_id: 'walrus' }));
    await answered.promise;
    socket.terminate();
    const by = { by: 'token:operate', route: 'openSocket' };
    expect(read().slice(1)).toMatchObject([
      { ...by, message: 'input', on: { id }, status: 200 },
      { ...by, message: 'approval', status: 400, code: 'INVALID_REQUEST' },
    ]);
  });

  test('that cannot be written stops no request, and the log says it once', async () => {
    mkdirSync(file);
    const { token } = { token: tokens.operate };
    const answers = await Promise.all(
      [1, 2].map(() => request({ token, path: '/api/v1/sessions', body: {} })),
    );
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
    const events = logged.map((line) => (JSON.parse(line) as { event: string }).event);
    expect(events).toEqual(['audit.failed']);
  });
});
