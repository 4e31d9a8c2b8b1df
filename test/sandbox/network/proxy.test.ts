/** The proxy over the machine's loopback, with a resolver of our own: names that change their
 *  mind, secrets as headers, and each bound. */
import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { realClock } from '../../../base/clock.ts';
import { silentLogger } from '../../../base/logger.ts';
import { type NetworkPolicy, type NetworkRequest, noNetwork } from '../../../protocol/network.ts';
import { createProxy, type ProxyLimits } from '../../../sandbox/network/proxy.ts';
import { REQUESTS_MAX, type SecretAnswer } from '../../../sandbox/network/requests.ts';
import { createNetworkRules } from '../../../sandbox/network/rules.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function startServer(): Promise<{ port: number; seen: IncomingMessage[] }> {
  const seen: IncomingMessage[] = [];
  const server = createHttpServer((asked, answer) => {
    seen.push(asked);
    answer.writeHead(200, { 'x-hop': 'a', connection: 'x-hop' });
    asked.pipe(answer);
  });
  return { port: await listen(server), seen };
}

interface Bench {
  readonly port: number;
  readonly requests: NetworkRequest[];
  /** Resolves at the first of them. */
  readonly reported: Promise<void>;
  /** Resolves when the first who asked has gone. */
  readonly left: Promise<void>;
  readonly lookups: string[];
}

interface BenchSpec {
  readonly policy: Partial<NetworkPolicy>;
  readonly lookup?: (name: string) => readonly string[] | Promise<readonly string[]>;
  readonly secrets?: Readonly<Record<string, SecretAnswer>>;
  readonly limits?: Partial<ProxyLimits>;
  readonly canRecord?: boolean;
  /** Requests that the call has made before. */
  readonly earlier?: number;
}

async function startProxy(spec: BenchSpec): Promise<Bench> {
  const requests: NetworkRequest[] = [];
  const lookups: string[] = [];
  let count = spec.earlier ?? 0;
  let markReported: () => void = () => undefined;
  const reported = new Promise<void>((resolve) => {
    markReported = resolve;
  });
  const policy: NetworkPolicy = { ...noNetwork, mode: 'allowlist', ...spec.policy };
  const proxy = createProxy({
    clock: realClock,
    logger: silentLogger,
    rules: createNetworkRules(policy),
    injections: policy.injections,
    async lookup(name) {
      lookups.push(name);
      return spec.lookup?.(name) ?? [];
    },
    readSecret: async (name) => spec.secrets?.[name] ?? { kind: 'refused', reason: `no ${name}` },
    canRecord: () => spec.canRecord ?? true,
    count: () => {
      count += 1;
      return count;
    },
    async report(one) {
      requests.push(one);
      markReported();
    },
    findCall: () => undefined,
    ...(spec.limits === undefined ? {} : { limits: spec.limits }),
  });
  const { promise: left, resolve: markLeft } = Promise.withResolvers<void>();
  const door = createServer({ allowHalfOpen: true }, (socket) => {
    socket.once('close', () => markLeft());
    proxy.accept(socket);
  });
  closers.push(() => proxy.close());
  return { port: await listen(door), requests, reported, left, lookups };
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: IncomingMessage['headers'];
}

