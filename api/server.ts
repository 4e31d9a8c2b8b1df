/** The HTTP api: the supervisor's face, mapped. One set of routes behind every listener; what a
 *  caller may do depends on the door it came through. Holds no state of sessions; closing it ends
 *  every stream, and clients go on from their last event at the next supervisor. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { Supervisor } from '../supervisor/index.ts';
import { type ApiToken, type Door, toHostName } from './auth.ts';
import { createHandler, type Handler } from './handler.ts';
import { createServer } from './http.ts';
import {
  assertAddressAllowed,
  listenOnSocket,
  listenOnTcp,
  stripBrackets,
  type TcpAddress,
} from './listeners.ts';
import { HttpError, toRefusal } from './problem.ts';
import { createStreams } from './streams.ts';

export interface ApiOptions {
  readonly supervisor: Supervisor;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  /** Shown in the OpenAPI document. */
  readonly version: string;
  /** Who may use TCP; empty or absent: nobody. */
  readonly tokens?: readonly ApiToken[];
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
  /** From now on these tokens are valid, no others; streams that are open stay. */
  replaceTokens(tokens: readonly ApiToken[]): void;
  /** Accepts nothing new, ends the streams, lets requests under way end for CLOSE_MS_MAX.
   *  Idempotent. */
  close(): Promise<void>;
}

/** Milliseconds; a request under way is a database write away from its answer. */
const CLOSE_MS_MAX = 2000;
/** Connections of one listener; beyond it the kernel is told to refuse. */
const CONNECTIONS_MAX = 2048;

export function createApi(options: ApiOptions): Api {
  const { clock } = options;
  const streams = createStreams();
  let tokens = options.tokens ?? [];
  const handler = createHandler({ ...options, streams, tokens: () => tokens });
  const servers = new Set<Server>();
  const listen = async <T>(
    door: Door,
    tls: TcpAddress['tls'],
    start: (server: Server) => Promise<T>,
  ): Promise<T> => {
    await handler.ready();
    const server = await openServer(handler, door, tls);
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
    replaceTokens(next) {
      tokens = next;
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

async function openServer(handler: Handler, door: Door, tls: TcpAddress['tls']): Promise<Server> {
  // Other protocols on offer (curl offers h2c) are declined by answering plain HTTP.
  const shouldUpgradeCallback = (request: IncomingMessage): boolean =>
    request.headers.upgrade?.toLowerCase() === 'websocket';
  const server: Server =
    tls === undefined
      ? createServer({ shouldUpgradeCallback })
      : (await import('node:https')).createServer({ ...tls, shouldUpgradeCallback });
  server.maxConnections = CONNECTIONS_MAX;
  server.on('request', (request: IncomingMessage, response: ServerResponse) =>
    handler.serve({ request, response, door }),
  );
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) =>
    handler.serveUpgrade({ request, socket, head, door }),
  );
  server.on('clientError', refuseMalformed);
  return server;
}

/** Bytes that are not HTTP, or headers beyond node's limits: answered while that is possible. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const isTooLarge = error.code === 'HPE_HEADER_OVERFLOW';
  const status = isTooLarge ? 431 : 400;
  const detail = isTooLarge ? 'the headers are larger than the limit' : 'this is not HTTP';
  const { problem } = toRefusal(new HttpError(status, detail), '');
  const text = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${status} ${isTooLarge ? 'Request Header Fields Too Large' : 'Bad Request'}\r\n` +
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
