/** The closed table of operating errors. Every expected failure that crosses a room has one code
 *  here; the table fixes how the code is shown at each door (HTTP status, CLI exit code) and
 *  whether it may leave the process. Programmer errors are assertions, not codes. */

interface ErrorRow {
  /** HTTP status at the api door. */
  readonly http: number;
  /** Exit code at the CLI door (SURFACE: 1 failed, 2 usage, 3 not running, 6 limit, 75, 78 …). */
  readonly exit: number;
  /** What it means, one sentence; shown in docs and as the problem's title. */
  readonly title: string;
}

const row = (http: number, exit: number, title: string): ErrorRow => ({ http, exit, title });

export const errorTable = {
  INTERNAL: row(500, 1, 'An unexpected failure inside prx-supervisor'),
  INVALID_REQUEST: row(400, 2, 'The request does not have the documented shape'),
  NOT_FOUND: row(404, 1, 'There is no such resource'),
  SESSION_NOT_FOUND: row(404, 1, 'No session has this id or name'),
  SESSION_AMBIGUOUS: row(409, 1, 'More than one session matches this id'),
  SESSION_NOT_OPEN: row(409, 1, 'The session does not take input in its present state'),
  SESSION_BUSY: row(409, 1, 'The session is busy and on_busy is reject'),
  STATE_INVALID: row(409, 1, 'This transition is not allowed from the present state'),
  IDEMPOTENCY_CONFLICT: row(409, 1, 'The idempotency key was used with another content'),
  AT_CAPACITY: row(429, 75, 'The supervisor is at capacity'),
  QUEUE_FULL: row(429, 75, 'The queue of waiting inputs is full'),
  RATE_LIMITED: row(429, 75, 'The caller asks more often than is allowed'),
  UNAUTHORIZED: row(401, 1, 'The request carries no valid token'),
  FORBIDDEN: row(403, 1, 'The token does not have the scope, or the origin is refused'),
  MISDIRECTED: row(421, 1, 'The Host header is not one this server answers to'),
  CURSOR_SUPERSEDED: row(409, 1, 'The cursor is beyond what this journal epoch holds'),
  CURSOR_GONE: row(410, 1, 'Retention removed the events at this cursor'),
  PAYLOAD_TOO_LARGE: row(413, 2, 'The body is larger than the limit'),
  UNSUPPORTED: row(501, 1, 'This is not supported here'),
  CONFIG_INVALID: row(500, 78, 'The configuration is not valid'),
  ALREADY_RUNNING: row(409, 75, 'Another supervisor holds the state directory'),
  NOT_RUNNING: row(503, 3, 'No supervisor answers'),
  SHUTTING_DOWN: row(503, 3, 'The supervisor is stopping'),
  STATE_DIR_UNUSABLE: row(500, 1, 'The state directory cannot be used'),
  LISTEN_REFUSED: row(500, 78, 'The address cannot be listened on'),
  STORE_DEGRADED: row(503, 1, 'The journal cannot be written at present'),
  STORE_CORRUPT: row(500, 1, 'The journal holds a damaged record'),
  WORKER_START_TIMEOUT: row(503, 1, 'A worker did not become ready in time'),
  WORKER_LOST: row(503, 1, 'The worker died'),
  GATEWAY_LOST: row(503, 1, 'The gateway died'),
  HOST_LOST: row(503, 1, 'The sandbox host died'),
  MCP_UNAVAILABLE: row(503, 1, 'The MCP server cannot be used at present'),
  SPAWN_FAILED: row(503, 1, 'A process could not be started'),
  STALE_GENERATION: row(409, 1, 'The message is from an older worker generation'),
  SANDBOX_UNAVAILABLE: row(503, 1, 'No sandbox of the required level is available'),
  WORKSPACE_REFUSED: row(422, 2, 'This folder may not be a workspace'),
  TOOL_ARGUMENTS_INVALID: row(422, 1, 'The arguments do not fit the tool'),
  POLICY_DENIED: row(403, 5, 'Denied by policy or approval'),
  APPROVAL_NOT_FOUND: row(404, 1, 'No approval is pending for this call'),
  APPROVAL_STALE: row(409, 5, 'What was approved is no longer what would run'),
  CALL_ALTERED: row(409, 1, 'A tool call was asked for again with another content'),
  APPROVAL_RESOLVED: row(409, 1, 'This approval was already resolved'),
  APPROVAL_MISMATCH: row(409, 1, 'The answer is for another call than the one that waits'),
  LIMIT_EXCEEDED: row(422, 6, 'A limit was exceeded'),
  PROVIDER_KEY_MISSING: row(503, 78, 'The provider needs a key and none is set'),
  PROVIDER_UNREACHABLE: row(502, 1, 'The provider cannot be reached'),
  PROVIDER_REFUSED: row(502, 1, 'The provider refused the request'),
  PROVIDER_RATE_LIMITED: row(502, 1, 'The provider limits the rate'),
  PROVIDER_TIMEOUT: row(504, 124, 'The provider did not answer in time'),
  PROVIDER_STREAM_BROKEN: row(502, 1, 'The stream of the provider ended too early'),
  PROVIDER_BAD_RESPONSE: row(502, 1, 'The provider answered with something unexpected'),
  SECRET_UNREADABLE: row(503, 1, 'A secret, or the key of the vault, cannot be read'),
  CANCELLED: row(409, 130, 'The operation was cancelled'),
  DEADLINE_EXCEEDED: row(504, 124, 'The operation did not end within its deadline'),
  PEER_CLOSED: row(503, 1, 'The other end of the connection is closed'),
  FRAME_TOO_LARGE: row(500, 1, 'A message is larger than the frame limit'),
  FRAME_INVALID: row(500, 1, 'The bytes on the pipe are not the protocol'),
  METHOD_UNKNOWN: row(500, 1, 'The peer does not know this method'),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorTable, value);
}

export interface PrxErrorOptions {
  /** Machine-readable details; crosses the wire, so never a secret. */
  readonly data?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/** The one class of operating errors. The message says what was tried, on what, the value seen,
 *  the limit and its unit, and what to do next. */
export class PrxError extends Error {
  override readonly name = 'PrxError';
  readonly code: ErrorCode;
  readonly data: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, options: PrxErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.data = options.data ?? {};
  }
}

export function isPrxError(error: unknown, code?: ErrorCode): error is PrxError {
  return error instanceof PrxError && (code === undefined || error.code === code);
}

/** Any thrown value as a PrxError; unknown ones become INTERNAL and keep the cause. */
export function toPrxError(error: unknown): PrxError {
  if (error instanceof PrxError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new PrxError('INTERNAL', message, { cause: error });
}

/** The system error code (ENOENT, EMFILE …) of a thrown value, if it has one. */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
