/** Every failure as an RFC 9457 problem document: {type, title, status, code, detail, data}, and
 *  for a refused cursor where to go on. The code is of the closed table; the status is the
 *  table's, or a more exact one of HTTP itself (405, 412, 415, 416, 417, 426). An unexpected
 *  failure says nothing of the inside but a request id. */
import { type ErrorCode, errorTable, isPrxError, PrxError, systemCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { type Problem, resumeSchema } from '../protocol/resources.ts';

export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/** A failure of the exchange itself, whose HTTP status the table does not have. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;
  readonly code: ErrorCode;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    message: string,
    rest: { code?: ErrorCode; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message);
    this.status = status;
    this.code = rest.code ?? 'INVALID_REQUEST';
    this.headers = rest.headers ?? {};
  }
}

export interface Refusal {
  readonly problem: Problem;
  readonly headers: Readonly<Record<string, string>>;
}

/** Seconds, when a refusal for lack of capacity does not know better. */
const RETRY_AFTER_SECS_DEFAULT = 1;

/** Any thrown value as a refusal. `requestId` is what an unexpected one points to in the log. */
export function toRefusal(error: unknown, requestId: string): Refusal {
  if (error instanceof HttpError) {
    const { status, code, message, headers } = error;
    return { problem: toProblem(code, message, { status }), headers };
  }
  const known = isPrxError(error) ? error : fromFramework(error);
  if (known instanceof HttpError) return toRefusal(known, requestId);
  if (known === undefined || known.code === 'INTERNAL') {
    const detail = `the request failed inside the supervisor; its log names it by ${requestId}`;
    return { problem: toProblem('INTERNAL', detail), headers: {} };
  }
  return {
    problem: toProblem(known.code, known.message, { data: known.data }),
    headers: headersFor(known),
  };
}

function headersFor(error: PrxError): Record<string, string> {
  const { http } = errorTable[error.code];
  if (http === 401) return { 'www-authenticate': 'Bearer realm="prx-supervisor"' };
  if (http !== 429) return {};
  const asked = error.data.retry_after_secs;
  const seconds = typeof asked === 'number' && asked > 0 ? asked : RETRY_AFTER_SECS_DEFAULT;
  return { 'retry-after': String(Math.ceil(seconds)) };
}

function toProblem(
  code: ErrorCode,
  detail: string,
  rest: { status?: number; data?: Readonly<Record<string, unknown>> } = {},
): Problem {
  const row = errorTable[code];
  const hasData = rest.data !== undefined && Object.keys(rest.data).length > 0;
  return {
    type: `urn:prx-supervisor:problem:${code.toLowerCase()}`,
    title: row.title,
    status: rest.status ?? row.http,
    code,
    detail,
    ...(hasData ? { data: rest.data } : {}),
    ...(code.startsWith('CURSOR_') ? resumeSchema.parse(rest.data ?? {}) : {}),
  };
}

/** What the framework found wrong with a request; undefined for what is not the request's fault. */
function fromFramework(error: unknown): PrxError | HttpError | undefined {
  if (!(error instanceof Error) || !('statusCode' in error)) return undefined;
  const { statusCode, message } = error;
  if (typeof statusCode !== 'number' || statusCode >= 500) return undefined;
  switch (systemCode(error)) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new PrxError('PAYLOAD_TOO_LARGE', 'the body is larger than the limit of 16 MiB');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new HttpError(415, 'send the body as Content-Type: application/json');
    default:
      return new HttpError(statusCode, message);
  }
}

/** Logs what a person must act on: failures that are ours. */
export function logFailure(
  logger: Logger,
  error: unknown,
  fields: { requestId: string; route: string },
): void {
  const { problem } = toRefusal(error, fields.requestId);
  if (problem.code === 'INTERNAL') logger.error('api.failed', { ...fields, error });
}
