import { PassThrough } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import type { Message } from 'vscode-jsonrpc/node';
import { type Clock, realClock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import { DRAIN_MS, REQUESTS_MAX } from '../../protocol/connection.ts';
import { encodeFrame } from '../../protocol/frames.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { connectPeers, transports, turnUntil } from './peers.ts';

const NO_DEADLINE = { timeoutMs: Number.POSITIVE_INFINITY };

/** A clock whose timers fire when told to. */
function createManualClock(): Clock & { readonly delays: number[]; fire(): void } {
  const timers = new Set<() => void>();
  const delays: number[] = [];
  return {
    ...realClock,
    delays,
    setTimer(delayMs, fire) {
      if (delayMs === Number.POSITIVE_INFINITY) return { cancel: () => undefined };
      delays.push(delayMs);
      timers.add(fire);
      return { cancel: () => void timers.delete(fire) };
    },
    fire() {
      for (const fire of [...timers]) fire();
    },
  };
}

describe.each(transports)('a connection over %s', (_, createPair) => {
  test('answers requests, in any number at once', async () => {
    const { client } = connectPeers({ pair: createPair() });
    const values = Array.from({ length: 50 }, (_unused, index) => ({ value: `${index}` }));
    const answers = values.map((params) => client.request('echo', params, { timeoutMs: 5_000 }));
    expect(await Promise.all(answers)).toEqual(values);
    client.close();
  });

  test('carries 5 MB, and characters of several bytes', async () => {
    const { client } = connectPeers({ pair: createPair() });
    const params = { value: '😀é'.repeat(800_000) };
    expect(await client.request('echo', params, { timeoutMs: 10_000 })).toEqual(params);
    client.close();
  });

  test('keeps notifications in order, also those right before the close', async () => {
    const { client, server, told } = connectPeers({ pair: createPair() });
    const sent = Array.from({ length: 20 }, (_unused, index) => `${index}`);
    for (const value of sent) void client.notify('tell', { value });
    await client.notify('tell', { value: 'last words' });
    client.close();
    expect(await server.closed).toEqual({ kind: 'eof' });
    expect(told).toEqual([...sent, 'last words']);
  });

  test('a message is what it was when it was sent', async () => {
    const { client, told } = connectPeers({ pair: createPair() });
    const params = { value: 'before' };
    void client.notify('tell', params);
    params.value = 'after';
    await turnUntil(() => told.length === 1);
    expect(told).toEqual(['before']);
    client.close();
  });

  test('close rejects what is pending at once, on both sides, and is idempotent', async () => {
    const { client, server, hangEnded, hangs } = connectPeers({ pair: createPair() });
    const pending = client.request('hang', {}, NO_DEADLINE);
    await turnUntil(() => hangs() === 1);
    client.close();
    client.close();
    await expect(pending).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    expect(client.isOpen()).toBe(false);
    expect(await client.closed).toEqual({ kind: 'closed' });
    expect(await server.closed).toEqual({ kind: 'eof' });
    expect(await hangEnded).toBe('aborted');
    const late = client.request('echo', { value: '' }, NO_DEADLINE);
    await expect(late).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    await client.notify('tell', { value: 'into the void' });
  });

  test('the end of the peer rejects what is pending', async () => {
    const { client, server, hangs } = connectPeers({ pair: createPair() });
    const pending = client.request('hang', {}, NO_DEADLINE);
    await turnUntil(() => hangs() === 1);
    server.close();
    await expect(pending).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    expect(await client.closed).toEqual({ kind: 'eof' });
  });

  test('a deadline rejects the request and cancels it at the peer', async () => {
    const clock = createManualClock();
    const { client, hangEnded, hangs } = connectPeers({ pair: createPair(), clock });
    const pending = client.request('hang', {}, { timeoutMs: 1_234 });
    await turnUntil(() => hangs() === 1);
    expect(clock.delays).toEqual([1_234]);
    clock.fire();
    await expect(pending).rejects.toMatchObject({
      code: 'DEADLINE_EXCEEDED',
      message: 'the server did not answer hang within 1234 ms',
    });
    expect(await hangEnded).toBe('aborted');
    expect(client.isOpen()).toBe(true);
    client.close();
  });

  test('a cancel reaches the signal of the handler', async () => {
    const { client, hangEnded, hangs } = connectPeers({ pair: createPair() });
    const abort = new AbortController();
    const pending = client.request('hang', {}, { ...NO_DEADLINE, signal: abort.signal });
    await turnUntil(() => hangs() === 1);
    abort.abort();
    await expect(pending).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await hangEnded).toBe('aborted');
    expect(await client.request('echo', { value: 'on' }, NO_DEADLINE)).toEqual({ value: 'on' });
    client.close();
  });

  test('a request that is cancelled before it is made is not sent', async () => {
    const { client, hangs } = connectPeers({ pair: createPair() });
    const options = { ...NO_DEADLINE, signal: AbortSignal.abort() };
    await expect(client.request('hang', {}, options)).rejects.toMatchObject({ code: 'CANCELLED' });
    await client.request('echo', { value: 'behind it' }, NO_DEADLINE);
    expect(hangs()).toBe(0);
    client.close();
  });

  test('the code, message and data of an error survive the trip', async () => {
    const fail = async ({ with: kind }: { with: string }): Promise<never> => {
      if (kind === 'typed') throw new PrxError('QUEUE_FULL', 'no room', { data: { limit: 3 } });
      throw new TypeError('not a number');
    };
    const { client } = connectPeers({ pair: createPair(), handlers: { fail } });
    await expect(client.request('fail', { with: 'typed' }, NO_DEADLINE)).rejects.toMatchObject({
      code: 'QUEUE_FULL',
      message: 'no room',
      data: { limit: 3 },
    });
    await expect(client.request('fail', { with: 'bug' }, NO_DEADLINE)).rejects.toMatchObject({
      code: 'INTERNAL',
      message: 'not a number',
      data: {},
    });
    client.close();
  });

  test.each([
    ['of another shape', { value: 7 }],
    ['absent', undefined],
    ['positional', ['x']],
    ['empty positional', []],
  ])('params that are %s reject with INVALID_REQUEST', async (_what, params) => {
    const { client } = connectPeers({ pair: createPair() });
    const answer = client.request('echo', params as never, NO_DEADLINE);
    await expect(answer).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(client.isOpen()).toBe(true);
    client.close();
  });

  test('a result of another shape rejects with INVALID_REQUEST', async () => {
    const { client } = connectPeers({ pair: createPair() });
    await expect(client.request('lie', {}, NO_DEADLINE)).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringContaining('count'),
    });
    client.close();
  });

  test('an unknown request is a violation, named in the reason', async () => {
    const { client, server } = connectPeers({ pair: createPair() });
    const answer = client.request('unknown', {}, NO_DEADLINE);
    await expect(answer).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    expect(await server.closed).toMatchObject({
      kind: 'protocol',
      error: { code: 'METHOD_UNKNOWN', message: expect.stringContaining('unknown') },
    });
  });

  test.each([
    ['an unknown notification', 'unknown', {}, 'METHOD_UNKNOWN'],
    ['a malformed notification', 'tell', { value: 1 }, 'INVALID_REQUEST'],
    ['a notification whose handler throws', 'boom', {}, 'INTERNAL'],
  ] as const)('%s ends the connection', async (_what, method, params, code) => {
    const { client, server } = connectPeers({ pair: createPair() });
    await client.notify(method, params as never);
    expect(await server.closed).toMatchObject({ kind: 'protocol', error: { code } });
    expect(await client.closed).toEqual({ kind: 'eof' });
  });

  test('an answer after the end of the connection goes nowhere and harms nobody', async () => {
    let answer: (() => void) | undefined;
    const echo = (params: { value: string }): Promise<{ value: string }> =>
      new Promise((resolve) => {
        answer = () => resolve(params);
      });
    const { client, server } = connectPeers({ pair: createPair(), handlers: { echo } });
    const pending = client.request('echo', { value: 'x' }, NO_DEADLINE);
    const rejected = expect(pending).rejects.toMatchObject({ code: 'PEER_CLOSED' });
    await turnUntil(() => answer !== undefined);
    client.close();
    await server.closed;
    answer?.();
    await rejected;
    await new Promise((resolve) => setImmediate(resolve));
  });
});

