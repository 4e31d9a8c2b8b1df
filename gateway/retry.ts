/** Decides whether a failed attempt is followed by another one, when, and on which model. Pure.
 *
 *  The models are tried in order: the one asked for first, then the fallbacks. Each gets
 *  1 + maxRetries attempts; attempt numbers run on over all of them, so attempt n is the
 *  ((n - 1) mod (1 + maxRetries))-th on its model. Only retryable kinds are followed by anything:
 *  a refused request is not made better by another model's refusal. A Retry-After is waited for
 *  in full (never less), unless it is longer than retryMaxMs: then this model is given up. */
import type { Random } from '../base/random.ts';
import type { ProviderSettings } from '../protocol/gateway-methods.ts';
import { type Failure, failureTable } from './failures.ts';

export type RetrySettings = Pick<
  ProviderSettings,
  'maxRetries' | 'retryBaseMs' | 'retryMaxMs' | 'fallbacks'
>;

export interface RetryQuestion {
  readonly failure: Pick<Failure, 'kind' | 'retryAfterMs'>;
  /** Of this effect, over all its models; the first is 1. */
  readonly attempt: number;
  /** The model that failed. */
  readonly model: string;
  readonly settings: RetrySettings;
}

export interface RetryVerdict {
  /** null: no further attempt. */
  readonly retry_in_ms: number | null;
  /** Present when the next attempt changes the model. */
  readonly next_model?: string;
}

const NO_RETRY: RetryVerdict = { retry_in_ms: null };

export function decideRetry(question: RetryQuestion, random: Pick<Random, 'next'>): RetryVerdict {
  const { failure, attempt, model, settings } = question;
  if (!failureTable[failure.kind].retryable) return NO_RETRY;
  if (failure.kind === 'lost') return { retry_in_ms: 0 };
  const retriesDone = (attempt - 1) % (1 + settings.maxRetries);
  const retryAfterMs = failure.retryAfterMs ?? 0;
  if (retriesDone < settings.maxRetries && retryAfterMs <= settings.retryMaxMs) {
    const backoffMs = toBackoffMs(retriesDone, settings, random);
    if (retryAfterMs === 0) return { retry_in_ms: backoffMs };
    // Later than asked by up to one base delay, so that a herd does not come back at once.
    const spreadMs = Math.round(random.next() * settings.retryBaseMs);
    return { retry_in_ms: Math.max(Math.ceil(retryAfterMs) + spreadMs, backoffMs) };
  }
  const next = findNextModel(model, settings.fallbacks);
  if (next === undefined) return NO_RETRY;
  return { retry_in_ms: toBackoffMs(0, settings, random), next_model: next };
}

/** Between half and all of base × 2^n, which is capped at retryMaxMs. */
function toBackoffMs(
  retriesDone: number,
  settings: RetrySettings,
  random: Pick<Random, 'next'>,
): number {
  const fullMs = Math.min(settings.retryMaxMs, settings.retryBaseMs * 2 ** retriesDone);
  return Math.round(fullMs / 2 + (random.next() * fullMs) / 2);
}

/** The fallback after `model`; the first one when `model` is none of them. */
function findNextModel(model: string, fallbacks: readonly string[]): string | undefined {
  return fallbacks.slice(fallbacks.indexOf(model) + 1).find((name) => name !== model);
}

/** The provider's wish to be left alone, in ms: `retry-after-ms`, or `retry-after` in seconds or
 *  as an HTTP date. Undefined when absent or no such thing. */
export function parseRetryAfter(headers: Headers, wallMs: number): number | undefined {
  const ms = toNumber(headers.get('retry-after-ms'));
  if (ms !== undefined) return ms;
  const text = headers.get('retry-after');
  const seconds = toNumber(text);
  if (seconds !== undefined) return seconds * 1000;
  // Date.parse takes a bare number for a year; an HTTP date begins with the name of the day.
  const dateMs = text !== null && /^[A-Za-z]{3}/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - wallMs);
}

function toNumber(text: string | null): number | undefined {
  return text !== null && /^\d{1,12}(\.\d{1,9})?$/.test(text.trim()) ? Number(text) : undefined;
}
