/** A typed JSON-RPC connection over vscode-jsonrpc: both sides' methods are tables of schemas, and
 *  both params and results are validated at the door they enter. Every request has a deadline;
 *  a closed peer rejects all that is pending; any violation of the protocol closes the
 *  connection and is named in `closed`. */
import {
  CancellationTokenSource,
  createMessageConnection,
  ErrorCodes,
  type MessageReader,
  type MessageWriter,
  ResponseError,
} from 'vscode-jsonrpc/node';
import type { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { isErrorCode, isPrxError, PrxError, toPrxError } from '../base/errors.ts';

export type RequestTable = Readonly<Record<string, { params: z.ZodType; result: z.ZodType }>>;
export type NotificationTable = Readonly<Record<string, z.ZodType>>;

/** What one side may be sent. */
export interface Side {
  readonly requests: RequestTable;
  readonly notifications: NotificationTable;
}

export interface Transport {
  readonly reader: MessageReader;
  readonly writer: MessageWriter;
}

export interface RequestContext {
  /** Aborted when the asker cancels or the connection closes. */
  readonly signal: AbortSignal;
}

export type RequestHandlers<T extends RequestTable> = {
  readonly [M in keyof T]: (
    params: z.infer<T[M]['params']>,
    context: RequestContext,
  ) => Promise<z.infer<T[M]['result']>>;
};

export type NotificationHandlers<T extends NotificationTable> = {
  readonly [M in keyof T]: (params: z.infer<T[M]>) => void;
};

/** eof: the peer is gone; protocol: it broke the rules; closed: we closed. The first one wins. */
export type CloseReason =
  | { readonly kind: 'eof' | 'closed' }
  | { readonly kind: 'protocol'; readonly error: PrxError };

export interface RequestOptions {
  /** Deadline, ms; Infinity only where another deadline covers the wait (say which). */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface Connection<Remote extends Side> {
  /** Rejects with the peer's PrxError, DEADLINE_EXCEEDED, CANCELLED or PEER_CLOSED. */
  request<M extends keyof Remote['requests'] & string>(
    method: M,
    params: z.input<Remote['requests'][M]['params']>,
    options: RequestOptions,
  ): Promise<z.infer<Remote['requests'][M]['result']>>;
  /** Resolves when the pipe has taken the bytes; await it in loops. Never rejects: a closed peer
   *  shows in `closed`. */
  notify<M extends keyof Remote['notifications'] & string>(
    method: M,
    params: z.input<Remote['notifications'][M]>,
  ): Promise<void>;
  readonly closed: Promise<CloseReason>;
  isOpen(): boolean;
  /** Idempotent. Pending requests reject with PEER_CLOSED. */
  close(): void;
}

export interface ConnectionSpec<Local extends Side, Remote extends Side> {
  readonly transport: Transport;
  readonly clock: Clock;
  /** The peer's name in error messages. */
  readonly peer: string;
  readonly local: Local;
  readonly remote: Remote;
  readonly requests: RequestHandlers<Local['requests']>;
  readonly notifications: NotificationHandlers<Local['notifications']>;
}

/** JSON-RPC number of every PrxError; its own code stands in the error's data. */
const PRX_ERROR = -32000;

export function createConnection<Local extends Side, Remote extends Side>(
  spec: ConnectionSpec<Local, Remote>,
): Connection<Remote> {
  const { transport, clock, peer, remote } = spec;
  const rpc = createMessageConnection(transport.reader, transport.writer);
  const ending = new AbortController();
  let resolveClosed: (reason: CloseReason) => void = () => undefined;
  const closed = new Promise<CloseReason>((resolve) => {
    resolveClosed = resolve;
  });

  function end(reason: CloseReason): void {
    if (ending.signal.aborted) return;
    resolveClosed(reason);
    ending.abort();
    transport.writer.end();
    rpc.dispose();
    transport.reader.dispose();
  }

  function violation(error: unknown): void {
    end({ kind: 'protocol', error: toPrxError(error) });
  }

  function answer(method: string): (params: unknown, token: CancelToken) => Promise<unknown> {
    const entry = spec.local.requests[method];
    // The params are parsed by this method's own schema before the handler sees them.
    const handler = spec.requests[method] as AnyHandler | undefined;
    return async (params, token) => {
      if (entry === undefined || handler === undefined) throw unknownMethod(method, peer);
      const abort = new AbortController();
      const stop = (): void => abort.abort();
      token.onCancellationRequested(stop);
      ending.signal.addEventListener('abort', stop, { once: true });
      try {
        const valid = parseOrThrow(entry.params, params, `params of ${method} from ${peer}`);
        return await handler(valid, { signal: abort.signal });
      } catch (error) {
        throw toResponseError(error);
      } finally {
        ending.signal.removeEventListener('abort', stop);
      }
    };
  }

  for (const method of Object.keys(spec.local.requests)) rpc.onRequest(method, answer(method));
  rpc.onRequest((method: string) => {
    violation(unknownMethod(method, peer));
  });
  for (const [method, schema] of Object.entries(spec.local.notifications)) {
    rpc.onNotification(method, (params: unknown) => {
      const parsed = schema.safeParse(params);
      const handler = spec.notifications[method] as ((valid: unknown) => void) | undefined;
      if (parsed.success) handler?.(parsed.data);
      else violation(shapeError(`params of ${method} from ${peer}`, parsed.error));
    });
  }
  rpc.onUnhandledNotification((message) => {
    if (message.method !== '$/cancelRequest') violation(unknownMethod(message.method, peer));
  });
  rpc.onError(([error]) => violation(error));
  rpc.onClose(() => end({ kind: 'eof' }));
  transport.reader.onError(violation);
  transport.reader.onClose(() => end({ kind: 'eof' }));
  rpc.listen();

  return {
    closed,
    isOpen: () => !ending.signal.aborted,
    close: () => end({ kind: 'closed' }),
    async notify(method, params) {
      if (ending.signal.aborted) return;
      // A failed write means the peer is gone; the reader's end says so to everyone.
      await rpc.sendNotification(method, params).catch(() => undefined);
    },
    async request(method, params, options) {
      if (ending.signal.aborted) throw peerClosed(peer, method);
      const source = new CancellationTokenSource();
      const sent = rpc.sendRequest<unknown>(method, params, source.token);
      const raced = raceDeadline({ sent, method, peer, clock, options, ending: ending.signal });
      try {
        const result = await raced;
        const schema = remote.requests[method]?.result;
        if (schema === undefined) throw unknownMethod(method, peer);
        return parseOrThrow(schema, result, `result of ${method} from ${peer}`) as never;
      } catch (error) {
        source.cancel();
        throw fromResponseError(error);
      }
    },
  };
}

type AnyHandler = (params: unknown, context: RequestContext) => Promise<unknown>;

interface CancelToken {
  onCancellationRequested(listener: () => void): unknown;
}

interface Race {
  readonly sent: Promise<unknown>;
  readonly method: string;
  readonly peer: string;
  readonly clock: Clock;
  readonly options: RequestOptions;
  readonly ending: AbortSignal;
}

function raceDeadline(race: Race): Promise<unknown> {
  const { sent, method, peer, clock, options, ending } = race;
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(options.timeoutMs, () => {
      const message = `${peer} did not answer ${method} within ${options.timeoutMs} ms`;
      settle(() => reject(new PrxError('DEADLINE_EXCEEDED', message)));
    });
    const onEnd = (): void => settle(() => reject(peerClosed(peer, method)));
    const onCancel = (): void =>
      settle(() => reject(new PrxError('CANCELLED', `${method} to ${peer} was cancelled`)));
    function settle(act: () => void): void {
      timer.cancel();
      ending.removeEventListener('abort', onEnd);
      options.signal?.removeEventListener('abort', onCancel);
      act();
    }
    ending.addEventListener('abort', onEnd, { once: true });
    options.signal?.addEventListener('abort', onCancel, { once: true });
    sent.then(
      (value) => settle(() => resolve(value)),
      (error: unknown) => settle(() => reject(ending.aborted ? peerClosed(peer, method) : error)),
    );
    if (options.signal?.aborted) onCancel();
  });
}

