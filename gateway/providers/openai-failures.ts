/** What the SDK throws, as one of our failures: what was tried and where, the status, the
 *  provider's own words (bounded, without secrets), what to do next. */
import { isPrxError, systemCode } from '../../base/errors.ts';
import { createFailure, type FailureKind } from '../failures.ts';
import { toQuote } from '../redact.ts';
import { parseRetryAfter } from '../retry.ts';
import type { OpenAiEndpoint } from './openai-endpoint.ts';

export interface RequestContext {
  readonly endpoint: OpenAiEndpoint;
  /** Behind the base URL: /chat/completions … */
  readonly path: string;
  readonly model?: string;
  /** The provider has begun to answer with success. */
  readonly begun: boolean;
}

/** Duck-typed, so that the SDK need not be loaded to name its errors. */
interface ApiErrorLike {
  readonly status: number | undefined;
  readonly headers: Headers | undefined;
  readonly code: string;
  readonly type: string;
  readonly message: string;
}

export function toOpenAiFailure(error: unknown, context: RequestContext): Error {
  if (isPrxError(error)) return error;
  const { endpoint } = context;
  const tried = `${endpoint.target}${context.path}${toModelWords(context.model)}`;
  const api = toApiError(error);
  if (api?.status !== undefined) return toStatusFailure(api, api.status, tried, endpoint);
  if (context.begun) return toStreamFailure(error, api, tried, endpoint);
  const reason = toQuote(endpoint.redact(toCauseText(error)));
  const late = /HEADERS_TIMEOUT|CONNECT_TIMEOUT/.test(reason);
  const message = `${tried} could not be reached: ${reason}; check the network and \
provider.base_url`;
  return createFailure(late ? 'timeout' : 'unreachable', message, { cause: error });
}

function toModelWords(model: string | undefined): string {
  return model === undefined ? '' : ` (model ${model})`;
}

function toStatusFailure(
  api: ApiErrorLike,
  status: number,
  tried: string,
  endpoint: OpenAiEndpoint,
): Error {
  const kind = toStatusKind(status, api.code);
  const words = toQuote(endpoint.redact(api.message.replace(/^\d{3} /, '')));
  const message = `${tried} answered ${status}: ${words}; ${toAdvice(status, kind, endpoint)}`;
  const retryAfterMs =
    api.headers === undefined ? undefined : parseRetryAfter(api.headers, endpoint.clock.wallMs());
  return createFailure(kind, message, { retryAfterMs });
}

function toStatusKind(status: number, code: string): FailureKind {
  if (status === 429) return code === 'insufficient_quota' ? 'quota' : 'rate_limited';
  return status === 408 || status === 409 || status >= 500 ? 'overloaded' : 'refused';
}

function toAdvice(status: number, kind: FailureKind, endpoint: OpenAiEndpoint): string {
  if (kind === 'quota') return 'the account has no credit left: waiting does not help';
  if (kind === 'rate_limited') return 'wait, or lower the rate of requests';
  if (kind === 'overloaded') return 'the provider has trouble of its own, which may pass';
  if (status === 401) return `check the key in ${endpoint.keyName}`;
  if (status === 403) return `the key in ${endpoint.keyName} may not do this`;
  if (status === 404) return 'check provider.base_url and the name of the model';
  if (status >= 300 && status < 400) return 'redirects are not followed: set the final base_url';
  return 'the request does not suit this model or server: repeating it does not help';
}

/** The answer had begun: an error event, a damaged event, or a lost connection. */
function toStreamFailure(
  error: unknown,
  api: ApiErrorLike | undefined,
  tried: string,
  endpoint: OpenAiEndpoint,
): Error {
  const words = toQuote(endpoint.redact(api === undefined ? toCauseText(error) : api.message));
  if (error instanceof SyntaxError) {
    return createFailure('garbled', `${tried} sent a damaged event in its stream: ${words}`);
  }
  if (api !== undefined) {
    const kind = api.type === 'invalid_request_error' ? 'refused' : 'stream_broken';
    return createFailure(kind, `${tried} broke off its answer with an error: ${words}`);
  }
  if (words.includes('BODY_TIMEOUT')) {
    return createFailure('timeout', `${tried} fell silent for the 300 s that Node.js allows`);
  }
  const message = `the connection to ${tried} broke in mid-answer: ${words}`;
  return createFailure('stream_broken', message, { cause: error });
}

/** The message and the system code nearest to the bottom of the chain of causes. */
function toCauseText(error: unknown): string {
  let text = error instanceof Error ? error.message : String(error);
  let cause: unknown = error;
  // By shape, not by class: the errors of fetch come from inside of Node.
  for (let depth = 0; depth < 5 && typeof cause === 'object' && cause !== null; depth += 1) {
    const message: unknown = Reflect.get(cause, 'message');
    if (typeof message === 'string' && message !== '') text = message;
    const code = systemCode(cause);
    if (code !== undefined) return text.includes(code) ? text : `${text} (${code})`;
    cause = Reflect.get(cause, 'cause');
  }
  return text;
}

function toApiError(error: unknown): ApiErrorLike | undefined {
  // APIError alone has both; connection errors have them too, with nothing in either.
  if (!(error instanceof Error) || !('status' in error) || !('error' in error)) return undefined;
  const { status } = error;
  if (status === undefined && error.error === undefined) return undefined;
  const field = (name: string): string => String((Reflect.get(error, name) as unknown) ?? '');
  const headers: unknown = Reflect.get(error, 'headers');
  return {
    status: typeof status === 'number' ? status : undefined,
    headers: headers instanceof Headers ? headers : undefined,
    code: field('code'),
    type: field('type'),
    message: error.message,
  };
}
