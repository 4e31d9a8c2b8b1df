/** The MCP host's process: one per configured MCP server. Standard input and output are the
 *  protocol with the supervisor; logs go to standard error. The server itself runs in a sandbox
 *  below, or is somebody else's behind a URL. */
import { realClock } from '../base/clock.ts';
import { createLogger } from '../base/logger.ts';
import { listenOwnerSocket } from '../base/owner-socket.ts';
import { OWNER_MARK } from '../base/process.ts';
import { openOrphanDoor } from '../protocol/orphan-door.ts';
import { findRunDir } from '../protocol/orphan-methods.ts';
import { createStreamTransport } from '../protocol/transport.ts';
import { createBackend } from './launch/create-backend.ts';
import { serveMcpHost } from './mcp/host.ts';
import { createCallers } from './network/callers.ts';

/** No server has an allow-list: nobody asks a proxy. */
const noCallers = createCallers((socket) => socket.destroy());

async function run(): Promise<void> {
  const logger = createLogger('mcp', 'info');
  const owner = process.env[OWNER_MARK];
  const host = serveMcpHost({
    transport: createStreamTransport(process.stdin, process.stdout),
    clock: realClock,
    logger,
    pid: process.pid,
    // One server, one sandbox: nothing is parked.
    createBackend: (policy, scratchDir) => {
      const own = { policy, scratchDir, parkedCount: 0, isSingle: false };
      return createBackend({ ...own, callers: noCallers, logger, owner });
    },
  });
  const runDir = findRunDir(process.argv);
  const door =
    runDir === undefined
      ? undefined
      : openOrphanDoor({
          ...{ runDir, kind: 'mcp', pid: process.pid, face: host.face },
          ...{ clock: realClock, logger, listen: listenOwnerSocket },
        });
  process.on('SIGTERM', () => host.stop());
  // The terminal's interrupt is the supervisor's business; it tells us what it decided.
  process.on('SIGINT', () => undefined);
  await host.ended;
  door?.close();
  process.exit(0);
}

process.umask(0o022);
void run();
