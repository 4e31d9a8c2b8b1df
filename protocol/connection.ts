/** A typed JSON-RPC connection over vscode-jsonrpc: both sides' methods are tables of schemas, and
 *  both params and results are validated at the door they enter. Every request has a deadline;
 *  a closed peer rejects all that is pending; any violation of the protocol closes the
 *  connection and is named in `closed`. */
import {
  CancellationTokenSource,
  createMessageConnection,
  type MessageConnection,
  type MessageReader,
  type MessageWriter,
} from 'vscode-jsonrpc/node';
import type { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { isPrxError, PrxError, toPrxError } from '../base/errors.ts';
import { awaitAnswer } from './await-answer.ts';
import { createReportingWriter, type WriteFailures } from './reporting-writer.ts';
import {
  fromResponseError,
  parseOrThrow,
  peerClosed,
  shapeError,
  toResponseError,
  unknownMethod,
} from './rpc-errors.ts';

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

/** How long a peer that no longer reads may still be read. What it wrote before its death must not
 *  be lost, so this is longer than any backlog takes; one that lives on with a closed ear is not
 *  waited for. Requests to it reject at once. */
export const DRAIN_MS = 10_000;

/** Requests of a peer that are not answered yet. Above what any of our own processes takes at once
 *  (a gateway: 1024), so whoever has more breaks the protocol. */
export const REQUESTS_MAX = 2048;

export function createConnection<Local extends Side, Remote extends Side>(
  spec: ConnectionSpec<Local, Remote>,
): Connection<Remote> {
  const { transport, peer } = spec;
  const failures: WriteFailures = new WeakMap();
  const writer = createReportingWriter(transport.writer, failures);
  const rpc = createMessageConnection(transport.reader, writer);
  const ending = createEnding(transport, rpc);
  serveRequests(spec, rpc, ending);
  serveNotifications(spec, rpc, ending);
  watchPeer(spec, rpc, ending);
  rpc.listen();

  return {
    closed: ending.closed,
    isOpen: () => !ending.signal.aborted,
    close: () => ending.end({ kind: 'closed' }),
    async notify(method, params) {
      if (ending.signal.aborted) return;
      try {
        await rpc.sendNotification(method, params);
      } catch (error) {
        // A failed write means the peer is gone, and the reader's end says so to everyone. One
        // that was refused for its size would be missed in silence.
        if (isPrxError(error, 'FRAME_TOO_LARGE')) ending.violation(error);
      }
    },
    async request(method, params, options) {
      if (ending.signal.aborted) throw peerClosed(peer, method);
      const schema = spec.remote.requests[method]?.result;
      if (schema === undefined) throw unknownMethod(method, peer);
      const source = new CancellationTokenSource();
      const send = async (): Promise<unknown> => rpc.sendRequest(method, params, source.token);
      const { clock } = spec;
      try {
        const wait = { send, method, peer, clock, options, ending: ending.signal };
        const result = await awaitAnswer(wait);
        return parseOrThrow(schema, result, `result of ${method} from ${peer}`) as never;
      } catch (error) {
        source.cancel();
        throw findFailure(failures, params) ?? fromResponseError(error, peerClosed(peer, method));
      } finally {
        source.dispose();
      }
    },
  };
}

function findFailure(failures: WriteFailures, params: unknown): PrxError | undefined {
  return typeof params === 'object' && params !== null ? failures.get(params) : undefined;
}

/** The one end of a connection: whoever calls first names the reason. */
interface Ending {
  readonly signal: AbortSignal;
  readonly closed: Promise<CloseReason>;
  end(reason: CloseReason): void;
  violation(error: unknown): void;
}

function createEnding(transport: Transport, rpc: MessageConnection): Ending {
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
  const violation = (error: unknown): void => end({ kind: 'protocol', error: toPrxError(error) });
  return { signal: ending.signal, closed, end, violation };
}

type AnySpec = ConnectionSpec<Side, Side>;
type AnyHandler = (params: unknown, context: RequestContext) => Promise<unknown>;

interface CancelToken {
  onCancellationRequested(listener: () => void): unknown;
}

function serveRequests<L extends Side, R extends Side>(
  { local, requests, peer }: ConnectionSpec<L, R>,
  rpc: MessageConnection,
  ending: Ending,
): void {
  let underWay = 0;
  for (const [method, entry] of Object.entries(local.requests)) {
    // The params are parsed by this method's own schema before the handler sees them.
    const handler = requests[method] as AnyHandler | undefined;
    // The token is the last argument; without params it is the only one.
    rpc.onRequest(method, async (...given: unknown[]) => {
      const token = given.at(-1) as CancelToken;
      const abort = new AbortController();
      const stop = (): void => abort.abort();
      token.onCancellationRequested(stop);
      ending.signal.addEventListener('abort', stop, { once: true });
      underWay += 1;
      try {
        if (handler === undefined) throw unknownMethod(method, peer);
        if (underWay > REQUESTS_MAX) {
          const message = `${peer} has ${underWay} requests under way, ${REQUESTS_MAX} at most`;
          throw new PrxError('LIMIT_EXCEEDED', message);
        }
        const params = given.length === 2 ? given[0] : undefined;
        const valid = parseOrThrow(entry.params, params, `params of ${method} from ${peer}`);
        return await handler(valid, { signal: abort.signal });
      } catch (error) {
        if (underWay > REQUESTS_MAX) ending.violation(error);
        throw toResponseError(error);
      } finally {
        underWay -= 1;
        ending.signal.removeEventListener('abort', stop);
      }
    });
  }
  rpc.onRequest((method: string) => ending.violation(unknownMethod(method, peer)));
}

function serveNotifications<L extends Side, R extends Side>(
  { local, notifications, peer }: ConnectionSpec<L, R>,
  rpc: MessageConnection,
  ending: Ending,
): void {
  for (const [method, schema] of Object.entries(local.notifications)) {
    const handler = notifications[method] as ((valid: unknown) => void) | undefined;
    rpc.onNotification(method, (params: unknown) => {
      const parsed = schema.safeParse(params);
      if (!parsed.success) {
        ending.violation(shapeError(`params of ${method} from ${peer}`, parsed.error));
        return;
      }
      try {
        handler?.(parsed.data);
      } catch (error) {
        // Our bug, and nobody waits for an answer that could say so: it ends the connection.
        ending.violation(error);
      }
    });
  }
  rpc.onUnhandledNotification(({ method }) => ending.violation(unknownMethod(method, peer)));
}

function watchPeer(
  { transport, clock }: Pick<AnySpec, 'transport' | 'clock'>,
  rpc: MessageConnection,
  { end, violation, signal }: Ending,
): void {
  transport.reader.onError(violation);
  transport.reader.onClose(() => end({ kind: 'eof' }));
  // The pipe to a dying peer breaks before the last it said is read.
  transport.writer.onClose(() => {
    if (signal.aborted) return;
    const timer = clock.setTimer(DRAIN_MS, () => end({ kind: 'eof' }));
    signal.addEventListener('abort', () => timer.cancel(), { once: true });
  });
  rpc.onError(([error]) => violation(error));
}
