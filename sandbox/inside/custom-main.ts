/** The tool host: runs inside the sandbox, one for each call of a custom tool that runs, and runs
 *  it on a thread. It holds nothing that a tool could want: no key, no socket of the host, no
 *  word of another session. Ends when its standard input ends. The first import takes stdout away
 *  from everyone else. */
import './frames.ts';
import { dirname, join } from 'node:path';
import { realClock } from '../../base/clock.ts';
import { createConnection } from '../../protocol/connection.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { customNotifications, customReports, customRequests } from './custom/methods.ts';
import { createCustomServer } from './custom/serve.ts';
import { framesOut } from './frames.ts';

function main(program: string): void {
  const isSource = program.endsWith('.ts');
  const thread = isSource ? 'custom-thread-main.ts' : 'custom-thread.mjs';
  const server = createCustomServer({
    clock: realClock,
    program: join(dirname(program), thread),
    onLog: (text) => void connection.notify('custom/log', { text }),
  });
  const connection = createConnection({
    transport: createStreamTransport(process.stdin, framesOut),
    clock: realClock,
    peer: 'the sandbox host',
    local: { requests: customRequests, notifications: customNotifications },
    remote: { requests: {}, notifications: customReports },
    requests: {
      'custom/describe': server.describe,
      'custom/check': server.check,
      'custom/call': async (params) => server.call({ ...params, arguments: params.arguments }),
    },
    notifications: { 'custom/cancel': () => server.cancel() },
  });
  void connection.notify('custom/ready', {});
  // Threads that cannot be ended would hold an ordinary exit.
  void connection.closed.then(() => process.kill(process.pid, 'SIGKILL'));
}

main(process.argv[1] ?? '');
