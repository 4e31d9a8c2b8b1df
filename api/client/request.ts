/** One HTTP exchange with a supervisor, over its unix socket or TCP, on node:http (fetch cannot do
 *  unix sockets). Every failure is a PrxError: the server's problem as it was, or what the
 *  connection did (NOT_RUNNING, FORBIDDEN, PEER_CLOSED, DEADLINE_EXCEEDED, CANCELLED). */
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http';
import type { Clock } from '../../base/clock.ts';
import { isErrorCode, PrxError, systemCode } from '../../base/errors.ts';
import { SOCKET_PATH_BYTES_MAX } from '../../base/socket-path.ts';
import { request as httpRequest } from '../http.ts';

/** Where a supervisor is. A token is needed on TCP and ignored on the socket. */
export type Target =
  | { readonly socketPath: string }
  | { readonly url: string; readonly token?: string };

export type Query = Readonly<Record<string, string | readonly string[] | undefined>>;

export interface ExchangeRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly query?: Query;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Statuses besides 2xx that are answers, not problems. */
  readonly alsoOk?: readonly number[];
  /** Its own deadline, milliseconds, for what takes as long as there is data. */
  readonly timeoutMs?: number;
}

export interface Exchange {
  /** Resolves with the head of a 2xx answer; its body is the caller's to read or destroy. */
  open(request: ExchangeRequest): Promise<IncomingMessage>;
  /** The whole answer as text. */
  readText(request: ExchangeRequest): Promise<{ text: string; head: IncomingMessage }>;
}

/** Bytes of an answer that is read whole; longer ones are streams (events, artifacts). */
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;
/** The server's body limit; checked here too, because a server that refuses a body may close the
 *  connection before its answer is read. */
const BODY_BYTES_MAX = 16 * 1024 * 1024;

export function createExchange(target: Target, clock: Clock, timeoutMs: number): Exchange {
  const open = async (request: ExchangeRequest): Promise<IncomingMessage> => {
    const deadline = { clock, timeoutMs: request.timeoutMs ?? timeoutMs };
    const head = await send(target, request, deadline);
    const status = head.statusCode ?? 0;
    if ((status >= 200 && status < 300) || request.alsoOk?.includes(status)) return head;
    throw toPrxErrorOf(status, await readBody(head), head.headers['retry-after']);
  };
  return {
    open,
    async readText(request) {
      const head = await open(request);
      const limitMs = request.timeoutMs ?? timeoutMs;
      const timer = clock.setTimer(limitMs, () => head.destroy(lateError(request, limitMs)));
      try {
        return { text: await readBody(head), head };
      } finally {
        timer.cancel();
      }
    },
  };
}

async function send(
  target: Target,
  request: ExchangeRequest,
  deadline: { clock: Clock; timeoutMs: number },
): Promise<IncomingMessage> {
  const body = request.body === undefined ? undefined : encodeBody(request.body);
  const options = toOptions(target, request, body);
  const start = await requestFunctionOf(target);
  return new Promise((resolve, reject) => {
    const outgoing = start(options, resolve);
    const timer = deadline.clock.setTimer(deadline.timeoutMs, () =>
      outgoing.destroy(lateError(request, deadline.timeoutMs)),
    );
    outgoing.once('response', () => timer.cancel());
    outgoing.on('error', (error) => {
      timer.cancel();
      reject(toConnectionError(error, target, request));
    });
    outgoing.end(body);
  });
}

type Start = (options: RequestOptions, onHead: (head: IncomingMessage) => void) => ClientRequest;

async function requestFunctionOf(target: Target): Promise<Start> {
  const secure = 'url' in target && target.url.startsWith('https:');
  return secure ? (await import('node:https')).request : httpRequest;
}

function encodeBody(body: unknown): Buffer {
  const bytes = Buffer.from(JSON.stringify(body), 'utf8');
  if (bytes.length <= BODY_BYTES_MAX) return bytes;
  throw new PrxError(
    'PAYLOAD_TOO_LARGE',
    `the request has ${bytes.length} bytes; the limit is ${BODY_BYTES_MAX} bytes`,
  );
}

