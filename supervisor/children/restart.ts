/** Whether and when a dead worker is started again: a pure function of cause, policy and history.
 *  The first restart is at once; later ones back off exponentially with jitter; more than
 *  `intensity` restarts within the period park the session as failed (visible, `restart` brings
 *  it back), so that an outage of a second never disables anything silently. */
import type { ExitCause } from './child.ts';

export type RestartType = 'permanent' | 'transient' | 'temporary';

export interface RestartPolicy {
  readonly type: RestartType;
  /** Restarts allowed within periodMs; 0: none. */
  readonly intensity: number;
  readonly periodMs: number;
}

export type RestartDecision =
  | { readonly kind: 'restart'; readonly attempt: number; readonly delayMs: number }
  | { readonly kind: 'stop' }
  | { readonly kind: 'fail'; readonly reason: string };

const BACKOFF_BASE_MS = 250;
const BACKOFF_MS_MAX = 30_000;
/** Delays are spread by this share to either side. */
const JITTER = 0.2;

/** Deaths that are no failure of the worker. */
export function isNormalExit(cause: ExitCause): boolean {
  return cause === 'completed' || cause === 'stopped';
}

/** A death, and what came before it. All times are monotonic ms. */
export interface DeathCase {
  readonly policy: RestartPolicy;
  readonly cause: ExitCause;
  /** Earlier deaths that count against the budget; those older than periodMs do not. */
  readonly counted: readonly number[];
  /** All earlier restarts, also those after which something was done: the back-off grows with
   *  them, so that it is reset only by a stable period. */
  readonly restarts: readonly number[];
  readonly nowMs: number;
  /** Uniform in [0, 1), for the jitter. */
  readonly random: number;
}

/** Decides. Pure.
 *  Source: OTP supervisor, restart types and intensity. */
export function decideRestart(death: DeathCase): RestartDecision {
  const { policy, cause, nowMs, random } = death;
  if (cause === 'stopped' || policy.type === 'temporary') return { kind: 'stop' };
  if (policy.type === 'transient' && isNormalExit(cause)) return { kind: 'stop' };
  const isRecent = (atMs: number): boolean => nowMs - atMs < policy.periodMs;
  const counted = death.counted.filter(isRecent).length;
  if (counted >= policy.intensity) {
    const times = `${counted + 1} times within ${policy.periodMs / 1000} s`;
    return { kind: 'fail', reason: `the worker died ${times} (last cause: ${cause})` };
  }
  const earlier = death.restarts.filter(isRecent).length;
  return { kind: 'restart', attempt: earlier + 1, delayMs: backoffMs(earlier, random) };
}

/** 0 for the first restart, then 250 ms doubling up to 30 s, ±20 %. */
export function backoffMs(earlier: number, random: number): number {
  if (earlier === 0) return 0;
  const plain = Math.min(BACKOFF_BASE_MS * 2 ** (earlier - 1), BACKOFF_MS_MAX);
  return Math.round(plain * (1 - JITTER + 2 * JITTER * random));
}
