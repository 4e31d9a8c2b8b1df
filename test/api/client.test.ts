/** The client of the CLI against the server, over the unix socket and TCP; what it says when
 *  nobody is there; and streams that survive their connection. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type ConnectionNews, reconnectDelayMs } from '../../api/client/follow.ts';
import { createClient } from '../../api/client.ts';
import { PrxError } from '../../base/errors.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { createSteppedClock } from '../supervisor/stepped-clock.ts';
import { openRig, type Rig, tokens } from './harness.ts';

describe('every method', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await openRig();
  });
  afterAll(() => rig.close());

  test('reaches its route', async () => {
    const { client, supervisor } = rig;
    const { view, created } = await client.createSession({ name: 'a', idempotency_key: 'k' });
    expect([created, view.name]).toEqual([true, 'a']);
    expect((await client.createSession({ idempotency_key: 'k' })).created).toBe(false);
    expect(await client.listSessions({ state: ['running'], labels: { 'a.b': 'x=y&z' } })).toEqual([
      await client.getSession('a'),
    ]);
    expect(supervisor.calls.at(-2)).toBe(
      'listSessions({"state":["running"],"labels":{"a.b":"x=y&z"}})',
    );
    expect((await client.renameSession('a', 'b')).name).toBe('b');
    expect((await client.sendInput('b', { text: 'é😀' })).seq).toBe(2);
    for (const action of ['interrupt', 'suspend', 'resume', 'restart', 'close'] as const) {
      expect((await client[action]('b')).id).toBe(view.id);
      expect(supervisor.calls.at(-1)).toBe(`${action}("b", "socket")`);
    }
    expect((await client.fork('b', { at: 1, name: 'c' })).name).toBe('c');
    expect(await client.readEvents('b', { limit: 1 })).toMatchObject({ next: 1, last_seq: 2 });
    expect((await client.readAllEvents({ limit: 2 })).cursor).toBe('c2');
    expect(await client.listApprovals()).toEqual([]);
    await client.resolveApproval('b', '1.1.1', { decision: 'deny' });
    expect(await client.listProcesses()).toEqual(await client.listProcesses('b'));
    await client.deleteSession('b');
    await expect(client.getSession('b')).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
  });

  test('about the supervisor, too', async () => {
    const { client, supervisor } = rig;
    expect(await client.getHealth()).toEqual({ status: 'ok' });
    supervisor.health = 'stopping';
    expect((await client.getReadiness()).status).toBe('stopping');
    expect(await client.getMetrics()).toContain('prx_sessions');
    expect(await client.getOpenapi()).toMatchObject({ openapi: '3.1.0' });
    expect((await client.getStatus({ deep: true })).status).toBe('stopping');
    expect(supervisor.calls.at(-1)).toBe('status(true)');
    expect(await client.reload()).toEqual({ changed: ['agent.model'], needs_restart: [] });
    expect(await client.sweep()).toMatchObject({ killed: [{ kind: 'worker', pid: 7 }] });
    await client.stop({ drain_secs: 2 });
    expect(supervisor.calls.at(-1)).toBe('requestStop(2000, "socket")');
  });

  test('that reads an artifact gets its bytes, or a range of them', async () => {
    await rig.client.createSession({ name: 'd' });
    rig.supervisor.artifactPath = join(rig.folder, 'file');
    await writeFile(rig.supervisor.artifactPath, '0123456789');
    const read = async (range?: string): Promise<unknown[]> => {
      const { status, byteCount, stream } = await rig.client.openArtifact('d', 'x', range);
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk);
      return [status, byteCount, Buffer.concat(chunks).toString()];
    };
    expect(await read()).toEqual([200, 10, '0123456789']);
    expect(await read('bytes=2-4')).toEqual([206, 3, '234']);
    await expect(read('bytes=10-')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    await writeFile(rig.supervisor.artifactPath, '');
    expect(await read()).toEqual([200, 0, '']);
    for (const path of [join(rig.folder, 'gone'), rig.folder]) {
      rig.supervisor.artifactPath = path;
      await expect(read()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    }
  });
});

describe('errors', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await openRig();
  });
  afterAll(() => rig.close());

  test('of the supervisor arrive as they were', async () => {
    const sent = new PrxError('AT_CAPACITY', 'full', { data: { resident: 8 } });
    rig.supervisor.failNext(sent);
    const received = await rig.client.getStatus().catch((error: unknown) => error);
    expect(received).toBeInstanceOf(PrxError);
    expect(received).toMatchObject({
      code: 'AT_CAPACITY',
      message: 'full',
      data: { resident: 8, retry_after_secs: 1 },
    });
  });

  test('say when the body is too large, without sending it', async () => {
    const act = rig.client.sendInput('a', { text: 'x'.repeat(17 * 1024 * 1024) });
    await expect(act).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
  });

  test('over TCP follow from the token', async () => {
    const { url } = await rig.api.listenTcp({ host: '127.0.0.1', port: 0 });
    await expect(createClient({ url }).getStatus()).rejects.toMatchObject({
      code: 'UNAUTHORIZED',
    });
    const reader = createClient({ url: `${url}/`, token: tokens.read });
    expect((await reader.getStatus()).status).toBe('ok');
    await expect(reader.reload()).rejects.toMatchObject({ code: 'FORBIDDEN' });
  });

  test('name the limit on the path of a socket', async () => {
    const socketPath = `/tmp/${'x'.repeat(110)}/api.sock`;
    await expect(createClient({ socketPath }).getHealth()).rejects.toMatchObject({
      code: 'NOT_RUNNING',
      message: expect.stringContaining('the path has 124 bytes, a unix socket takes 107'),
    });
  });

  test.each([
    ['an absent socket', { socketPath: '/nonexistent/api.sock' }, 'NOT_RUNNING'],
    ['a file', { socketPath: import.meta.filename }, 'NOT_RUNNING'],
    ['a closed port', { url: 'http://127.0.0.1:1' }, 'NOT_RUNNING'],
    ['no URL', { url: 'localhost:80' }, 'INVALID_REQUEST'],
  ])('name what is wrong with %s', async (_name, target, code) => {
    await expect(createClient(target).getHealth()).rejects.toMatchObject({ code });
  });
});

describe('a server that misbehaves', () => {
  let folder: string;
  let socketPath: string;
  let server: Server;
  let respond: (response: ServerResponse) => void;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'prx-client-'));
    socketPath = join(folder, 'x.sock');
    server = createServer((_request, response) => respond(response));
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  });
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  });

  test.each([
    ['hangs up at once', (response: ServerResponse) => void response.destroy()],
    [
      'hangs up mid-answer',
      (response: ServerResponse) => {
        response.writeHead(200, { 'content-length': 10 });
        response.write('{', () => response.destroy());
      },
    ],
    [
      'is another one',
      (response: ServerResponse) => void response.writeHead(502).end('<html>bad gateway'),
    ],
  ])('%s', async (_name, act) => {
    respond = act;
    await expect(createClient({ socketPath }).getHealth()).rejects.toMatchObject({
      code: 'PEER_CLOSED',
    });
  });

  test.each(['the head', 'the body'])('never sends %s', async (part) => {
    const clock = createSteppedClock();
    const begun = new Promise<void>((resolve) => {
      respond = (response) => {
        if (part === 'the body') response.writeHead(200).write('{');
        resolve();
      };
    });
    const client = createClient({ socketPath, clock, timeoutMs: 500 });
    const answer = client.getHealth();
    const outcome = expect(answer).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    await begun;
    clock.advance(499);
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(500);
    await outcome;
  });

  test('is from the future', async () => {
    respond = (response) => {
      response.writeHead(418).end('{"code":"TEAPOT","detail":"short and stout"}');
    };
    await expect(createClient({ socketPath }).getHealth()).rejects.toMatchObject({
      code: 'INTERNAL',
      message: 'short and stout',
    });
  });
});

describe('following', () => {
  test('goes on behind what it has seen when the server comes back (FAULTS 38, 63, 66)', async () => {
    const rig = await openRig();
    await rig.client.createSession({ name: 'a' });
    const { url, port } = await rig.api.listenTcp({ host: '127.0.0.1', port: 0 });
    const clock = createSteppedClock();
    const news: ConnectionNews[] = [];
    const client = createClient({ url, token: tokens.admin, clock });
    const options = { onConnection: (one: ConnectionNews) => news.push(one) };
    const events = client.followEvents('a', options)[Symbol.asyncIterator]();
    expect((await events.next()).value).toMatchObject({ seq: 1 });

    const next = events.next();
    await rig.api.close();
    await clock.armed(100);
    const second = await openRig();
    await second.client.createSession({ name: 'a' });
    second.supervisor.append('a', 'turn.started', {});
    clock.advance(100);
    await clock.armed(200); // Refused: nobody listens yet.
    await second.api.listenTcp({ host: '127.0.0.1', port });
    clock.advance(200);
    expect((await next).value).toMatchObject({ seq: 2 });
    const asked = second.supervisor.calls.filter((call) => call.includes('"since":1'));
    expect(asked[0]).toContain('{"since":1,"epoch":1}');
    expect(news.map(({ kind }) => kind)).toEqual(['open', 'lost', 'lost', 'open']);
    await events.return?.(undefined);
    await second.supervisor.unfollowed();
    await Promise.all([rig.close(), second.close()]);
  });

  test('ends without error when the signal aborts', async () => {
    const rig = await openRig();
    await rig.client.createSession({ name: 'a' });
    const controller = new AbortController();
    const seen: EventEnvelope[] = [];
    for await (const event of rig.client.followEvents('a', { signal: controller.signal })) {
      seen.push(event);
      controller.abort();
    }
    expect(seen).toHaveLength(1);
    await rig.supervisor.unfollowed();
    await rig.close();
  });

  test('throws what makes going on impossible', async () => {
    const rig = await openRig();
    await rig.client.createSession({ name: 'a' });
    const first = (ref: string, since: number) =>
      rig.client.followEvents(ref, { since })[Symbol.asyncIterator]().next();
    await expect(first('zz', 0)).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
    await expect(first('a', 9)).rejects.toMatchObject({
      code: 'CURSOR_SUPERSEDED',
      data: { epoch: 1, last_good_seq: 1 },
    });
    await rig.close();
    await expect(first('a', 0)).rejects.toMatchObject({ code: 'NOT_RUNNING' });
  });

  test('gives up after a bounded number of attempts', async () => {
    const rig = await openRig();
    await rig.client.createSession({ name: 'a' });
    const clock = createSteppedClock();
    const client = createClient({ socketPath: rig.socketPath, clock });
    const events = client.followEvents('a')[Symbol.asyncIterator]();
    await events.next();
    const outcome = expect(events.next()).rejects.toMatchObject({ code: 'NOT_RUNNING' });
    await rig.close();
    for (let attempt = 1; attempt <= 10; attempt += 1) {
      const delayMs = reconnectDelayMs(attempt);
      await clock.armed(delayMs);
      clock.advance(delayMs);
    }
    await outcome;
  });

  test('all sessions goes on behind the cursor', async () => {
    const rig = await openRig();
    await rig.client.createSession({ name: 'a' });
    await rig.client.createSession({ name: 'b' });
    const events = rig.client.followAllEvents({ cursor: 'c1' })[Symbol.asyncIterator]();
    expect((await events.next()).value).toMatchObject({ event: { seq: 1 }, cursor: 'c2' });
    await events.return?.(undefined);
    await rig.close();
  });

  test('pauses longer each time, up to a bound', () => {
    const pauses = Array.from({ length: 8 }, (_, index) => reconnectDelayMs(index + 1));
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  });
});