function ask(bench: Bench, url: string, own: object = {}, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { host } = new URL(url);
    const options = { host: '127.0.0.1', port: bench.port, path: url, headers: { host } };
    const outgoing = request({ ...options, ...own, agent: false }, async (response) => {
      let text = '';
      for await (const chunk of response) text += String(chunk);
      resolve({ status: response.statusCode ?? 0, text, headers: response.headers });
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

async function sendRaw(port: number, text: string): Promise<{ socket: Socket; first: string }> {
  const socket = connect(port, '127.0.0.1');
  closers.push(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.write(text);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  return { socket, first: chunk.toString('latin1') };
}

describe('a name', () => {
  test('is resolved once, and that very address is connected to', async () => {
    const { port } = await startServer();
    let asked = 0;
    const bench = await startProxy({
      policy: { allowedDomains: [`good.example:${port}`, `127.0.0.1:${port}`] },
      // The second answer would be another place: it is never asked for.
      lookup: () => (asked++ === 0 ? ['127.0.0.1'] : ['10.0.0.1']),
    });
    const answer = await ask(bench, `http://good.example:${port}/x`, { method: 'POST' }, 'body');
    expect(answer).toMatchObject({ status: 200, text: 'body' });
    expect(bench.lookups).toEqual(['good.example']);
    expect(bench.requests).toMatchObject([{ host: 'good.example', address: '127.0.0.1' }]);
  });

  test.each([
    [['127.0.0.1'], 'loopback'],
    [['169.254.169.254'], 'metadata'],
    [['::1'], 'loopback'],
    [['::ffff:10.0.0.1'], 'private'],
    [['10.0.0.1', '192.168.0.1'], 'private'],
  ])('that turns out to be %j is refused (%s)', async (addresses, why) => {
    const bench = await startProxy({
      policy: { allowedDomains: ['rebind.example'] },
      lookup: () => addresses,
    });
    const answer = await ask(bench, 'http://rebind.example/');
    expect(answer.status).toBe(403);
    expect(answer.text).toContain(why);
    expect(bench.requests).toMatchObject([{ decision: 'deny', rule: 'private address' }]);
  });

  test('without an address, or one that answers, is a bad gateway and not a refusal', async () => {
    const bench = await startProxy({ policy: { allowedDomains: ['none.example', '127.0.0.1:1'] } });
    expect(await ask(bench, 'http://none.example/')).toMatchObject({ status: 502 });
    const closed = await ask(bench, 'http://127.0.0.1:1/');
    expect(closed.text).toMatch(/refused the connection \(ECONNREFUSED\)/);
    expect(bench.requests.map((one) => [one.decision, one.status])).toEqual([
      ['allow', 502],
      ['allow', 502],
    ]);
  });
});

test.each([
  ['words of a status that we may not send', 'HTTP/1.1 200 \x01\x7fOK', 200],
  ['a status that is none', 'HTTP/1.1 099 OK', 502],
  ['another protocol', 'HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x', 502],
])('a server that answers with %s (regression)', async (_, head, status) => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(`${head}\r\nContent-Length: 0\r\n\r\n`, 'latin1'));
  });
  const port = await listen(server);
  const bench = await startProxy({ policy: { allowedDomains: [`127.0.0.1:${port}`] } });
  expect(await ask(bench, `http://127.0.0.1:${port}/`)).toMatchObject({ status });
  await bench.reported;
  expect(bench.requests).toMatchObject([{ decision: 'allow', status }]);
});

test('headers for one hop stop there, and our own words never reach the server', async () => {
  const { port, seen } = await startServer();
  const bench = await startProxy({ policy: { allowedDomains: [`127.0.0.1:${port}`] } });
  const headers = {
    ...{ 'proxy-authorization': 'Basic eDp5', connection: 'x-mine', 'x-mine': '1' },
    ...{ host: 'other.example', 'x-kept': 'yes' },
  };
  const answer = await ask(bench, `http://127.0.0.1:${port}/`, { headers });
  expect(answer.headers['x-hop']).toBeUndefined();
  expect(seen[0]?.headers).toMatchObject({ host: `127.0.0.1:${port}`, 'x-kept': 'yes' });
  expect(seen[0]?.headers).not.toHaveProperty('x-mine');
  expect(seen[0]?.headers).not.toHaveProperty('proxy-authorization');
});

test('a body without a length stays a body', async () => {
  const { port, seen } = await startServer();
  const bench = await startProxy({ policy: { allowedDomains: [`127.0.0.1:${port}`] } });
  const inner = 'GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n';
  const own = { method: 'DELETE', headers: { 'transfer-encoding': 'chunked' } };
  const answer = await ask(bench, `http://127.0.0.1:${port}/`, own, inner);
  expect(answer.text).toBe(inner);
  expect(seen.map(({ url }) => url)).toEqual(['/']);
});

