/** Where the api is heard: an owner-only unix socket, and TCP that is loopback, encrypted, or
 *  expressly allowed. Refuses with what to write instead; takes away nobody's socket. */
import { chmod, lstat, unlink } from 'node:fs/promises';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { PrxError, systemCode } from '../base/errors.ts';
import { makeFolder } from '../base/make-folder.ts';
import { SOCKET_PATH_BYTES_MAX } from '../base/socket-path.ts';

export interface TcpAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** True: off-loopback without TLS, because the network itself is trusted. Default false. */
  readonly allowInsecure?: boolean;
  /** PEM texts; present: HTTPS. */
  readonly tls?: { readonly cert: string; readonly key: string };
}

/** Listens on a unix socket of mode 0600; a folder that is missing is made with mode 0700.
 *  @throws LISTEN_REFUSED; ALREADY_RUNNING when somebody answers there. */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  const byteCount = Buffer.byteLength(path);
  if (byteCount > SOCKET_PATH_BYTES_MAX) {
    throw refused(
      `the socket path has ${byteCount} bytes, a unix socket takes ${SOCKET_PATH_BYTES_MAX}; ` +
        `set a shorter api.socket: ${path}`,
    );
  }
  try {
    makeFolder(dirname(path));
  } catch (error) {
    throw refused(`the folder of the socket ${path} cannot be made`, error);
  }
  await removeStaleSocket(path);
  await bindPrivately(server, path);
}

/** The mask makes the file owner-only from its first instant: binding creates it synchronously. */
async function bindPrivately(server: Server, path: string): Promise<void> {
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(refused(`cannot listen on ${path}`, error)));
    const mask = process.umask(0o177);
    try {
      server.listen({ path }, resolve);
    } finally {
      process.umask(mask);
    }
  });
  await listening;
  await chmod(path, 0o600);
}

async function removeStaleSocket(path: string): Promise<void> {
  const stats = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw refused(`cannot look at ${path}`, error);
  });
  if (stats === undefined) return;
  if (!stats.isSocket()) {
    throw refused(`${path} exists and is not a socket; move it away or set another api.socket`);
  }
  const code = await probe(path);
  if (code === undefined) {
    throw new PrxError('ALREADY_RUNNING', `somebody already listens on ${path}; stop it first`, {
      data: { socket: path },
    });
  }
  if (code !== 'ECONNREFUSED') throw refused(`whose ${path} is cannot be found out (${code})`);
  await unlink(path);
}

/** Connects: undefined when somebody answers, else the system's error code. */
function probe(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error) => resolve(systemCode(error) ?? 'unknown'));
  });
}

/** Listens on TCP; resolves with the port. @throws LISTEN_REFUSED. */
export async function listenOnTcp(server: Server, address: TcpAddress): Promise<number> {
  const { host, port } = address;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(toRefusedAddress(error, address)));
    server.listen({ host: stripBrackets(host), port, exclusive: true }, resolve);
  });
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : port;
}

/** @throws LISTEN_REFUSED for an address that others can reach, unless it is safe or allowed. */
export function assertAddressAllowed(address: TcpAddress): void {
  if (address.tls !== undefined || address.allowInsecure || isLoopback(address.host)) return;
  throw refused(
    `${address.host} is reachable from other machines and tokens would cross the network in ` +
      'the clear; listen on 127.0.0.1 behind a TLS proxy or an SSH tunnel, or write ' +
      'allow_insecure = true under [api] if the network itself is trusted',
  );
}

export function isLoopback(host: string): boolean {
  const plain = stripBrackets(host).toLowerCase();
  return plain === 'localhost' || plain === '::1' || /^127(\.\d{1,3}){3}$/.test(plain);
}

export function stripBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}

function toRefusedAddress(error: Error, { host, port }: TcpAddress): PrxError {
  const at = `${host}:${port}`;
  switch (systemCode(error)) {
    case 'EADDRINUSE':
      return refused(
        `port ${port} is in use on ${host}; who has it says: ss -ltnp 'sport = :${port}'. ` +
          'Stop that, or set another port in api.listen',
        error,
      );
    case 'EACCES':
      return refused(`port ${port} needs a privilege; set one above 1023 in api.listen`, error);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return refused(`${host} is no address of this machine; correct api.listen (${at})`, error);
    default:
      return refused(`cannot listen on ${at}`, error);
  }
}

function refused(message: string, cause?: unknown): PrxError {
  const code = cause === undefined ? undefined : systemCode(cause);
  const text = code === undefined ? message : `${message} (${code})`;
  return new PrxError('LISTEN_REFUSED', text, cause === undefined ? {} : { cause });
}
