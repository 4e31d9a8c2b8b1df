/** The gateway process: JSON-RPC on stdio, logs on stderr. It has a session of its own and no
 *  parent-death signal. When the supervisor dies it turns orphan: nothing new is accepted, what
 *  runs ends within its total deadline and in its spool, then the process exits. SIGTERM ends
 *  what runs as cancelled. The environment is read here and nowhere else in this folder. */
// First of all: from here on nothing can print into the protocol.
import './stdio.ts';

import { MessageChannel } from 'node:worker_threads';
import { realClock } from '../base/clock.ts';
import { createLogger, type LogLevel } from '../base/logger.ts';
import { listenOwnerSocket } from '../base/owner-socket.ts';
import { realRandom } from '../base/random.ts';
import { openOrphanDoor } from '../protocol/orphan-door.ts';
import { findRunDir } from '../protocol/orphan-methods.ts';
import { createStreamTransport } from '../protocol/transport.ts';
import { startGateway } from './server.ts';
import { openProtocolPipes } from './stdio.ts';

/** For the last answers to leave, when the reader does not take them, ms. */
const FLUSH_MS_MAX = 1000;

const LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug', 'silent'];

function toLogLevel(text: string | undefined): LogLevel {
  return LEVELS.find((level) => level === text) ?? 'info';
}

// Deadline timers do not keep a process alive, and an orphan has no pipe that would.
const alive = new MessageChannel().port1;
alive.on('message', () => undefined);

const logger = createLogger('gateway', toLogLevel(process.env.PRX_LOG));
const { input, output } = openProtocolPipes();
const gateway = startGateway({
  transport: createStreamTransport(input, output),
  clock: realClock,
  random: realRandom,
  logger,
  findEnv: (name) => process.env[name],
  pid: process.pid,
});

const runDir = findRunDir(process.argv);
const door =
  runDir === undefined
    ? undefined
    : openOrphanDoor({
        ...{ runDir, kind: 'gateway', pid: process.pid, face: gateway.face },
        ...{ clock: realClock, logger, listen: listenOwnerSocket },
      });

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    logger.info('gateway.stopping', { signal });
    gateway.cancelAll();
    void leave(0);
  });
}

void gateway.closed.then((reason) => {
  if (reason.kind === 'protocol') logger.error('gateway.protocol', { error: reason.error });
  else if (reason.kind === 'eof') logger.info('gateway.orphaned');
  void leave(reason.kind === 'protocol' ? 1 : 0);
});

/** Exits when what runs is in its spool and its answers are in the pipe. */
async function leave(code: number): Promise<never> {
  await gateway.drain();
  const flushed = new Promise<void>((resolve) => output.once('close', resolve));
  gateway.close();
  if (!output.destroyed) await Promise.race([flushed, realClock.sleep(FLUSH_MS_MAX)]);
  door?.close();
  process.exit(code);
}
