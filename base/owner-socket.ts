/** Unix sockets that only our own user reaches: a folder of mode 0700, a socket of mode 0600, no
 *  path too long for the kernel, and nothing left behind at the end. */
import { chmodSync, closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { createServer, connect as netConnect, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import { PrxError, systemCode } from './errors.ts';
import { SOCKET_PATH_BYTES_MAX } from './socket-path.ts';

export interface OwnerSocket {
  /** No further connections; the file is removed. Idempotent. */
  close(): void;
}

export interface OwnerSocketSpec {
  readonly path: string;
  /** More connections at once than this are closed as they come. */
  readonly connectionsMax: number;
  readonly onConnection: (socket: Socket) => void;
}

/** Listens at `path`. The name belongs to the caller alone: a file that has it is left over from a
 *  dead process and is replaced. Throws the system error as it is. */
export async function listenOwnerSocket(spec: OwnerSocketSpec): Promise<OwnerSocket> {
  const { path } = spec;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  rmSync(path, { force: true });
  const address = openAddress(path);
  const server = createServer((socket) => {
    // A peer that goes away shows as the end of its stream.
    socket.on('error', () => undefined);
    spec.onConnection(socket);
  });
  server.maxConnections = spec.connectionsMax;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(address.path, resolve);
    });
    chmodSync(path, 0o600);
  } catch (error) {
    address.close();
    throw error;
  }
  server.on('error', () => undefined);
  server.unref();
  let open = true;
  return {
    close() {
      if (!open) return;
      open = false;
      server.close();
      rmSync(path, { force: true });
      address.close();
    },
  };
}

/** Connects to `path`. Throws PEER_CLOSED with the system error when nobody listens there, and
 *  when the signal aborts first. */
export async function connectOwnerSocket(path: string, signal: AbortSignal): Promise<Socket> {
  const address = openAddress(path);
  const socket = netConnect({ path: address.path });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      if (signal.aborted) reject(signal.reason);
    });
  } catch (error) {
    socket.destroy();
    const reason = systemCode(error) ?? 'no answer in time';
    throw new PrxError('PEER_CLOSED', `nobody answers at ${path}: ${reason}`, { cause: error });
  } finally {
    address.close();
  }
  socket.on('error', () => undefined);
  return socket;
}

interface Address {
  readonly path: string;
  close(): void;
}

/** A path too long for the kernel is reached through a descriptor of its folder. */
function openAddress(path: string): Address {
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return { path, close: () => undefined };
  let fd: number;
  try {
    fd = openSync(dirname(path), 'r');
  } catch (error) {
    const reason = systemCode(error) ?? String(error);
    throw new PrxError('PEER_CLOSED', `nobody answers at ${path}: ${reason}`, { cause: error });
  }
  return { path: `/proc/self/fd/${fd}/${basename(path)}`, close: () => closeSync(fd) };
}
