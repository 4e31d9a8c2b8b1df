/** The gateway's side of the pipe, doing what a test says. */

import type { z } from 'zod';
import { realClock } from '../../base/clock.ts';
import { createConnection, type Transport } from '../../protocol/connection.ts';
import {
  type AttemptOutcome,
  gatewayNotifications,
  gatewayReports,
  gatewayRequests,
  type ProviderSettings,
} from '../../protocol/gateway-methods.ts';
import type { FakeProcess } from './fake-process.ts';

export type GenerateRequest = z.infer<(typeof gatewayRequests)['model/generate']['params']>;

export interface AttemptHandle {
  readonly process: FakeProcess;
  /** Sends one delta; `offset` is where the spool stands behind it. */
  delta(text: string, offset?: number): void;
  /** Resolves when this attempt is cancelled. */
  readonly cancelled: Promise<void>;
}

export interface GatewayScript {
  readonly models?: readonly string[];
  onInitialize?(provider: ProviderSettings): void;
  generate(request: GenerateRequest, handle: AttemptHandle): Promise<AttemptOutcome>;
}

export function serveGateway(
  own: FakeProcess,
  transport: Transport,
  script: () => GatewayScript,
): void {
  const cancels = new Map<string, () => void>();
  const running = new Set<Promise<unknown>>();
  const connection = createConnection({
    transport,
    clock: realClock,
    peer: 'the supervisor',
    local: { requests: gatewayRequests, notifications: gatewayNotifications },
    remote: { requests: {}, notifications: gatewayReports },
    requests: {
      'gateway/initialize': async ({ provider }) => {
        script().onInitialize?.(provider);
        return { keyPresent: false };
      },
      'gateway/models': async () => ({ models: [...(script().models ?? ['first-model'])] }),
      'gateway/ping': async () => ({ running: running.size }),
      'model/generate': (request) => {
        const { session, effect, attempt } = request;
        const cancelled = new Promise<void>((resolve) => {
          cancels.set(`${session}/${effect}`, resolve);
        });
        const delta = (text: string, offset = 0): void => {
          const report = { session, effect, attempt, kind: 'text' as const, text, offset };
          void connection.notify('model/delta', report);
        };
        const answer = script().generate(request, { process: own, delta, cancelled });
        running.add(answer);
        void answer.catch(() => undefined).then(() => running.delete(answer));
        return answer;
      },
    },
    notifications: {
      'model/cancel': ({ session, effect }) => cancels.get(`${session}/${effect}`)?.(),
    },
  });
  void connection.notify('gateway/ready', { pid: own.pid });
  void connection.closed.then(async () => {
    // Orphaned: what runs is finished alone.
    await Promise.allSettled([...running]);
    own.die({ code: 0, signal: undefined });
  });
}
