/** The sandbox host's side of the pipe, doing what a test says. */

import type { z } from 'zod';
import { realClock } from '../../base/clock.ts';
import { createConnection, type Transport } from '../../protocol/connection.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { ProcessStart } from '../../protocol/processes.ts';
import {
  type SandboxPolicy,
  type SandboxReport,
  sandboxAsks,
  sandboxNotifications,
  sandboxReports,
  sandboxRequests,
} from '../../protocol/sandbox-methods.ts';
import type { FakeProcess } from './fake-process.ts';

export type RunRequest = z.infer<(typeof sandboxRequests)['tool/run']['params']>;

export interface RunHandle {
  readonly process: FakeProcess;
  /** Sends some output; `offset` is where the spool stands behind it. */
  output(text: string, offset?: number): void;
  /** Asks whether a background process may run. */
  register(start: ProcessStart): Promise<unknown>;
  readonly cancelled: Promise<void>;
}

export interface HostScript {
  initialize?(policy: SandboxPolicy): Promise<SandboxReport> | SandboxReport;
  run(request: RunRequest, handle: RunHandle): Promise<ToolOutcome>;
}

const report: SandboxReport = { level: 'bubblewrap', uid: 1000, workspaceAccess: 'write' };

export function serveHost(own: FakeProcess, transport: Transport, script: () => HostScript): void {
  const cancels = new Map<string, () => void>();
  const running = new Set<Promise<unknown>>();
  const connection = createConnection({
    transport,
    clock: realClock,
    peer: 'the supervisor',
    local: { requests: sandboxRequests, notifications: sandboxNotifications },
    remote: { requests: sandboxAsks, notifications: sandboxReports },
    requests: {
      'sandbox/initialize': async ({ policy }) => (await script().initialize?.(policy)) ?? report,
      'sandbox/ping': async () => ({ running: running.size }),
      'tool/check': async () => ({}),
      'process/end_all': async () => ({}),
      'tool/run': (request) => {
        const cancelled = new Promise<void>((resolve) => {
          cancels.set(request.effect, resolve);
        });
        const output = (text: string, offset = 0): void => {
          const data = { effect: request.effect, stream: 'stdout' as const, text, offset };
          void connection.notify('tool/output', data);
        };
        const register = (start: ProcessStart): Promise<unknown> =>
          connection.request('process/register', start, { timeoutMs: 60_000 });
        const answer = script().run(request, { process: own, output, register, cancelled });
        running.add(answer);
        void answer.catch(() => undefined).then(() => running.delete(answer));
        return answer;
      },
    },
    notifications: {
      'sandbox/fingerprints': () => undefined,
      'tool/cancel': ({ effect }) => cancels.get(effect)?.(),
    },
  });
  void connection.notify('sandbox/ready', { pid: own.pid });
  void connection.closed.then(async () => {
    await Promise.allSettled([...running]);
    own.die({ code: 0, signal: undefined });
  });
}
