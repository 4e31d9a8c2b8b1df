/** The one gateway: started with the supervisor, started again when it dies (with back-off), and
 *  asked for one attempt at a time. A death under a running attempt is GATEWAY_LOST: the asker
 *  looks into the attempt's spool. */
import { PrxError, toPrxError } from '../../base/errors.ts';
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
import type { GatewayPort } from '../effects/ports.ts';
import { type Child, type ChildDeps, type ChildSpec, childLost, startChild } from './child.ts';
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
}

const INITIALIZE_TIMEOUT_MS = 10_000;
/** Deltas on their way into the journal before we stop reading from the gateway. */
const DELTAS_MAX = 512;
/** Added to the provider's own total: the gateway answers first, this is the backstop. */
const ATTEMPT_MARGIN_MS = 30_000;

export function createGateway(deps: GatewayDeps, settingsAtStart: ProviderSettings): Gateway {
  const { clock, logger } = deps;
  const listeners = new Map<string, (delta: ModelDelta) => Promise<void>>();
  const flow = createFlowLimit(DELTAS_MAX);
  let provider = settingsAtStart;
  let live: GatewayChild | undefined;
  let starting: Promise<GatewayChild> | undefined;
  let keyPresent = false;
  let failures = 0;
  let released = false;

  async function launch(): Promise<GatewayChild> {
    if (failures > 0) await clock.sleep(backoffMs(failures, deps.random.next()));
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
          const listener = listeners.get(keyOf(delta.session, delta.effect, delta.attempt));
          if (listener !== undefined) flow.track(listener(delta));
        },
      },
      ready,
      holdReading: () => flow.hold(),
      onStarted: (identity) => deps.registry.add({ kind: 'gateway', session: undefined, identity }),
    });
    const answer = await child.connection.request(
      'gateway/initialize',
      { provider },
      { timeoutMs: INITIALIZE_TIMEOUT_MS },
    );
    keyPresent = answer.keyPresent;
    void child.exited.then((exit) => {
      live = undefined;
      deps.registry.remove(child.identity);
      if (!released) logger.warn('gateway.exited', { ...exit });
    });
    return child;
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
      const params = { provider };
      const options = { timeoutMs: INITIALIZE_TIMEOUT_MS };
      keyPresent = (await live.connection.request('gateway/initialize', params, options))
        .keyPresent;
    },
    async generate(attempt, onDelta): Promise<AttemptOutcome> {
      const child = await ensure();
      const key = keyOf(attempt.session, attempt.effect, attempt.attempt);
      listeners.set(key, onDelta);
      try {
        const params = { ...attempt, messages: [...attempt.messages], tools: [...attempt.tools] };
        const timeoutMs = provider.totalTimeoutMs + ATTEMPT_MARGIN_MS;
        return await child.connection.request('model/generate', params, { timeoutMs });
      } catch (error) {
        const known = toPrxError(error);
        if (known.code === 'DEADLINE_EXCEEDED') child.kill('unresponsive');
        const isLost = known.code === 'PEER_CLOSED' || known.code === 'DEADLINE_EXCEEDED';
        throw isLost ? childLost('gateway', known) : known;
      } finally {
        listeners.delete(key);
      }
    },
    cancel(session, effect) {
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
}

function keyOf(session: SessionId, effect: EffectId, attempt: number): string {
  return `${session}/${effect}/${attempt}`;
}
