/** The gateway's side of its connection to the supervisor: the method table bound to attempts and
 *  providers. The process around it is main.ts; tests link it in memory. */
import { background } from '../base/background.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import {
  type CloseReason,
  type Connection,
  createConnection,
  type Transport,
} from '../protocol/connection.ts';
import {
  gatewayNotifications,
  gatewayReports,
  gatewayRequests,
  type ProviderSettings,
} from '../protocol/gateway-methods.ts';
import { parseEffectId } from '../protocol/ids.ts';
import type { OrphanFace } from '../protocol/orphan-door.ts';
import { createAttempts } from './attempts.ts';
import { nextLoopTurn } from './loop-turn.ts';
import { listModels } from './models.ts';
import type { Provider } from './providers/provider.ts';
import { createProvider } from './providers/select.ts';

/** By then the supervisor is ready. */
const PRELOAD_DELAY_MS = 300;

/** What the supervisor may be sent. */
const supervisor = { requests: {}, notifications: gatewayReports };
type Supervisor = typeof supervisor;

export interface GatewayDeps {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** A variable of the gateway's own environment: the only place keys come from. */
  readonly findEnv: (name: string) => string | undefined;
  readonly pid: number;
}

export interface Gateway {
  /** Settles when the supervisor is gone or broke the protocol. */
  readonly closed: Promise<CloseReason>;
  /** Nothing new; resolves when what runs has its terminal record and its answer is written. */
  drain(): Promise<void>;
  /** Ends all attempts as cancelled. */
  cancelAll(): void;
  /** What a later supervisor may see and do. */
  readonly face: OrphanFace;
  /** Ends the connection. Idempotent. */
  close(): void;
}

/** Begins to serve; gateway/ready is the first message sent. */
export function startGateway(deps: GatewayDeps): Gateway {
  const { transport, clock, random, logger, findEnv } = deps;
  const attempts = createAttempts(clock);
  const later: Timer[] = [];
  let active: { readonly provider: Provider; readonly settings: ProviderSettings } | undefined;

  /** The client library takes 100 ms to load: not in front of the first prompt, and not beside the
   *  start of everything else. */
  function preload(): void {
    background(import('openai'), 'gateway.preload', logger);
  }

  function getActive(): NonNullable<typeof active> {
    if (active !== undefined) return active;
    throw new PrxError('INVALID_REQUEST', 'the gateway has no provider: call gateway/initialize');
  }

  const connection: Connection<Supervisor> = createConnection({
    transport,
    clock,
    peer: 'the supervisor',
    local: { requests: gatewayRequests, notifications: gatewayNotifications },
    remote: supervisor,
    requests: {
      'gateway/initialize': async ({ provider: settings }) => {
        active = { provider: createProvider({ settings, clock, findEnv }), settings };
        if (settings.kind === 'openai') later.push(clock.setTimer(PRELOAD_DELAY_MS, preload));
        return { keyPresent: (findEnv(settings.apiKeyEnv) ?? '') !== '' };
      },
      'gateway/models': async (_params, { signal }) => {
        const { provider, settings } = getActive();
        return { models: await listModels({ provider, settings, clock, signal }) };
      },
      'model/generate': async (params) => {
        const { provider, settings } = getActive();
        const { session, effect, attempt, spoolPath, ...request } = params;
        const key = { session, effect, attempt };
        const plan = { request, effect, attempt, spoolPath, provider, settings };
        return attempts.run(key, {
          ...plan,
          ...{ clock, random },
          logger: logger.child({ session, turn: parseEffectId(effect).turn }),
          isOrphaned: () => !connection.isOpen(),
          report: (delta) => connection.notify('model/delta', { ...key, ...delta }),
        });
      },
      'gateway/ping': async () => ({ running: attempts.runningCount() }),
    },
    notifications: {
      'model/cancel': ({ session, effect }) => attempts.cancel(session, effect),
    },
  });
  background(connection.notify('gateway/ready', { pid: deps.pid }), 'gateway.ready', logger);
  const closed = connection.closed.finally(() => {
    for (const timer of later) timer.cancel();
  });

  return {
    closed,
    async drain() {
      await attempts.close();
      await nextLoopTurn();
    },
    cancelAll: () => attempts.cancelAll(),
    face: {
      isOrphaned: () => !connection.isOpen(),
      running: () => attempts.running(),
      cancel: (session, effect) => attempts.cancel(session, effect),
    },
    close: () => connection.close(),
  };
}
