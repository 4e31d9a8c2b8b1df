/** The HTTP proxy of one session: CONNECT and absolute-form requests from inside, connections from
 *  out here. It follows no redirect, keeps no state between requests, and every connection is
 *  bounded in headers, idle time, total time and bytes. What is refused is answered with a text
 *  that says what is allowed. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { background } from '../../base/background.ts';
import { systemCode } from '../../base/errors.ts';
import { type CanonicalHost, parseAuthority, parseHost, toHostText } from '../../base/hostnames.ts';
import type { Logger } from '../../base/logger.ts';
import type { EffectId } from '../../protocol/ids.ts';
import { type OpenRequest, openRequest, type RequestDeps } from './requests.ts';

export interface ProxySpec extends RequestDeps {
  readonly logger: Logger;
  /** The call that owns a credential; undefined: nobody's. */
  readonly findCall: (credential: string) => EffectId | undefined;
  readonly limits?: Partial<ProxyLimits>;
}

export interface ProxyLimits {
  readonly connections: number;
  readonly idleMs: number;
  /** For all headers of one request. */
  readonly headersMs: number;
  readonly totalMs: number;
  /** In each direction of one connection. */
  readonly bytes: number;
}

export interface Proxy {
  /** Takes a connection that came from inside. */
  accept(socket: Socket): void;
  close(): void;
}

const limitsOfOne: ProxyLimits = {
  connections: 128,
  idleMs: 120_000,
  headersMs: 20_000,
  totalMs: 3_600_000,
  bytes: 4 * 2 ** 30,
};
const HEADER_BYTES_MAX = 32 * 1024;
/** A request without an end of its headers is looked for this often in the time it has. */
const HEADER_LOOKS = 4;

