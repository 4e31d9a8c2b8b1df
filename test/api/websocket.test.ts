/** A session over one WebSocket. */
import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { WebSocket } from 'ws';
import { PrxError } from '../../base/errors.ts';
import { createSteppedClock, type SteppedClock } from '../supervisor/stepped-clock.ts';
import { ask, open, openRig, parseProblem, type Rig, readUntil, tokens } from './harness.ts';

const url = '/api/v1/sessions/a/ws';

let clock: SteppedClock;
let rig: Rig;
beforeEach(async () => {
  clock = createSteppedClock();
  rig = await openRig({ clock });
  await rig.client.createSession({ name: 'a' });
});
afterEach(() => rig.close());

interface Peer {
  readonly ws: WebSocket;
  /** The next frame, parsed. */
  next(): Promise<Record<string, unknown>>;
  opened: Promise<void>;
  closed: Promise<number>;
}

function dial(address: string, headers: Record<string, string> = {}): Peer {
  const ws = new WebSocket(address, { headers });
  const frames: Record<string, unknown>[] = [];
  const waiting: ((frame: Record<string, unknown>) => void)[] = [];
  ws.on('message', (data) => {
    const frame = JSON.parse(String(data));
    const resolve = waiting.shift();
    if (resolve === undefined) frames.push(frame);
    else resolve(frame);
  });
  const opened = new Promise<void>((resolve) => ws.on('open', resolve));
  const closed = new Promise<number>((resolve) => ws.on('close', resolve));
  ws.on('error', () => undefined);
  const next = async () => frames.shift() ?? new Promise((resolve) => waiting.push(resolve));
  return { ws, next: next as Peer['next'], opened, closed };
}

const onSocket = (path = url): Peer => dial(`ws+unix:${rig.socketPath}:${path}`);

const say = (peer: Peer, message: unknown): void => peer.ws.send(JSON.stringify(message));

