/** The attempts that run, by (session, effect, attempt). The same one asked twice is one request:
 *  a running one is joined, an ended one is answered from its spool, and one that a dead gateway
 *  began is reported as lost, never asked again under the same number. */
import type { Clock } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import type { AttemptOutcome } from '../protocol/gateway-methods.ts';
import type { EffectId, SessionId } from '../protocol/ids.ts';
import type { RunningSpan } from '../protocol/orphan-door.ts';
import { type AttemptSpec, runAttempt, toFailedOutcome } from './attempt.ts';
import { toSpoolFailure } from './delta-sink.ts';
import { toFailure } from './failures.ts';
import { readSpoolState, type SpoolState } from './spool.ts';

/** More than a machine has sessions for; beyond it the asker is told so. */
const RUNNING_MAX = 1024;

export interface AttemptKey {
  readonly session: SessionId;
  readonly effect: EffectId;
  readonly attempt: number;
}

/** How to run it, but for the cancel, which the registry owns. */
export type AttemptPlan = Omit<AttemptSpec, 'cancel'>;

export interface Attempts {
  /** Runs, joins or recalls. Throws SHUTTING_DOWN after close, AT_CAPACITY over 1024 running. */
  run(key: AttemptKey, plan: AttemptPlan): Promise<AttemptOutcome>;
  /** Cancels what runs for this effect; nothing runs: nothing happens (the race with its end). */
  cancel(session: SessionId, effect: EffectId): void;
  cancelAll(): void;
  runningCount(): number;
  /** What runs, and when it has ended by itself at the latest. */
  running(): readonly RunningSpan[];
  /** Takes nothing new. Resolves when nothing runs any more. Idempotent. */
  close(): Promise<void>;
}

interface Running {
  readonly key: AttemptKey;
  readonly cancel: AbortController;
  readonly outcome: Promise<AttemptOutcome>;
  readonly startedMs: number;
  readonly deadlineMs: number;
}

export function createAttempts(clock: Clock): Attempts {
  const running = new Map<string, Running>();
  let open = true;

  function start(id: string, key: AttemptKey, plan: AttemptPlan): Promise<AttemptOutcome> {
    const cancel = new AbortController();
    const outcome = runAttempt({ ...plan, cancel: cancel.signal }).finally(() => {
      running.delete(id);
    });
    const startedMs = clock.nowMs();
    const deadlineMs = startedMs + plan.settings.totalTimeoutMs;
    running.set(id, { key, cancel, outcome, startedMs, deadlineMs });
    return outcome;
  }

  return {
    async run(key, plan) {
      const id = `${key.session}/${key.effect}/${key.attempt}`;
      const joined = running.get(id);
      if (joined !== undefined) return joined.outcome;
      const recalled = recall(plan);
      if (recalled !== undefined) return recalled;
      if (!open) throw new PrxError('SHUTTING_DOWN', 'the gateway takes no new requests');
      if (running.size >= RUNNING_MAX) throw atCapacity();
      const outcome = await start(id, key, plan);
      plan.logger.debug('attempt.ended', toLogFields(key, outcome));
      return outcome;
    },
    cancel(session, effect) {
      for (const { key, cancel } of running.values()) {
        if (key.session === session && key.effect === effect) cancel.abort();
      }
    },
    cancelAll() {
      for (const { cancel } of running.values()) cancel.abort();
    },
    runningCount: () => running.size,
    running: () =>
      [...running.values()].map(({ key, startedMs, deadlineMs }) => {
        const { session, effect, attempt } = key;
        return { session, effect, attempt, startedMs, deadlineMs };
      }),
    async close() {
      open = false;
      await Promise.allSettled([...running.values()].map(({ outcome }) => outcome));
    },
  };
}

/** What the spool knows of this attempt; undefined: it was never begun. */
function recall(plan: AttemptPlan): AttemptOutcome | undefined {
  const state = findState(plan.spoolPath);
  if (state.kind === 'absent') return undefined;
  if (state.kind === 'ended') return state.outcome;
  if (state.kind === 'unreadable') {
    return toFailedOutcome(plan, toFailure(toSpoolFailure(state.error)));
  }
  const message = `attempt ${plan.attempt} was begun by an earlier gateway, whose spool has no end \
record; whether the provider was asked cannot be known, so a new attempt is needed`;
  return toFailedOutcome(plan, { kind: 'lost', message });
}

function findState(
  path: string,
): SpoolState | { readonly kind: 'unreadable'; readonly error: unknown } {
  try {
    return readSpoolState(path);
  } catch (error) {
    return { kind: 'unreadable', error };
  }
}

function atCapacity(): PrxError {
  return new PrxError('AT_CAPACITY', `${RUNNING_MAX} model requests are running, the most allowed`);
}

function toLogFields(key: AttemptKey, outcome: AttemptOutcome): Record<string, unknown> {
  const how =
    outcome.kind === 'failed'
      ? { code: outcome.code, retryInMs: outcome.retry_in_ms }
      : { finishReason: outcome.finish_reason, latencyMs: outcome.latency_ms };
  return { effect: key.effect, attempt: key.attempt, ...how };
}