export function createProxy(spec: ProxySpec): Proxy {
  const limits = { ...limitsOfOne, ...spec.limits };
  const { clock, logger } = spec;
  const sockets = new Set<Socket>();
  const server = createServer({
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: limits.headersMs,
    requestTimeout: Math.max(limits.totalMs, limits.headersMs),
    connectionsCheckingInterval: Math.ceil(limits.headersMs / HEADER_LOOKS),
    keepAliveTimeout: 5000,
  });
  // It listens nowhere, and looks at its connections only once it does.
  server.emit('listening');
  /** Many may stand in one connection, and each has one of its own outside. */
  let running = 0;
  server.on('request', (asked, answer) => {
    if (running >= limits.connections) {
      refuse(answer, 503, toTooMany(limits));
      return;
    }
    running += 1;
    const over = forward({ spec, limits }, asked, answer).finally(() => {
      running -= 1;
    });
    background(over, 'network.forward', logger);
  });
  server.on('connect', (asked: IncomingMessage, socket: Duplex, head: Buffer) => {
    background(tunnel({ spec, limits }, asked, { socket, head }), 'network.tunnel', logger);
  });
  server.on('clientError', (error, socket) => {
    const { status, text } = toComplaint(systemCode(error), limits);
    if (socket.writable) socket.end(toRawAnswer(status, text));
    else socket.destroy();
  });

  return {
    accept(socket) {
      socket.on('error', () => undefined);
      if (sockets.size >= limits.connections) {
        socket.end(toRawAnswer(503, toTooMany(limits)));
        return;
      }
      sockets.add(socket);
      // Each request that it carries waits for its end.
      socket.setMaxListeners(0);
      const timer = clock.setTimer(limits.totalMs, () => socket.destroy());
      socket.once('close', () => {
        timer.cancel();
        sockets.delete(socket);
      });
      server.emit('connection', socket);
    },
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

function toTooMany({ connections }: ProxyLimits): string {
  return `at most ${connections} connections at once; close one first\n`;
}

function toComplaint(code: string | undefined, { headersMs }: ProxyLimits) {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return { status: 431, text: `more than ${HEADER_BYTES_MAX} bytes of headers\n` };
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return { status: 408, text: `no end of the headers within ${headersMs / 1000} s\n` };
  }
  return { status: 400, text: 'not HTTP\n' };
}

interface Place {
  readonly spec: ProxySpec;
  readonly limits: ProxyLimits;
}

interface TunnelClient {
  readonly socket: Duplex;
  /** What it sent before it had an answer. */
  readonly head: Buffer;
}

/** CONNECT: after the answer it is bytes both ways. */
async function tunnel(
  { spec, limits }: Place,
  asked: IncomingMessage,
  client: TunnelClient,
): Promise<void> {
  const { socket: inside, head } = client;
  inside.on('error', () => undefined);
  const target = parseAuthority(asked.url ?? '');
  if (target === undefined) {
    inside.end(toRawAnswer(400, 'CONNECT needs HOST:PORT, and HOST to be a valid host name\n'));
    return;
  }
  const opened = await openRequest(spec, {
    ...{ via: 'proxy', method: 'CONNECT', ...target },
    call: findCaller(spec, asked),
  });
  if (opened.kind === 'refused') {
    inside.end(toRawAnswer(opened.status, opened.text));
    return;
  }
  const { socket: outside } = opened.request;
  const over = new Promise<void>((resolve) => {
    outside.once('close', resolve);
    if (inside.destroyed) outside.destroy();
    inside.once('close', () => outside.destroy());
  });
  bound(outside, limits);
  outside.once('close', () => inside.destroy());
  outside.once('end', () => inside.end());
  inside.once('end', () => outside.end());
  inside.write('HTTP/1.1 200 Connection Established\r\n\r\n');
  const isRefused = spec.rules.limitsMethods && !isTls(await readFirst(client));
  if (isRefused) outside.destroy();
  else if (head.length > 0) outside.write(head);
  outside.pipe(inside, { end: false });
  inside.pipe(outside, { end: false });
  await over;
  await opened.request.finish(isRefused ? 403 : 200);
}

/** What comes first from inside; it stays to be read. Nothing: it has ended. */
async function readFirst({ socket, head }: TunnelClient): Promise<Buffer> {
  if (head.length > 0) return head;
  return await new Promise((resolve) => {
    socket.once('close', () => resolve(head));
    socket.once('readable', () => {
      const first: Buffer | null = socket.read();
      if (first !== null) socket.unshift(first);
      resolve(first ?? head);
    });
  });
}

const TLS_HANDSHAKE = 0x16;

function isTls(first: Buffer): boolean {
  return first.length === 0 || first[0] === TLS_HANDSHAKE;
}

/** Ends a connection that is silent for too long or carries too much. */
function bound(socket: Socket, limits: ProxyLimits): void {
  socket.setTimeout(limits.idleMs, () => socket.destroy());
  const check = (): void => {
    if (socket.bytesRead > limits.bytes || socket.bytesWritten > limits.bytes) socket.destroy();
  };
  socket.on('data', check);
  socket.on('drain', check);
}

/** Absolute form: `GET http://host/path`. */
async function forward(
  place: Place,
  asked: IncomingMessage,
  answer: ServerResponse,
): Promise<void> {
  const { spec, limits } = place;
  answer.on('error', () => undefined);
  const url = URL.parse(asked.url ?? '');
  const host = parseHost(url?.hostname ?? '');
  const problem = findProblem(url, host);
  if (url === null || host === undefined || problem !== undefined) {
    refuse(answer, 400, problem ?? 'not a URL\n');
    return;
  }
  const port = url.port === '' ? 80 : Number(url.port);
  const method = asked.method ?? 'GET';
  const call = findCaller(spec, asked);
  const opened = await openRequest(spec, { via: 'proxy', method, host, port, call });
  if (opened.kind === 'refused') {
    refuse(answer, opened.status, opened.text);
    return;
  }
  bound(opened.request.socket, limits);
  const up = { request: opened.request, url, host, port };
  const status = asked.socket.destroyed ? GONE : await relay(up, asked, answer);
  opened.request.socket.destroy();
  await opened.request.finish(status);
}

function findProblem(url: URL | null, host: CanonicalHost | undefined): string | undefined {
  if (url === null) return 'this is a proxy: ask it for a whole URL (http://host/path)\n';
  if (url.protocol === 'https:') return 'for https, ask this proxy to CONNECT\n';
  if (url.protocol !== 'http:') return `${url.protocol} is not served here, only http and https\n`;
  if (url.username !== '' || url.password !== '') return 'no credentials in the URL, please\n';
  return host === undefined ? 'the URL holds no valid host name\n' : undefined;
}

interface Upstream {
  readonly request: OpenRequest;
  readonly url: URL;
  readonly host: CanonicalHost;
  readonly port: number;
}

/** Nobody was left to be answered. */
const GONE = 499;

/** Sends one request on the connection that was opened for it. Resolves with the status that the
 *  tool was given, when the answer is over. */
function relay(up: Upstream, asked: IncomingMessage, answer: ServerResponse): Promise<number> {
  const { url, host, port } = up;
  const name = port === 80 ? toHostText(host) : `${toHostText(host)}:${port}`;
  return new Promise((resolve) => {
    const outgoing = request({
      createConnection: () => up.request.socket,
      method: asked.method,
      path: `${url.pathname}${url.search}`,
      setHost: false,
      headers: [
        ...['Host', name, 'Connection', 'close'],
        ...passHeaders(asked.rawHeaders, new Set(['host', ...Object.keys(up.request.headers)])),
        ...Object.entries(up.request.headers).flat(),
        // Without it the body of, say, a DELETE would reach the server as a request of its own.
        ...(asked.headers['transfer-encoding'] === undefined ? [] : CHUNKED),
      ],
    });
    const end = (): void => {
      asked.socket.off('close', end);
      resolve(answer.headersSent ? answer.statusCode : GONE);
      outgoing.destroy();
    };
    answer.once('close', end);
    // An answer that waits behind another one does not hear of it.
    asked.socket.once('close', end);
    // A second one would have nobody who takes it, and end this process.
    outgoing.on('error', () => {
      if (!answer.headersSent) refuse(answer, 502, `${name} ended the connection\n`);
      else answer.destroy();
    });
    outgoing.once('upgrade', (_response, socket: Duplex) => {
      socket.destroy();
      refuse(answer, 502, `${name} changed to another protocol, which is not passed on\n`);
    });
    outgoing.once('response', (response) => {
      response.on('error', () => answer.destroy());
      const { statusCode = 0, statusMessage = '', rawHeaders } = response;
      if (statusCode < STATUS_MIN) {
        outgoing.destroy();
        refuse(answer, 502, `${name} answered with the status ${statusCode}, which is none\n`);
        return;
      }
      answer.writeHead(statusCode, toStatusText(statusMessage), passHeaders(rawHeaders));
      response.pipe(answer);
    });
    asked.on('error', () => outgoing.destroy());
    asked.pipe(outgoing);
  });
}

/** What is below, and any word of a status, is taken from a server and refused by our own answer
 *  with an exception. */
const STATUS_MIN = 200;

function toStatusText(text: string): string {
  return text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, ' ');
}

