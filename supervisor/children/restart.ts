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

/** Decides. Pure.
 *  @param history earlier restarts, monotonic ms; those older than periodMs do not count.
 *  @param random uniform in [0, 1), for the jitter.
 *  Source: OTP supervisor, restart types and intensity. */
export function decideRestart(
  policy: RestartPolicy,
  cause: ExitCause,
  history: readonly number[],
  nowMs: number,
  random: number,
): RestartDecision {
  if (cause === 'stopped' || policy.type === 'temporary') return { kind: 'stop' };
  if (policy.type === 'transient' && isNormalExit(cause)) return { kind: 'stop' };
  const recent = history.filter((atMs) => nowMs - atMs < policy.periodMs).length;
  if (recent >= policy.intensity) {
    const seconds = policy.periodMs / 1000;
    const reason = `the worker died ${recent + 1} times within ${seconds} s (last cause: ${cause})`;
    return { kind: 'fail', reason };
  }
  return { kind: 'restart', attempt: recent + 1, delayMs: backoffMs(recent, random) };
}

/** 0 for the first restart, then 250 ms doubling up to 30 s, ±20 %. */
export function backoffMs(earlier: number, random: number): number {
  if (earlier === 0) return 0;
  const plain = Math.min(BACKOFF_BASE_MS * 2 ** (earlier - 1), BACKOFF_MS_MAX);
  return Math.round(plain * (1 - JITTER + 2 * JITTER * random));
}
