/** How often a caller may ask over TCP: a token bucket a caller, which fills at the configured rate
 *  and holds two seconds of it. Memory is bounded: beyond CALLERS_MAX the one that has not asked
 *  for longest is forgotten, which by then has a full bucket again or is one of very many. */
import type { Clock } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';

export interface Rates {
  /** Counts one request. @throws RATE_LIMITED, with the seconds after which one is let in. */
  take(key: string): void;
  /** Of how many callers something is remembered. */
  count(): number;
}

interface Bucket {
  readonly left: number;
  readonly atMs: number;
}

/** About a megabyte of buckets. */
const CALLERS_MAX = 8192;
const BURST_SECS = 2;

/** @param perSec  read at each request, so that a reload counts at once; 0: no limit. */
export function createRates(
  clock: Pick<Clock, 'nowMs'>,
  perSec: () => number,
  callersMax = CALLERS_MAX,
): Rates {
  // In the order of their last request: the first is the one to forget.
  const buckets = new Map<string, Bucket>();
  return {
    take(key) {
      const rate = perSec();
      if (rate === 0) return;
      const atMs = clock.nowMs();
      const full = rate * BURST_SECS;
      const before = buckets.get(key) ?? { left: full, atMs };
      const left = Math.min(full, before.left + ((atMs - before.atMs) / 1000) * rate);
      buckets.delete(key);
      buckets.set(key, { left: left < 1 ? left : left - 1, atMs });
      if (buckets.size > callersMax) forgetOldest(buckets);
      if (left >= 1) return;
      const message = `more than ${rate} requests a second; api.requests_per_sec is the limit`;
      throw new PrxError('RATE_LIMITED', message, {
        data: { retry_after_secs: (1 - left) / rate, limit_per_sec: rate },
      });
    },
    count: () => buckets.size,
  };
}

function forgetOldest(buckets: Map<string, Bucket>): void {
  const [oldest] = buckets.keys();
  if (oldest !== undefined) buckets.delete(oldest);
}

const GROUPS_OF_NETWORK = 4;

/** An address as a caller. Of IPv6 the first 64 bits, which is what one household or host has. */
export function toRateKey(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '');
  if (!plain.includes(':')) return plain;
  const [head = '', tail] = plain.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0');
  const groups = tail === undefined ? front : [...front, ...zeros, ...back];
  return `${groups.slice(0, GROUPS_OF_NETWORK).join(':')}::/64`;
}
