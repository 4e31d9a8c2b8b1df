/** Serves the Agent Client Protocol on stdio: for an editor that starts us as its agent. stdout is
 *  the protocol's; whatever is said to people goes to stderr. Ends when the editor closes stdin;
 *  the sessions go on. */
import { Readable } from 'node:stream';
import { ndJsonStream } from '@agentclientprotocol/sdk';
import { createLogger } from '../../base/logger.ts';
import { realRandom } from '../../base/random.ts';
import { createAcpAgent } from '../acp/agent.ts';
import { defineCommand } from '../command.ts';
import type { Output } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { checkOwnEnd } from '../own-end.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .option('agent', {
        type: 'string',
        requiresArg: true,
        describe: 'The agent of new sessions (default: the default one)',
      })
      .epilogue('In an editor: command prx-supervisor, arguments ["acp"].'),
  run: async (context, args) => {
    const api = context.connect();
    const { version } = await api.getStatus();
    const { stdin, stdout } = context.machine;
    const logger = createLogger('acp', 'warn');
    const acp = createAcpAgent({ api, logger, random: realRandom, version, agent: args.agent });
    const checkEnd = checkOwnEnd(stdin);
    const connection = acp.connect(ndJsonStream(toWebOutput(stdout), Readable.toWeb(stdin)));
    await connection.closed;
    checkEnd();
    return EXIT.done;
  },
});

/** Each chunk is a whole line of JSON. Writes to a pipe or file are done when `write` returns. */
function toWebOutput(output: Output): WritableStream<Uint8Array> {
  return new WritableStream({
    write: (chunk) => void output.write(Buffer.from(chunk).toString('utf8')),
  });
}
