/** The tool hosts of a session: sandboxed processes in which custom tools run, one for each call
 *  that runs. A thread bounds a call's heap only as long as it asks for little at a time: for one
 *  large array the runtime ends the whole process (seen with Node 26.10). So a process has one
 *  call at a time, and its end is that call's own. One waits for the next call. */
import { background } from '../../base/background.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { type Connection, createConnection } from '../../protocol/connection.ts';
import { createStreamTransport } from '../../protocol/transport.ts';
import { customNotifications, customReports, customRequests } from '../inside/custom/methods.ts';
import type { Backend, ToolHostProcess } from '../launch/backend.ts';

const remoteSide = { requests: customRequests, notifications: customNotifications };

export interface ToolHost {
  readonly connection: Connection<typeof remoteSide>;
  readonly process: ToolHostProcess;
  /** The end of what it wrote to its standard error. */
  said(): string;
  /** Hears what its call logs. */
  onLog: (text: string) => void;
  /** No other call goes to it. */
  isSpent: boolean;
}

export interface ToolHosts {
  /** Runs `ask` with a process of its own. Throws SANDBOX_UNAVAILABLE, and what `ask` does. */
  use<T>(ask: (host: ToolHost) => Promise<T>): Promise<T>;
  /** Ends them, with what runs in them. */
  close(): void;
}

export interface ToolHostsSpec {
  readonly backend: Pick<Backend, 'startToolHost'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** It holds a runtime's memory; an agent that thinks for longer starts it anew. */
const IDLE_MS = 300_000;
const STDERR_CHARS_MAX = 4000;

export function createToolHosts({ backend, clock, logger }: ToolHostsSpec): ToolHosts {
  const busy = new Set<ToolHost>();
  let waiting: { readonly host: ToolHost; readonly timer: Timer } | undefined;
  let open = true;

  async function start(): Promise<ToolHost> {
    const host = connect(await backend.startToolHost(), clock);
    background(watch(host), 'tool_host.watch', logger);
    return host;
  }

  async function watch(host: ToolHost): Promise<void> {
    const reason = await host.connection.closed;
    host.isSpent = true;
    host.process.kill();
    if (waiting?.host === host) takeWaiting();
    if (reason.kind === 'closed') return;
    logger.warn('tool_host.ended', { reason: reason.kind, said: host.said() });
  }

  function takeWaiting(): ToolHost | undefined {
    const taken = waiting;
    waiting = undefined;
    taken?.timer.cancel();
    return taken?.host;
  }

  function end(host: ToolHost): void {
    host.connection.close();
    host.process.kill();
  }

  function giveBack(host: ToolHost): void {
    busy.delete(host);
    if (host.isSpent || waiting !== undefined || !open) {
      end(host);
      return;
    }
    const timer = clock.setTimer(IDLE_MS, () => {
      if (waiting?.host === host) waiting = undefined;
      end(host);
    });
    waiting = { host, timer };
  }

  return {
    async use(ask) {
      const host = takeWaiting() ?? (await start());
      busy.add(host);
      try {
        return await ask(host);
      } finally {
        host.onLog = () => undefined;
        giveBack(host);
      }
    },
    close() {
      open = false;
      const last = takeWaiting();
      for (const host of [...busy, ...(last === undefined ? [] : [last])]) end(host);
    },
  };
}

function connect(child: ToolHostProcess, clock: Clock): ToolHost {
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString('utf8')).slice(-STDERR_CHARS_MAX);
  });
  const connection = createConnection({
    transport: createStreamTransport(child.stdout, child.stdin),
    clock,
    peer: 'the tool host',
    local: { requests: {}, notifications: customReports },
    remote: remoteSide,
    requests: {},
    notifications: {
      'custom/ready': () => undefined,
      'custom/log': ({ text }) => host.onLog(text),
    },
  });
  const host: ToolHost = {
    connection,
    process: child,
    said: () => said,
    onLog: () => undefined,
    isSpent: false,
  };
  return host;
}

/** Did the runtime end the process because a thread asked for too much at once? Its own word: it
 *  is only what the call that ran in it is told. */
export async function diedOfMemory(host: ToolHost): Promise<boolean> {
  await host.process.exited;
  return /heap out of memory|invalid (size|array length|table size)/i.test(host.said());
}