describe('a connection over streams', () => {
  function connectRaw(clock: Clock = realClock) {
    const toServer = new PassThrough();
    const toClient = new PassThrough();
    const unused = new PassThrough();
    const peers = connectPeers({
      pair: [
        createStreamTransport(unused, new PassThrough()),
        createStreamTransport(toServer, toClient),
      ],
      clock,
    });
    return { ...peers, toServer, toClient };
  }

  test('garbage ends it with the reason, behind what was said before', async () => {
    const { server, told, toServer } = connectRaw();
    const message = { jsonrpc: '2.0', method: 'tell', params: { value: 'x' } } as Message;
    toServer.write(Buffer.concat([encodeFrame(message), Buffer.from('oops\n')]));
    expect(await server.closed).toMatchObject({
      kind: 'protocol',
      error: { code: 'FRAME_INVALID', message: expect.stringContaining('oops') },
    });
    expect(told).toEqual(['x']);
  });

  test('a frame cut by the end of the stream is named as such', async () => {
    const { server, toServer } = connectRaw();
    toServer.end('Content-Length: 10\r\n\r\n{');
    expect(await server.closed).toMatchObject({
      kind: 'protocol',
      error: { code: 'FRAME_INVALID', data: { truncated: true } },
    });
  });

  test('a peer that stopped listening is still heard to its end', async () => {
    const { server, told, toServer, toClient } = connectRaw();
    toClient.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    const message = { jsonrpc: '2.0', method: 'tell', params: { value: 'last' } } as Message;
    toServer.end(encodeFrame(message));
    expect(await server.closed).toEqual({ kind: 'eof' });
    expect(told).toEqual(['last']);
  });

  test('a peer that stopped listening and lives on is given up after the drain', async () => {
    const clock = createManualClock();
    const { server, toClient } = connectRaw(clock);
    toClient.destroy();
    await turnUntil(() => clock.delays.includes(DRAIN_MS));
    expect(server.isOpen()).toBe(true);
    clock.fire();
    expect(await server.closed).toEqual({ kind: 'eof' });
  });

  test('a peer that asks on and never reads its answers is ended, by name', async () => {
    const { server, toServer } = connectRaw();
    const params = { value: 'x'.repeat(1_000_000) };
    for (let id = 1; id <= 20; id += 1) {
      toServer.write(encodeFrame({ jsonrpc: '2.0', id, method: 'echo', params } as Message));
    }
    expect(await server.closed).toMatchObject({
      kind: 'protocol',
      error: { code: 'LIMIT_EXCEEDED', message: expect.stringContaining('does not read') },
    });
  });

  test('a peer that asks for more at once than anyone may is ended, by name', async () => {
    const { server, toServer, hangs } = connectRaw();
    const ask = (id: number) =>
      toServer.write(encodeFrame({ jsonrpc: '2.0', id, method: 'hang', params: {} } as Message));
    for (let id = 1; id <= REQUESTS_MAX; id += 1) ask(id);
    await turnUntil(() => hangs() === REQUESTS_MAX);
    expect(server.isOpen()).toBe(true);
    ask(REQUESTS_MAX + 1);
    expect(await server.closed).toMatchObject({
      kind: 'protocol',
      error: { code: 'LIMIT_EXCEEDED', message: expect.stringContaining('under way') },
    });
    expect(hangs()).toBe(REQUESTS_MAX);
  });

  test.each([
    ['{"jsonrpc":"2.0","method":"$/cancelRequest"}'],
    ['{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":null}}'],
  ])('a malformed cancel is a violation: %s', async (body) => {
    const { server, toServer } = connectRaw();
    toServer.write(`Content-Length: ${body.length}\r\n\r\n${body}`);
    expect(await server.closed).toMatchObject({ kind: 'protocol' });
  });

  test('a cancel for what is not running, and a late answer, are ignored', async () => {
    const { server, told, toServer } = connectRaw();
    for (const message of [
      { jsonrpc: '2.0', method: '$/cancelRequest', params: { id: 99 } },
      { jsonrpc: '2.0', id: 42, result: {} },
      { jsonrpc: '2.0', method: 'tell', params: { value: 'still here' } },
    ]) {
      toServer.write(encodeFrame(message as Message));
    }
    await turnUntil(() => told.length === 1);
    expect(server.isOpen()).toBe(true);
    server.close();
  });
});