function toOptions(
  target: Target,
  request: ExchangeRequest,
  body: Buffer | undefined,
): RequestOptions {
  const headers: Record<string, string | number> = { accept: 'application/json' };
  if (body !== undefined) {
    headers['content-type'] = 'application/json';
    headers['content-length'] = body.length;
  }
  const path = request.path + toQueryString(request.query ?? {});
  // `agent: false`: one connection an exchange. A kept-alive one can be cut by the server just
  // as it is used again, which would make a sent input's fate unknown for no gain on a socket.
  const common: RequestOptions = {
    method: request.method,
    agent: false,
    ...(request.signal === undefined ? {} : { signal: request.signal }),
  };
  if ('socketPath' in target) {
    const allHeaders = { host: 'localhost', ...headers, ...request.headers };
    return { ...common, socketPath: target.socketPath, path, headers: allHeaders };
  }
  const url = parseUrl(target.url);
  if (target.token !== undefined) headers.authorization = `Bearer ${target.token}`;
  return {
    ...common,
    protocol: url.protocol,
    hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port,
    path: url.pathname.replace(/\/+$/, '') + path,
    headers: { ...headers, ...request.headers },
  };
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new PrxError(
    'INVALID_REQUEST',
    `'${text}' is not the URL of a supervisor; write http://HOST:PORT or https://HOST:PORT`,
  );
}

function toQueryString(query: Query): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of typeof value === 'string' ? [value] : (value ?? [])) search.append(key, one);
  }
  return search.size === 0 ? '' : `?${search.toString()}`;
}

async function readBody(head: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let byteCount = 0;
  try {
    for await (const chunk of head as AsyncIterable<Buffer>) {
      byteCount += chunk.length;
      if (byteCount > ANSWER_BYTES_MAX) throw answerTooLarge();
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof PrxError) throw error;
    throw new PrxError('PEER_CLOSED', 'the supervisor closed the connection mid-answer', {
      cause: error,
    });
  }
  return Buffer.concat(chunks).toString('utf8');
}

function answerTooLarge(): PrxError {
  return new PrxError('FRAME_TOO_LARGE', `the answer is longer than ${ANSWER_BYTES_MAX} bytes`);
}

function lateError(request: ExchangeRequest, timeoutMs: number): PrxError {
  return new PrxError(
    'DEADLINE_EXCEEDED',
    `${request.method} ${request.path} was not answered within ${timeoutMs} ms`,
  );
}

function toConnectionError(error: Error, target: Target, request: ExchangeRequest): PrxError {
  if (error instanceof PrxError) return error;
  const what = `${request.method} ${request.path}`;
  if (request.signal?.aborted) return new PrxError('CANCELLED', `${what} was cancelled`);
  const where = 'socketPath' in target ? target.socketPath : target.url;
  const code = systemCode(error) ?? error.message;
  if (NOBODY_THERE.has(code)) {
    return new PrxError(
      'NOT_RUNNING',
      `no supervisor answers at ${where} (${code}); start one with: prx-supervisor start`,
      { data: { at: where, system_code: code }, cause: error },
    );
  }
  const byteCount = Buffer.byteLength(where);
  if (code === 'EINVAL' && 'socketPath' in target && byteCount > SOCKET_PATH_BYTES_MAX) {
    const message =
      `no supervisor can answer at ${where}: the path has ${byteCount} bytes, a unix socket ` +
      `takes ${SOCKET_PATH_BYTES_MAX}; use a shorter --state-dir, or set api.socket`;
    return new PrxError('NOT_RUNNING', message, { cause: error });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new PrxError('FORBIDDEN', `${where} belongs to another user (${code})`, {
      cause: error,
    });
  }
  return new PrxError('PEER_CLOSED', `the connection to ${where} broke during ${what} (${code})`, {
    cause: error,
  });
}

const NOBODY_THERE: ReadonlySet<string> = new Set([
  'ENOENT',
  'ECONNREFUSED',
  'ENOTSOCK',
  'ENOTDIR',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
]);

/** The error a problem document stands for; an answer that is none says what was seen. */
export function toPrxErrorOf(status: number, text: string, retryAfter?: string): PrxError {
  const problem = parseProblem(text);
  if (problem === undefined) {
    return new PrxError(
      'PEER_CLOSED',
      `the answer (HTTP ${status}) is not from a prx-supervisor: ${text.slice(0, 200)}`,
    );
  }
  const data = retryAfter === undefined ? {} : { retry_after_secs: Number(retryAfter) };
  // A newer server may know codes that this client does not: the detail still says it.
  const code = isErrorCode(problem.code) ? problem.code : 'INTERNAL';
  return new PrxError(code, problem.detail, { data: { ...data, ...problem.data } });
}

interface ProblemText {
  readonly code: string;
  readonly detail: string;
  readonly data: Readonly<Record<string, unknown>>;
}

function parseProblem(text: string): ProblemText | undefined {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null) return undefined;
  if (!('code' in value) || typeof value.code !== 'string') return undefined;
  if (!('detail' in value) || typeof value.detail !== 'string') return undefined;
  const data = 'data' in value && typeof value.data === 'object' ? value.data : null;
  return { code: value.code, detail: value.detail, data: { ...data } };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Not JSON: the caller says what was seen instead.
  }
}