const CHUNKED = ['Transfer-Encoding', 'chunked'];

/** What is meant for the next hop only, and what is meant for us. */
const hopByHop = [
  ...['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect'],
  ...['proxy-authenticate', 'proxy-authorization', 'proxy-connection'],
];

/** Raw headers, name and value in turn, without those that stop here. What a sender names as its
 *  own goes too, but never the length: without it the body would reach the server as a request of
 *  its own, which nobody judged. */
function passHeaders(raw: readonly string[], without: ReadonlySet<string> = new Set()): string[] {
  const pairs = raw.flatMap((name, i) => (i % 2 === 0 ? [[name, raw[i + 1] ?? ''] as const] : []));
  const named = pairs
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) =>
      value
        .toLowerCase()
        .split(',')
        .map((word) => word.trim()),
    )
    .filter((word) => word !== 'content-length');
  const dropped = new Set([...hopByHop, ...named, ...without]);
  return pairs.filter(([name]) => !dropped.has(name.toLowerCase())).flat();
}

function findCaller(spec: ProxySpec, asked: IncomingMessage): EffectId | undefined {
  const [, encoded] = /^Basic (\S+)$/i.exec(asked.headers['proxy-authorization'] ?? '') ?? [];
  const pair = Buffer.from(encoded ?? '', 'base64').toString('latin1');
  return spec.findCall(pair.slice(pair.indexOf(':') + 1));
}

function refuse(answer: ServerResponse, status: number, text: string): void {
  answer.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' });
  answer.end(text);
}

/** For a connection on which no request has been parsed to its end. */
function toRawAnswer(status: number, text: string): string {
  const length = Buffer.byteLength(text);
  return [
    `HTTP/1.1 ${status} ${status === 403 ? 'Forbidden' : 'Refused'}`,
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${length}`,
    'Connection: close',
    '',
    text,
  ].join('\r\n');
}