describe('the WebSocket of a session', () => {
  test('has every event as one frame, history first', async () => {
    const peer = onSocket();
    expect(await peer.next()).toMatchObject({ seq: 1, type: 'session.created' });
    rig.supervisor.append('a', 'turn.started', { turn: 1 });
    expect(await peer.next()).toMatchObject({ seq: 2, type: 'turn.started', data: { turn: 1 } });
    peer.ws.close();
    await rig.supervisor.unfollowed();
  });

  test('starts behind since', async () => {
    rig.supervisor.append('a', 'turn.started', {});
    const peer = onSocket(`${url}?since=1`);
    expect(await peer.next()).toMatchObject({ seq: 2 });
    peer.ws.close();
  });

  test('takes messages, and answers each with its ref', async () => {
    const peer = onSocket(`${url}?since=1`);
    await peer.opened;
    say(peer, { type: 'ping', ref: 'p' });
    expect(await peer.next()).toEqual({ type: 'pong', ref: 'p' });
    say(peer, { type: 'interrupt' });
    expect(await peer.next()).toMatchObject({ type: 'ack', result: { name: 'a' } });
    say(peer, { type: 'approval', ref: '2', call_id: '1.1.1', decision: 'approve' });
    expect(await peer.next()).toEqual({
      type: 'ack',
      ref: '2',
      result: { call_id: '1.1.1', decision: 'approve' },
    });
    say(peer, { type: 'input', ref: '3', text: 'hi', idempotency_key: 'k' });
    const frames = [await peer.next(), await peer.next()];
    expect(frames).toContainEqual(expect.objectContaining({ type: 'input.accepted', seq: 2 }));
    expect(frames).toContainEqual({
      type: 'ack',
      ref: '3',
      result: { input_id: 'in_1', seq: 2, duplicate: false },
    });
    const id = 's_0000000000000001';
    expect(rig.supervisor.calls.slice(-2)).toEqual([
      `resolveApproval("${id}", "1.1.1", {"decision":"approve"}, "socket")`,
      `acceptInput("${id}", {"text":"hi","idempotency_key":"k"}, "socket")`,
    ]);
    peer.ws.close();
  });

  test.each([
    ['no JSON', '{', undefined],
    ['no type', '{"ref":"r"}', 'r'],
    ['an unknown type', '{"type":"stop","ref":"r"}', 'r'],
    ['an unknown key', '{"type":"input","text":"x","txt":1,"ref":"r"}', 'r'],
    ['an interrupt with more', '{"type":"interrupt","now":true}', undefined],
  ])('tells what is wrong with a message: %s', async (_name, text, ref) => {
    const peer = onSocket(`${url}?since=1`);
    await peer.opened;
    peer.ws.send(text);
    const frame = await peer.next();
    expect(frame).toMatchObject({ type: 'problem', problem: { code: 'INVALID_REQUEST' } });
    expect(frame['ref']).toBe(ref);
    say(peer, { type: 'ping' });
    expect(await peer.next()).toEqual({ type: 'pong' });
    peer.ws.close();
  });

  test('refuses binary messages', async () => {
    const peer = onSocket(`${url}?since=1`);
    await peer.opened;
    peer.ws.send(Buffer.from('{"type":"ping"}'), { binary: true });
    expect(await peer.next()).toMatchObject({ type: 'problem' });
    peer.ws.close();
  });

  const frame = (head: readonly number[], body: readonly number[]): Buffer =>
    Buffer.from([...head, 0x80 | body.length, 0, 0, 0, 0, ...body]);
  test.each([
    ['one that is larger than a body may be', Buffer.from('81ff0000000001000001', 'hex'), 1009],
    ['text that is no UTF-8', frame([0x81], [0xff]), 1007],
    ['an opcode that there is not', frame([0x83], []), 1002],
    ['one without a mask', Buffer.from('8100', 'hex'), 1002],
  ])('ends only the connection that sends a broken frame: %s', async (_name, bytes, code) => {
    const peer = onSocket(`${url}?since=1`);
    const other = onSocket(`${url}?since=1`);
    await Promise.all([peer.opened, other.opened]);
    // Past the library, which would not send such a frame.
    const { _socket: socket } = peer.ws as unknown as { readonly _socket: Socket };
    socket.write(bytes);
    expect(await peer.closed).toBe(code);
    say(other, { type: 'ping' });
    expect(await other.next()).toEqual({ type: 'pong' });
    other.ws.close();
    await rig.supervisor.unfollowed();
  });

  test('hangs up on a client that floods it', async () => {
    const peer = onSocket(`${url}?since=1`);
    await peer.opened;
    rig.supervisor.interrupt = () => new Promise(() => undefined);
    for (let n = 0; n < 40; n += 1) say(peer, { type: 'interrupt' });
    expect(await peer.closed).toBe(1008);
  });

  test('pings, and drops a client that is silent for minutes', async () => {
    const peer = onSocket();
    await peer.next();
    const pinged = new Promise((resolve) => peer.ws.once('ping', resolve));
    clock.advance(15_000);
    await pinged;
    peer.ws.removeAllListeners('ping');
    clock.advance(330_000);
    expect(await peer.closed).toBe(1006);
  });

  test('ends with the session, with the server, and with what breaks it', async () => {
    const deleted = onSocket();
    await deleted.next();
    await rig.client.deleteSession('a');
    expect(await deleted.closed).toBe(1000);
    await rig.client.createSession({ name: 'a' });
    const broken = onSocket();
    await broken.next();
    const stopped = onSocket();
    await stopped.next();
    await rig.api.close();
    expect([await broken.closed, await stopped.closed]).toEqual([1001, 1001]);
  });

  test('says what broke the events', async () => {
    rig.supervisor.followEvents = async () => breakAtOnce();
    const peer = onSocket();
    expect(await peer.next()).toMatchObject({ problem: { code: 'STORE_CORRUPT' } });
    expect(await peer.closed).toBe(1011);
  });
});

// biome-ignore lint/correctness/useYield: it breaks before its first event.
async function* breakAtOnce() {
  throw new PrxError('STORE_CORRUPT', 'record 1 is damaged');
}