describe('a message beyond the frame limit', () => {
  const LIMIT = 1_000;
  function connectLimited() {
    const up = new PassThrough();
    const down = new PassThrough();
    const options = { frameBytesMax: LIMIT };
    const pair = [
      createStreamTransport(down, up, options),
      createStreamTransport(up, down, options),
    ] as const;
    return connectPeers({
      pair,
      handlers: { echo: async ({ value }) => ({ value: value.repeat(100) }) },
    });
  }

  test('as a request: it rejects, and the connection lives', async () => {
    const { client } = connectLimited();
    const tooLarge = client.request('echo', { value: 'x'.repeat(LIMIT) }, NO_DEADLINE);
    await expect(tooLarge).rejects.toMatchObject({ code: 'FRAME_TOO_LARGE' });
    expect(await client.request('echo', { value: 'x' }, NO_DEADLINE)).toEqual({
      value: 'x'.repeat(100),
    });
    client.close();
  });

  test('as an answer: the asker is told, and the connection lives', async () => {
    const { client } = connectLimited();
    const tooLarge = client.request('echo', { value: 'x'.repeat(20) }, NO_DEADLINE);
    await expect(tooLarge).rejects.toMatchObject({ code: 'FRAME_TOO_LARGE' });
    expect(client.isOpen()).toBe(true);
    client.close();
  });

  test('as a notification: it ends the connection rather than to vanish', async () => {
    const { client } = connectLimited();
    await client.notify('tell', { value: 'x'.repeat(LIMIT) });
    expect(await client.closed).toMatchObject({
      kind: 'protocol',
      error: { code: 'FRAME_TOO_LARGE' },
    });
  });
});
