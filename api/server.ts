/** The HTTP api: the supervisor's face, mapped. One set of routes behind every listener; what a
 *  caller may do depends on the door it came through. Holds no state of sessions; closing it ends
 *  every stream, and clients go on from their last event at the next supervisor. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { Supervisor, TokenBook } from '../supervisor/index.ts';
import { createAudit } from './audit.ts';
import { type Door, toHostName } from './auth.ts';
import { createBroadcasts } from './broadcast.ts';
import { createHandler, type Handler } from './handler.ts';
import { createServer } from './http.ts';
import {
  assertAddressAllowed,
  listenOnSocket,
  listenOnTcp,
  stripBrackets,
  type TcpAddress,
} from './listeners.ts';
import { openPage } from './page.ts';
import { HttpError, toRefusal } from './problem.ts';
import { createRates } from './rates.ts';
import { createRefusals } from './refusals.ts';
import { createStreams } from './streams.ts';

export interface ApiOptions {
  readonly supervisor: Supervisor;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  /** The folder of the built web page; absent: there is none to serve. */
  readonly pageDir?: string;
  /** Shown in the OpenAPI document. */
  readonly version: string;
  /** The audit log; absent: none is kept. */
  readonly auditFile?: string;
  /** Who may use TCP. Streams of a token that is revoked end. */
  readonly tokens: TokenBook;
  /** Requests a second of one caller over TCP, asked for at each; absent or 0: any number. */
  readonly requestsPerSec?: () => number;
  /** How long a client may take; absent: as TIMEOUTS. */
  readonly timeouts?: Timeouts;
  /** Further names that clients know this server by, as a proxy passes them on in Host. */
  readonly hosts?: readonly string[];
  /** Web origins besides the server's own whose pages may call. */
  readonly origins?: readonly string[];
}

export interface Api {
  /** Owner-only unix socket. @throws LISTEN_REFUSED, ALREADY_RUNNING. */
  listenSocket(path: string): Promise<void>;
  /** @returns the URL with the bound port. @throws LISTEN_REFUSED. */
  listenTcp(address: TcpAddress): Promise<{ url: string; port: number }>;
  /** Accepts nothing new, ends the streams, lets requests under way end for CLOSE_MS_MAX.
   *  Idempotent. */
  close(): Promise<void>;
}

/** Milliseconds that a client may take. Node has such limits of its own; ours are written down,
 *  tested, and shorter: a connection that says nothing useful is one that another cannot have. */
export interface Timeouts {
  /** From the connection, or the last answer on it, to the end of a request's headers. */
  readonly headersMs: number;
  /** To the end of its body: 16 MiB at 140 kB a second. */
  readonly requestMs: number;
  /** A kept connection without a request; longer than proxies keep theirs, so that none asks on a
   *  connection that is just being closed. */
  readonly idleMs: number;
  /** How often the limits are looked at. */
  readonly checkMs: number;
}

const TIMEOUTS: Timeouts = {
  headersMs: 15_000,
  requestMs: 120_000,
  idleMs: 75_000,
  checkMs: 5000,
};

/** Milliseconds; a request under way is a database write away from its answer. */
const CLOSE_MS_MAX = 2000;
/** Connections of one listener; beyond it the kernel is told to refuse. */
const CONNECTIONS_MAX = 4096;

export function createApi(options: ApiOptions): Api {
  const { clock } = options;
  const streams = createStreams();
  options.tokens.onChanged(streams.recheck);
  const audit = createAudit(options.auditFile, options);
  const handler = createHandler({
    ...options,
    ...{ streams, audit, broadcasts: createBroadcasts() },
    rates: createRates(clock, options.requestsPerSec ?? (() => 0)),
    refusals: createRefusals({ logger: options.logger, audit }, clock),
    page: openPage(options.pageDir ?? ''),
  });
  const servers = new Set<Server>();
  const { timeouts = TIMEOUTS } = options;
  const listen = async <T>(
    door: Door,
    tls: TcpAddress['tls'],
    start: (server: Server) => Promise<T>,
  ): Promise<T> => {
    await handler.ready();
    const server = await openServer({ handler, door, tls, timeouts });
    const result = await start(server);
    servers.add(server);
    return result;
  };
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    streams.endAll();
    await Promise.all([...servers].map((server) => closeServer(server, clock)));
    await handler.close();
  };
  return {
    listenSocket: (path) =>
      listen({ kind: 'socket' }, undefined, (server) => listenOnSocket(server, path)),
    async listenTcp(address) {
      assertAddressAllowed(address);
      const host = toHostName(stripBrackets(address.host));
      const hosts = [host, ...(options.hosts ?? []).map((name) => name.toLowerCase())];
      const door: Door = { kind: 'tcp', hosts, origins: options.origins ?? [] };
      const port = await listen(door, address.tls, (server) => listenOnTcp(server, address));
      const scheme = address.tls === undefined ? 'http' : 'https';
      return { url: `${scheme}://${host}:${port}`, port };
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

interface ServerParts {
  readonly handler: Handler;
  readonly door: Door;
  readonly tls: TcpAddress['tls'];
  readonly timeouts: Timeouts;
}

async function openServer({ handler, door, tls, timeouts }: ServerParts): Promise<Server> {
  // Other protocols on offer (curl offers h2c) are declined by answering plain HTTP.
  const shouldUpgradeCallback = (request: IncomingMessage): boolean =>
    request.headers.upgrade?.toLowerCase() === 'websocket';
  const settings = {
    shouldUpgradeCallback,
    // Looked at with the rest of the framing, and refused with a problem document.
    requireHostHeader: false,
    headersTimeout: timeouts.headersMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.idleMs,
    connectionsCheckingInterval: timeouts.checkMs,
  };
  const server: Server =
    tls === undefined
      ? createServer(settings)
      : (await import('node:https')).createServer({ ...tls, ...settings });
  server.maxConnections = CONNECTIONS_MAX;
  server.on('request', (request: IncomingMessage, response: ServerResponse) =>
    handler.serve({ request, response, door }),
  );
  // Node would answer an Expect that it does not know by itself, without a document.
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) =>
    handler.serve({ request, response, door }),
  );
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) =>
    handler.serveUpgrade({ request, socket, head, door }),
  );
  server.on('clientError', refuseMalformed);
  return server;
}

/** What a broken request is answered with while that is possible: code of node, status, text. */
const malformed: Readonly<Record<string, readonly [number, string, string]>> = {
  HPE_HEADER_OVERFLOW: [
    431,
    'Request Header Fields Too Large',
    'the headers are larger than the limit',
  ],
  ERR_HTTP_REQUEST_TIMEOUT: [
    408,
    'Request Timeout',
    'the request did not arrive within its time; send it again, faster',
  ],
};
const notHttp = [400, 'Bad Request', 'this is not HTTP'] as const;

/** Bytes that are not HTTP, headers beyond node's limits, or a client that is too slow. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, phrase, detail] = malformed[error.code ?? ''] ?? notHttp;
  const { problem } = toRefusal(new HttpError(status, detail), '');
  const text = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${status} ${phrase}\r\n` +
      'content-type: application/problem+json; charset=utf-8\r\n' +
      `content-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
  );
}

function closeServer(server: Server, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.setTimer(CLOSE_MS_MAX, () => server.closeAllConnections());
    server.close(() => {
      timer.cancel();
      resolve();
    });
    server.closeIdleConnections();
  });
}
