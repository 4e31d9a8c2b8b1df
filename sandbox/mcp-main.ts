/** The MCP host's process: one per configured MCP server. Standard input and output are the
 *  protocol with the supervisor; logs go to standard error. The server itself runs in a sandbox
 *  below, or is somebody else's behind a URL. */
import { realClock } from '../base/clock.ts';
import { createLogger } from '../base/logger.ts';
import { OWNER_MARK } from '../base/process.ts';
import { createStreamTransport } from '../protocol/transport.ts';
import { liveAsHost } from './host-life.ts';
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
  await liveAsHost(host, { kind: 'mcp', logger });
}

process.umask(0o022);
void run();
