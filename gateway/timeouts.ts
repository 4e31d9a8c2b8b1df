/** The four deadlines of one attempt: connect (until the response headers), first token (from
 *  the headers on), idle (between two chunks, once a token came), total. The first that expires
 *  is remembered and calls `onExpire` once; the others are then off. */
import type { Clock, Timer } from '../base/clock.ts';
import type { ProviderSettings } from '../protocol/gateway-methods.ts';

export type TimeoutSettings = Pick<
  ProviderSettings,
  'connectTimeoutMs' | 'firstTokenTimeoutMs' | 'idleTimeoutMs' | 'totalTimeoutMs'
>;

export interface Expiry {
  readonly name: 'connect' | 'first_token' | 'idle' | 'total';
  readonly limitMs: number;
}

export interface Timeouts {
  /** A chunk came; the first one stands for the headers. `token`: it held something said. */
  onChunk(token: boolean): void;
  /** We are the slow ones: the provider's clocks (all but the total) stand until the next chunk. */
  hold(): void;
  stop(): void;
  readonly expired: () => Expiry | undefined;
}

export interface TimeoutSpec {
  readonly clock: Clock;
  readonly settings: TimeoutSettings;
  readonly onExpire: () => void;
}

export function startTimeouts(spec: TimeoutSpec): Timeouts {
  const { clock, settings } = spec;
  let phase: 'connect' | 'first_token' | 'idle' = 'connect';
  let expired: Expiry | undefined;
  let current: Timer = arm({ name: 'connect', limitMs: settings.connectTimeoutMs });
  const total = arm({ name: 'total', limitMs: settings.totalTimeoutMs });

  function arm(expiry: Expiry): Timer {
    return clock.setTimer(expiry.limitMs, () => {
      if (expired !== undefined) return;
      expired = expiry;
      stop();
      spec.onExpire();
    });
  }

  function rearm(next: 'first_token' | 'idle', limitMs: number): void {
    phase = next;
    current.cancel();
    current = arm({ name: next, limitMs });
  }

  function stop(): void {
    current.cancel();
    total.cancel();
  }

  return {
    onChunk(token) {
      if (expired !== undefined) return;
      if (token || phase === 'idle') rearm('idle', settings.idleTimeoutMs);
      else if (phase === 'connect') rearm('first_token', settings.firstTokenTimeoutMs);
    },
    hold: () => current.cancel(),
    stop,
    expired: () => expired,
  };
}
