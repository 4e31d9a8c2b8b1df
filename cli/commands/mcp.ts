/** Serves the Model Context Protocol on stdio: sessions as tools for another agent. stdout is the
 *  protocol's. Ends when the client closes stdin; the sessions go on. */
import { StdioServerTransport, serveStdio } from '@modelcontextprotocol/server/stdio';
import { createLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { defineCommand } from '../command.ts';
import { createMcpServer } from '../mcp/server.ts';
import { EXIT } from '../outcome.ts';
import { checkOwnEnd } from '../own-end.ts';

export const command = defineCommand({
  build: (yargs) => yargs.epilogue('In an MCP client: command prx-supervisor, arguments ["mcp"].'),
  run: async (context) => {
    const api = context.connect();
    const { version } = await api.getStatus();
    const { clock, stdin } = context.machine;
    const logger = createLogger('mcp', 'warn');
    const transport = new StdioServerTransport();
    const checkEnd = checkOwnEnd(stdin);
    const served = serveStdio(() => createMcpServer({ api, clock, random: realRandom, version }), {
      transport,
      onerror: (error) => logger.warn('mcp.failed', { error }),
    });
    // Also one that it ends itself: behind that it reads nothing, and no end of it comes.
    const { onclose } = transport;
    await new Promise<void>((resolve) => {
      transport.onclose = () => {
        onclose?.();
        resolve();
      };
    });
    await served.close();
    checkEnd();
    return EXIT.done;
  },
});
