/** The ways one attempt can fail: each kind has its code and says whether another attempt could
 *  succeed. Providers throw them as PrxError (the kind stands in `data.failure`); the attempt
 *  turns them into its outcome. Nothing else decides what is retryable. */
import { type ErrorCode, PrxError, toPrxError } from '../base/errors.ts';

interface FailureRow {
  readonly code: ErrorCode;
  readonly retryable: boolean;
}

export const failureTable = {
  key_missing: { code: 'PROVIDER_KEY_MISSING', retryable: false },
  unreachable: { code: 'PROVIDER_UNREACHABLE', retryable: true },
  rate_limited: { code: 'PROVIDER_RATE_LIMITED', retryable: true },
  /** 429 because the account is empty: waiting does not fill it. */
  quota: { code: 'PROVIDER_RATE_LIMITED', retryable: false },
  /** 408, 409 and 5xx. */
  overloaded: { code: 'PROVIDER_REFUSED', retryable: true },
  refused: { code: 'PROVIDER_REFUSED', retryable: false },
  /** Connect, first token, or between tokens. */
  timeout: { code: 'PROVIDER_TIMEOUT', retryable: true },
  total_timeout: { code: 'PROVIDER_TIMEOUT', retryable: false },
  stream_broken: { code: 'PROVIDER_STREAM_BROKEN', retryable: true },
  /** An event of the stream that is no JSON or has another shape. */
  garbled: { code: 'PROVIDER_BAD_RESPONSE', retryable: true },
  /** Success, but a page or a document in place of a stream: most often a wrong base URL. */
  not_a_stream: { code: 'PROVIDER_BAD_RESPONSE', retryable: false },
  too_large: { code: 'PROVIDER_BAD_RESPONSE', retryable: false },
  /** The spool could not be written, so nothing could be reported. */
  spool: { code: 'STORE_DEGRADED', retryable: true },
  /** An earlier gateway began this attempt and died: whether it was paid cannot be known. */
  lost: { code: 'GATEWAY_LOST', retryable: true },
  internal: { code: 'INTERNAL', retryable: false },
} as const satisfies Record<string, FailureRow>;

export type FailureKind = keyof typeof failureTable;

export interface Failure {
  readonly kind: FailureKind;
  readonly message: string;
  /** What the provider asked for in Retry-After, ms from now. */
  readonly retryAfterMs?: number;
}

export interface FailureDetail {
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** The error a provider throws. `message` must not hold a key: redact it first. */
export function createFailure(
  kind: FailureKind,
  message: string,
  detail: FailureDetail = {},
): PrxError {
  const { retryAfterMs, cause } = detail;
  return new PrxError(failureTable[kind].code, message, {
    data: { failure: kind, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Any thrown value as a failure; what no provider has classified is `internal`. */
export function toFailure(error: unknown): Failure {
  const { message, data } = toPrxError(error);
  const { failure: kind, retryAfterMs } = data;
  return {
    kind: isFailureKind(kind) ? kind : 'internal',
    message,
    ...(typeof retryAfterMs === 'number' ? { retryAfterMs } : {}),
  };
}

function isFailureKind(value: unknown): value is FailureKind {
  return typeof value === 'string' && Object.hasOwn(failureTable, value);
}