test('a body whose length its sender calls his own stays a body', async () => {
  const { port, seen } = await startServer();
  const bench = await startProxy({
    policy: { allowedDomains: [`127.0.0.1:${port}`], allowedMethods: ['GET'] },
  });
  const inner = 'POST /smuggled HTTP/1.1\r\nhost: x\r\n\r\n';
  const headers = { connection: 'Content-Length', 'content-length': String(inner.length) };
  const answer = await ask(bench, `http://127.0.0.1:${port}/`, { headers }, inner);
  expect(answer.text).toBe(inner);
  expect(seen.map(({ method, headers: { 'content-length': length } }) => [method, length])).toEqual(
    [['GET', String(inner.length)]],
  );
});

describe('[config:secrets.inject.<name>.domain] a secret for a domain', () => {
  const injections = [
    { secret: 'KEY', domain: '127.0.0.1', header: 'Authorization', format: 'Bearer {value}' },
  ];

  test('goes with plain requests to it, over what the tool wrote', async () => {
    const { port, seen } = await startServer();
    const bench = await startProxy({
      policy: { allowedDomains: [`127.0.0.1:${port}`], injections },
      secrets: { KEY: { kind: 'value', value: '$&swordfish' } },
    });
    await ask(bench, `http://127.0.0.1:${port}/`, { headers: { authorization: 'mine' } });
    expect(seen[0]?.headers.authorization).toBe('Bearer $&swordfish');
    expect(bench.requests).toMatchObject([{ secrets: ['KEY'] }]);
    expect(JSON.stringify(bench.requests)).not.toContain('swordfish');
  });

  test('that cannot be had refuses the request', async () => {
    const { port, seen } = await startServer();
    const policy = { allowedDomains: [`127.0.0.1:${port}`], injections };
    const bench = await startProxy({ policy });
    const answer = await ask(bench, `http://127.0.0.1:${port}/`);
    expect(answer).toMatchObject({ status: 403, text: expect.stringContaining('no KEY') });
    expect(seen).toEqual([]);
  });
});

test('a request that nobody waits for any more is recorded, and not sent (regression)', async () => {
  const { port, seen } = await startServer();
  const found = Promise.withResolvers<readonly string[]>();
  const asked = Promise.withResolvers<void>();
  const bench = await startProxy({
    policy: { allowedDomains: [`a.example:${port}`, `127.0.0.1:${port}`] },
    lookup() {
      asked.resolve();
      return found.promise;
    },
  });
  const socket = connect(bench.port, '127.0.0.1');
  socket.write(`GET http://a.example:${port}/ HTTP/1.1\r\nhost: x\r\n\r\n`);
  await asked.promise;
  socket.destroy();
  await bench.left;
  found.resolve(['127.0.0.1']);
  await bench.reported;
  expect(bench.requests).toMatchObject([{ address: '127.0.0.1', status: 499 }]);
  expect(seen).toEqual([]);
});

