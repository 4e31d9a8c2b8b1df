/** The one gateway: started with the supervisor, started again when it dies (with back-off), and
 *  asked for one attempt at a time. A death under a running attempt is GATEWAY_LOST: the asker
 *  looks into the attempt's spool. */
import { isPrxError, PrxError, toPrxError } from '../../base/errors.ts';
import { createFlowLimit } from '../../base/flow-limit.ts';
import {
  type AttemptOutcome,
  gatewayNotifications,
  gatewayReports,
  gatewayRequests,
  type ModelDelta,
  type ProviderSettings,
} from '../../protocol/gateway-methods.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { GatewayPort, ModelAttempt } from '../effects/ports.ts';
import { type Child, type ChildDeps, type ChildSpec, childLost, startChild } from './child.ts';
import { startHeartbeat } from './lifecycle-heartbeat.ts';
import type { Registry } from './registry.ts';
import { backoffMs } from './restart.ts';

const remote = { requests: gatewayRequests, notifications: gatewayNotifications };
const local = { requests: {}, notifications: gatewayReports };
type GatewayChild = Child<typeof remote>;

export interface Gateway extends GatewayPort {
  /** Starts it (or waits for the start under way). Throws GATEWAY_LOST. */
  start(): Promise<{ readonly keyPresent: boolean }>;
  /** Names of the provider's models. */
  listModels(timeoutMs: number): Promise<readonly string[]>;
  /** The settings changed: the next attempt has them. */
  configure(provider: ProviderSettings): Promise<void>;
  child(): GatewayChild | undefined;
  /** EOF: it finishes what runs, alone, and exits. Resolves when it exited or `waitMs` passed. */
  release(waitMs: number): Promise<void>;
}

export interface GatewayDeps extends ChildDeps {
  readonly spec: ChildSpec;
  readonly registry: Registry;
  readonly random: { next(): number };
  /** Absent: it is not asked whether it lives. */
  readonly heartbeatMs?: () => number;
}

const INITIALIZE_TIMEOUT_MS = 10_000;
/** Deltas on their way into the journal before we stop reading from the gateway. */
const DELTAS_MAX = 512;
/** Added to the provider's own total: the gateway answers first, this is the backstop. */
const ATTEMPT_MARGIN_MS = 30_000;
/** A gateway that lived this long has shown that it works. */
const HEALTHY_MS = 60_000;

