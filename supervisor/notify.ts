/** Tells systemd that the service is ready (Type=notify). The runtime has no datagram sockets, so
 *  systemd's own small program is asked; where it is missing nothing is said and systemd's start
 *  timeout tells the operator. */
import type { ProcessPort } from '../base/process.ts';
import type { Environment } from './config.ts';

export async function notifyReady(processes: ProcessPort, env: Environment): Promise<void> {
  const socket = env['NOTIFY_SOCKET'];
  if (socket === undefined || socket === '') return;
  const running = await processes.start({
    command: 'systemd-notify',
    args: ['--ready', `--pid=${process.pid}`],
    env: { NOTIFY_SOCKET: socket, PATH: env['PATH'] ?? '/usr/bin:/bin' },
    ownSession: false,
  });
  await running.exited;
}