describe('many WebSockets of one session', () => {
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1);

  async function followers(count: number): Promise<void> {
    while (rig.supervisor.followerCount !== count) await new Promise(setImmediate);
  }

  async function readSeqs(peer: Peer, count: number): Promise<unknown[]> {
    const seqs: unknown[] = [];
    while (seqs.length < count) seqs.push((await peer.next())['seq']);
    return seqs;
  }

  test('share one follower, with clients of SSE as well, and each has every event once', async () => {
    const peers = Array.from({ length: 10 }, () => onSocket());
    const read = peers.map((peer) => readSeqs(peer, 40));
    const stream = await open(rig, { path: '/api/v1/sessions/a/events?follow=true' });
    await Promise.all(peers.map(({ opened }) => opened));
    await followers(1);
    for (let n = 2; n <= 40; n += 1) rig.supervisor.append('a', 'turn.started', { n });
    expect(await Promise.all(read)).toEqual(peers.map(() => upTo(40)));
    expect(await readUntil(stream, 'id: 40\n')).toContain('id: 39\n');
    expect(rig.supervisor.followerCount).toBe(1);
    stream.destroy();
    for (const { ws } of peers) ws.close();
    await rig.supervisor.unfollowed();
  });

  test('one that stops reading holds little, and has the rest later, each once', async () => {
    const COUNT = 2000;
    const [slow, fast] = [onSocket(), onSocket()];
    await slow.next();
    slow.ws.pause();
    const all = readSeqs(fast, COUNT);
    const text = 'x'.repeat(20_000);
    for (let n = 2; n <= COUNT; n += 1) {
      rig.supervisor.append('a', 'tool.output', { text });
      await new Promise(setImmediate);
    }
    expect(await all).toEqual(upTo(COUNT));
    // One follower feeds who keeps up; the slow one reads by itself, as far as it takes.
    expect(rig.supervisor.pulledCount).toBeLessThan(COUNT * 1.5);
    slow.ws.resume();
    expect(await readSeqs(slow, COUNT - 1)).toEqual(upTo(COUNT).slice(1));
    for (const { ws } of [slow, fast]) ws.close();
    await rig.supervisor.unfollowed();
  });
});

describe('a handshake', () => {
  const refusedStatus = (peer: Peer): Promise<number> =>
    new Promise((resolve) => {
      peer.ws.on('unexpected-response', (_request, response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
    });

  test.each([
    ['an unknown session', '/api/v1/sessions/zz/ws', 404],
    ['a path that is none', '/nope', 404],
    ['a route that is no socket', '/healthz', 200],
    ['a stale position', `${url}?since=9`, 409],
  ])('is answered by HTTP: %s', async (_name, path, status) => {
    expect(await refusedStatus(onSocket(path))).toBe(status);
  });

  test('needs a token on TCP, and the scope of what is said', async () => {
    const { port } = await rig.api.listenTcp({ host: '127.0.0.1', port: 0 });
    const address = `ws://127.0.0.1:${port}${url}`;
    expect(await refusedStatus(dial(address))).toBe(401);
    expect(await refusedStatus(dial(address, { origin: 'http://evil.example' }))).toBe(403);
    const reader = dial(address, { authorization: `Bearer ${tokens.read}` });
    await reader.next();
    say(reader, { type: 'interrupt', ref: '1' });
    expect(await reader.next()).toMatchObject({ ref: '1', problem: { code: 'FORBIDDEN' } });
    reader.ws.close();
  });

  const upgrading = { connection: 'upgrade', upgrade: 'websocket' };
  const key = { 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==' };

  test.each([
    ['without a key', {}, /Sec-WebSocket-Key/],
    ['of another version', { ...key, 'sec-websocket-version': '7' }, /Sec-WebSocket-Version/],
  ])('that is malformed is refused like anything else: %s', async (_name, more, detail) => {
    const answer = await ask(rig, { path: url, headers: { ...upgrading, ...more } });
    expect(answer.headers).toMatchObject({
      'content-type': 'application/problem+json; charset=utf-8',
      'x-request-id': expect.any(String),
      'sec-websocket-version': '13, 8',
    });
    const problem = { status: 400, code: 'INVALID_REQUEST', detail: expect.stringMatching(detail) };
    expect(parseProblem(answer)).toMatchObject(problem);
    await rig.supervisor.unfollowed();
  });

  test.each([
    ['Upgrade', { connection: 'keep-alive' }],
    ['Upgrade, close', { connection: 'close' }],
  ])('that is missing is asked for: 426 with Connection: %s', async (connection, headers) => {
    const answer = await ask(rig, { path: url, headers });
    expect([answer.status, answer.headers]).toMatchObject([
      426,
      { upgrade: 'websocket', connection },
    ]);
  });

  test('to another protocol is declined', async () => {
    const headers = { connection: 'upgrade, http2-settings', upgrade: 'h2c' };
    expect((await ask(rig, { path: '/healthz', headers })).status).toBe(200);
  });
});