export function createGateway(deps: GatewayDeps, settingsAtStart: ProviderSettings): Gateway {
  const { clock, logger } = deps;
  const attempts = new Map<string, Attempt>();
  const flow = createFlowLimit(DELTAS_MAX);
  let provider = settingsAtStart;
  let live: GatewayChild | undefined;
  let starting: Promise<GatewayChild> | undefined;
  let keyPresent = false;
  let failures = 0;
  /** Deaths in a row soon after the start. The first one costs no wait. */
  let crashes = 0;
  let released = false;

  async function launch(): Promise<GatewayChild> {
    const earlier = Math.max(failures, crashes - 1);
    if (earlier > 0) await clock.sleep(backoffMs(earlier, deps.random.next()));
    let markReady: () => void = () => undefined;
    const ready = new Promise<void>((resolve) => {
      markReady = resolve;
    });
    const child = await startChild({
      ...deps,
      local,
      remote,
      requests: {},
      notifications: {
        'gateway/ready': () => markReady(),
        'model/delta': (delta) => {
          const attempt = attempts.get(keyOf(delta.session, delta.effect, delta.attempt));
          if (attempt !== undefined) flow.track(attempt.onDelta(delta));
        },
      },
      ready,
      holdReading: () => flow.hold(),
      onStarted: (identity) => deps.registry.add({ kind: 'gateway', session: undefined, identity }),
      onExited: (identity) => deps.registry.remove(identity),
    });
    void child.exited.then((exit) => {
      if (live === child) live = undefined;
      if (released) return;
      crashes = exit.uptimeMs < HEALTHY_MS ? crashes + 1 : 1;
      logger.warn('gateway.exited', { ...exit });
    });
    try {
      keyPresent = await initialize(child);
    } catch (error) {
      void child.stop();
      throw error;
    }
    if (released) child.connection.close();
    else if (deps.heartbeatMs !== undefined) {
      const beat = { clock, logger, kind: 'gateway' as const, intervalMs: deps.heartbeatMs };
      const ping = (timeoutMs: number) =>
        child.connection.request('gateway/ping', {}, { timeoutMs });
      startHeartbeat({ ...beat, ping, isHeld: () => released || flow.hold() !== undefined }, child);
    }
    return child;
  }

  /** Once more where the settings changed on the way: while it starts, nobody else tells it. */
  async function initialize(child: GatewayChild): Promise<boolean> {
    const options = { timeoutMs: INITIALIZE_TIMEOUT_MS };
    for (;;) {
      const told = provider;
      const params = { provider: told };
      const answer = await child.connection.request('gateway/initialize', params, options);
      if (told === provider) return answer.keyPresent;
    }
  }

  async function ensure(): Promise<GatewayChild> {
    if (live?.isAlive()) return live;
    if (released) throw new PrxError('SHUTTING_DOWN', 'the supervisor is stopping');
    starting ??= launch().then(
      (child) => {
        failures = 0;
        live = child;
        starting = undefined;
        return child;
      },
      (error: unknown) => {
        failures += 1;
        starting = undefined;
        logger.error('gateway.start_failed', { error, failures });
        throw childLost('gateway', error);
      },
    );
    return starting;
  }

  return {
    async start() {
      await ensure();
      return { keyPresent };
    },
    child: () => live,
    async listModels(timeoutMs) {
      const child = await ensure();
      const { models } = await child.connection.request('gateway/models', {}, { timeoutMs });
      return models;
    },
    async configure(next) {
      provider = next;
      if (live === undefined) return;
      try {
        keyPresent = await initialize(live);
      } catch (error) {
        // The next one starts with these settings anyway.
        if (!isPrxError(error, 'PEER_CLOSED')) throw error;
      }
    },
    async generate(attempt, onDelta): Promise<AttemptOutcome> {
      const key = keyOf(attempt.session, attempt.effect, attempt.attempt);
      const entry: Attempt = { onDelta, cancelled: false };
      attempts.set(key, entry);
      try {
        const child = await ensure();
        return entry.cancelled ? NOT_SENT : await request(child, attempt);
      } finally {
        attempts.delete(key);
      }
    },
    cancel(session, effect) {
      for (const [key, attempt] of attempts) {
        if (key.startsWith(`${session}/${effect}/`)) attempt.cancelled = true;
      }
      void live?.connection.notify('model/cancel', { session, effect });
    },
    async release(waitMs) {
      released = true;
      const child = live;
      if (child === undefined) return;
      child.connection.close();
      const waited = new AbortController();
      await Promise.race([child.exited, clock.sleep(waitMs, waited.signal)]);
      waited.abort();
    },
  };

  async function request(child: GatewayChild, attempt: ModelAttempt): Promise<AttemptOutcome> {
    try {
      const params = { ...attempt, messages: [...attempt.messages], tools: [...attempt.tools] };
      const timeoutMs = provider.totalTimeoutMs + ATTEMPT_MARGIN_MS;
      return await child.connection.request('model/generate', params, { timeoutMs });
    } catch (error) {
      const known = toPrxError(error);
      if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');
      const isLost = known.code === 'PEER_CLOSED' || known.code === 'DEADLINE_EXCEEDED';
      throw isLost ? childLost('gateway', known) : known;
    }
  }
}

interface Attempt {
  readonly onDelta: (delta: ModelDelta) => Promise<void>;
  /** Cancelled, perhaps before the gateway was there to be told. */
  cancelled: boolean;
}

const NOT_SENT: AttemptOutcome = {
  kind: 'failed',
  code: 'CANCELLED',
  message: 'interrupted before the gateway was ready',
  retry_in_ms: null,
};

function keyOf(session: SessionId, effect: EffectId, attempt: number): string {
  return `${session}/${effect}/${attempt}`;
}