describe('a bound', () => {
  test('of requests at once, also in one connection (regression)', async () => {
    const { port } = await startServer();
    const policy = { allowedDomains: [`127.0.0.1:${port}`] };
    const bench = await startProxy({ policy, limits: { connections: 2 } });
    const one = `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nhost: x\r\n\r\n`;
    const { socket, first } = await sendRaw(bench.port, one.repeat(3));
    let text = first;
    for await (const chunk of socket) text += String(chunk);
    expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 200', 'HTTP/1.1 503']);
  });

  test('of header bytes', async () => {
    const bench = await startProxy({ policy: { allowedDomains: ['example.org'] } });
    const headers = `x: ${'a'.repeat(40_000)}\r\n\r\n`;
    const { first } = await sendRaw(bench.port, `GET http://example.org/ HTTP/1.1\r\n${headers}`);
    expect(first).toMatch(/^HTTP\/1\.1 431/);
    expect(bench.lookups).toEqual([]);
  });

  test('of the time for headers (regression)', async () => {
    const bench = await startProxy({ policy: {}, limits: { headersMs: 40 } });
    const { first } = await sendRaw(bench.port, 'GET http://example.org/ HTTP/1.1\r\n');
    expect(first).toMatch(/^HTTP\/1\.1 408 .*no end of the headers within 0\.04 s\n$/s);
  });

  test('of requests in one call: the first too many is recorded, and the rest refused', async () => {
    const { port, seen } = await startServer();
    const policy = { allowedDomains: [`127.0.0.1:${port}`] };
    const bench = await startProxy({ policy, earlier: REQUESTS_MAX - 1 });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i += 1) {
      statuses.push((await ask(bench, `http://127.0.0.1:${port}/`)).status);
    }
    expect(statuses).toEqual([200, 429, 429, 429]);
    expect(seen).toHaveLength(1);
    expect(bench.requests.map(({ rule }) => rule)).toEqual([expect.any(String), 'requests']);
  });

  test('of connections at once', async () => {
    const bench = await startProxy({ policy: {}, limits: { connections: 1 } });
    const held = connect(bench.port, '127.0.0.1');
    closers.push(() => held.destroy());
    await once(held, 'connect');
    const { first } = await sendRaw(bench.port, 'GET http://example.org/ HTTP/1.1\r\n\r\n');
    expect(first).toMatch(/^HTTP\/1\.1 503 .*at most 1 connections at once/s);
  });

  test.each<readonly [string, Partial<ProxyLimits>, boolean]>([
    ['silence', { idleMs: 20 }, false],
    ['total time', { totalMs: 20 }, false],
    ['bytes', { bytes: 1000 }, true],
  ])('of %s ends a tunnel, and it is recorded', async (_name, limits, talks) => {
    const port = await listen(
      createServer((socket) => {
        socket.on('error', () => undefined);
        socket.write(talks ? 'x'.repeat(100_000) : 'x');
      }),
    );
    const policy = { allowedDomains: [`127.0.0.1:${port}`] };
    const bench = await startProxy({ policy, limits });
    const opening = `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`;
    const { socket, first } = await sendRaw(bench.port, opening);
    expect(first).toMatch(/^HTTP\/1\.1 200/);
    socket.resume();
    if (!socket.destroyed) await once(socket, 'close');
    await bench.reported;
    expect(bench.requests).toMatchObject([{ method: 'CONNECT', decision: 'allow', status: 200 }]);
  });
});

test.each(['CONNECT example.org HTTP/1.1', 'CONNECT a@example.org:443 HTTP/1.1'])(
  '%s is a bad request',
  async (line) => {
    const bench = await startProxy({ policy: { allowedDomains: ['example.org'] } });
    const { first } = await sendRaw(bench.port, `${line}\r\n\r\n`);
    expect(first).toMatch(/^HTTP\/1\.1 400/);
    expect(bench.lookups).toEqual([]);
  },
);

describe('where methods are limited, a tunnel', () => {
  async function tunnel(first: Buffer, isEarly: boolean) {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    const port = await listen(server);
    const policy = { allowedDomains: [`127.0.0.1:${port}`], allowedMethods: ['GET'] };
    const bench = await startProxy({ policy });
    const opening = Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`);
    const socket = connect(bench.port, '127.0.0.1');
    closers.push(() => socket.destroy());
    socket.write(isEarly ? Buffer.concat([opening, first]) : opening);
    let text = '';
    socket.on('data', (chunk) => {
      if (text === '' && !isEarly) socket.write(first);
      text += chunk.toString('latin1');
      // All of it came back.
      if (text.endsWith(first.toString('latin1'))) socket.end();
    });
    await once(socket, 'close');
    await bench.reported;
    return { text: text.replace(/^[\s\S]*\r\n\r\n/, ''), status: bench.requests[0]?.status };
  }

  test.each([true, false])('carries TLS, sent at once: %s', async (isEarly) => {
    const first = Buffer.from([0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]);
    expect(await tunnel(first, isEarly)).toEqual({ text: first.toString('latin1'), status: 200 });
  });

  test.each([true, false])(
    'carries no plain HTTP, sent at once: %s (regression)',
    async (early) => {
      const first = Buffer.from('POST / HTTP/1.1\r\n');
      expect(await tunnel(first, early)).toEqual({ text: '', status: 403 });
    },
  );
});

test('what nobody would record is not done', async () => {
  const { port, seen } = await startServer();
  const bench = await startProxy({
    ...{ policy: { allowedDomains: [`127.0.0.1:${port}`] }, canRecord: false },
  });
  expect(await ask(bench, `http://127.0.0.1:${port}/`)).toMatchObject({ status: 503 });
  expect(seen).toEqual([]);
});
