/** The session's door to its proxy: a socket that listens on the loopback of the cell's network
 *  namespace, opened in there before anything untrusted exists, and handed out to the host through
 *  the runtime's own channel. So the host answers inside a network that it is not in, nothing runs
 *  in there for it, and no file or unix socket is a way from a tool to the host. Weighed: a relay
 *  in the namespace (a process more for each session, and a path to the host for it to find). */
import type { Server, Socket } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import type { QuickProcess } from '../../base/process.ts';

const PROXY_PORT = 3128;

/** Run by the spawner as a program of one line; it ends when the socket is on its way. */
const DOOR_SCRIPT = `
const server = require('node:net').createServer();
server.once('error', () => process.exit(1));
server.listen({ host: '127.0.0.1', port: ${PROXY_PORT}, backlog: 128 }, () => {
  process.send('door', server, () => process.exit(0));
});
`;

/** What the spawner needs to open it; see there. */
export function toDoorEnvironment(runtime: string): Record<string, string> {
  return { PRX_DOOR: runtime, PRX_DOOR_SCRIPT: DOOR_SCRIPT };
}

export interface ReceivedDoor {
  /** Whether it came, within a bound of time. */
  opened(clock: Clock): Promise<boolean>;
  close(): void;
}

const RECEIVE_MS = 2000;

/** Takes the socket that the first process of `quick` sends. */
export function receiveDoor(
  { child }: Pick<QuickProcess, 'child'>,
  onConnection: (socket: Socket) => void,
): ReceivedDoor {
  let server: Server | undefined;
  let open = true;
  const received = new Promise<boolean>((resolve) => {
    child.once('exit', () => resolve(false));
    child.once('message', (_message, handle) => {
      // The channel has done its one duty.
      if (child.connected) child.disconnect();
      server = handle as Server | undefined; // The type knows only what may be sent at all.
      if (server === undefined) return resolve(false);
      if (!open) server.close();
      Object.assign(server, { allowHalfOpen: true });
      server.on('error', () => undefined);
      server.on('connection', onConnection);
      resolve(true);
    });
  });
  return {
    async opened(clock) {
      const isLate = clock.sleep(RECEIVE_MS).then(() => false);
      return await Promise.race([received, isLate]);
    },
    close() {
      if (!open) return;
      open = false;
      server?.close();
    },
  };
}

/** The variables by which programs find a proxy. The credential says which call asks; it opens
 *  nothing anywhere else. What is on the loopback itself (a server under test) goes straight. */
export function toProxyEnvironment(credential: string): Record<string, string> {
  const url = `http://prx:${credential}@127.0.0.1:${PROXY_PORT}`;
  const local = 'localhost,127.0.0.1,::1';
  const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY'];
  const both = (name: string, value: string) => [
    [name, value],
    [name.toLowerCase(), value],
  ];
  return Object.fromEntries([
    ...names.flatMap((name) => both(name, url)),
    ...both('NO_PROXY', local),
    ['NODE_USE_ENV_PROXY', '1'],
  ]);
}