function parseOrThrow<T extends z.ZodType>(schema: T, value: unknown, what: string): z.infer<T> {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw shapeError(what, parsed.error);
  return parsed.data;
}

function shapeError(what: string, error: z.ZodError): PrxError {
  const issues = error.issues.slice(0, 3).map((i) => `${i.path.join('.') || '(root)'}: ${i.message}`);
  return new PrxError('INVALID_REQUEST', `${what} are malformed: ${issues.join('; ')}`);
}

function unknownMethod(method: string, peer: string): PrxError {
  return new PrxError('METHOD_UNKNOWN', `${peer} used the unknown method ${method}`);
}

function peerClosed(peer: string, method: string): PrxError {
  return new PrxError('PEER_CLOSED', `${peer} is gone; ${method} was not answered`);
}

function toResponseError(error: unknown): ResponseError<unknown> {
  const known = toPrxError(error);
  return new ResponseError(PRX_ERROR, known.message, { code: known.code, data: known.data });
}

function fromResponseError(error: unknown): PrxError {
  if (isPrxError(error)) return error;
  if (error instanceof ResponseError) {
    const detail: unknown = error.data;
    if (typeof detail === 'object' && detail !== null && 'code' in detail) {
      const data = 'data' in detail ? (detail.data as Record<string, unknown>) : {};
      if (isErrorCode(detail.code)) return new PrxError(detail.code, error.message, { data });
    }
    if (error.code === ErrorCodes.MethodNotFound) {
      return new PrxError('METHOD_UNKNOWN', error.message);
    }
  }
  return toPrxError(error);
}
