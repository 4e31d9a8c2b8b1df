/** The file host: runs inside the sandbox, one per session, and does the file tools there, so that
 *  every path means what the kernel says it means in here. Ends when its standard input ends. */
import { realClock } from '../../base/clock.ts';
import { realRandom } from '../../base/random.ts';
import { createConnection } from '../../protocol/connection.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { fileHostReports, fileRequests } from './methods.ts';
import { runFileTool } from './run-file-tool.ts';

function main(): void {
  const connection = createConnection({
    transport: createStreamTransport(process.stdin, process.stdout),
    clock: realClock,
    peer: 'the sandbox host',
    local: { requests: fileRequests, notifications: {} },
    remote: { requests: {}, notifications: fileHostReports },
    requests: {
      'file/run': async (params) => runFileTool({ ...params, random: realRandom }),
    },
    notifications: {},
  });
  void connection.notify('file/ready', {});
  void connection.closed.then(() => process.exit(0));
}

main();
