/** Serves the Model Context Protocol on stdio: sessions as tools for another agent. stdout is the
 *  protocol's. Ends when the client closes stdin; the sessions go on. */
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { createLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { defineCommand } from '../command.ts';
import { createMcpServer } from '../mcp/server.ts';
import { EXIT } from '../outcome.ts';

export const command = defineCommand({
  build: (yargs) => yargs.epilogue('In an MCP client: command prx-supervisor, arguments ["mcp"].'),
  run: async (context) => {
    const api = context.connect();
    const { version } = await api.getStatus();
    const { clock, stdin } = context.machine;
    const logger = createLogger('mcp', 'warn');
    const ended = new Promise((resolve) => {
      for (const name of ['end', 'close']) stdin.once(name, resolve);
    });
    const served = serveStdio(() => createMcpServer({ api, clock, random: realRandom, version }), {
      onerror: (error) => logger.warn('mcp.failed', { error }),
    });
    await ended;
    await served.close();
    return EXIT.done;
  },
});
