/** What a route is: plain data from which both the server and the OpenAPI document are made, and a
 *  handler that maps a validated request to one call of the supervisor and an answer. A handler
 *  never touches the connection: writing answers is the business of answers.ts. */
import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import { PrxError } from '../base/errors.ts';
import type { Scope } from '../protocol/tokens.ts';
import type { Supervisor, TokenBook } from '../supervisor/index.ts';
import type { Page } from './page.ts';

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** One frame of an event stream. Each text is one line. */
export interface StreamFrame {
  /** Where a client goes on after this frame; absent: not here. */
  readonly id?: string;
  readonly event?: string;
  readonly data: string;
}

/** From where live readers are fed. */
export interface LiveSource {
  readonly session: string;
  /** The newest event when the reader came. */
  readonly lastSeq: number;
  /** The events behind `since`, then live; the id of each is its sequence number. */
  open(since: number, signal: AbortSignal): Promise<AsyncIterable<StreamFrame>>;
}

export type Answer =
  | {
      readonly kind: 'json';
      readonly value: unknown;
      /** Absent: the route's status. */
      readonly status?: number;
      readonly headers?: Readonly<Record<string, string>>;
      /** A client that has this very answer already is told so (304). */
      readonly isRevalidated?: boolean;
    }
  | { readonly kind: 'text'; readonly text: string; readonly contentType: string }
  | { readonly kind: 'empty' }
  | {
      readonly kind: 'bytes';
      /** Absent: the client has them (304). */
      readonly bytes: Buffer | undefined;
      readonly contentType: string;
      readonly headers: Readonly<Record<string, string>>;
    }
  | { readonly kind: 'file'; readonly path: string; readonly name: string }
  | {
      readonly kind: 'stream';
      readonly headers?: Readonly<Record<string, string>>;
      /** Of a refusal to stream: what was asked for is under way all the same. */
      readonly refusedHeaders?: Readonly<Record<string, string>>;
      open(signal: AbortSignal): Promise<AsyncIterable<StreamFrame>>;
      /** Where the frames are those of every client at the same place. */
      readonly live?: LiveSource & { readonly since: number };
    }
  | {
      readonly kind: 'socket';
      /** Each frame's data is one text message. */
      open(signal: AbortSignal): Promise<AsyncIterable<StreamFrame>>;
      readonly live: LiveSource & { readonly since: number };
      /** Answers one message of the client's; a throw becomes a problem frame. */
      onMessage(message: unknown): Promise<unknown>;
    };

export interface RouteContext<P, Q, B> {
  readonly supervisor: Supervisor;
  readonly tokens: TokenBook;
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly headers: IncomingHttpHeaders;
  /** Who asks, for the journal: `socket`, or `token:<name>`. */
  readonly by: string;
  /** Now: a token that was revoked since the request began has none. */
  hasScope(scope: Scope): boolean;
  /** The OpenAPI document of this server. */
  describe(): unknown;
  readonly page: Page;
  /** Aborted when the client is gone, or the server cuts it off: for answers that wait. */
  readonly signal: AbortSignal;
}

export type RawContext = RouteContext<unknown, unknown, unknown>;

interface RouteFacts {
  /** Unique, stable: the operationId of the OpenAPI document. */
  readonly id: string;
  readonly method: Method;
  /** With parameters as `{name}`. */
  readonly path: string;
  /** What the caller's token must allow; `none` needs no token. */
  readonly scope: Scope | 'none';
  /** Status of the usual answer. */
  readonly status: number;
  /** What that answer may have instead: 304 without a body, each other with the same one. */
  readonly otherStatuses?: readonly number[];
  readonly summary: string;
  /** Media type of the usual answer; absent: JSON. */
  readonly contentType?: string;
  /** Schema of a JSON answer. */
  readonly response?: z.ZodType;
  /** Asked for in another way, the answer is a stream of server-sent events. */
  readonly canStream?: true;
}

export interface Route extends RouteFacts {
  readonly params: z.ZodType;
  readonly query: z.ZodType;
  readonly body: z.ZodType | undefined;
  /** Validates, then maps. @throws INVALID_REQUEST with data.issues, and what the call throws. */
  handler(raw: RawContext): Promise<Answer>;
}

interface RouteSpec<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>
  extends RouteFacts {
  /** Absent: none are taken, and any given is refused. */
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  handle(context: RouteContext<z.output<P>, z.output<Q>, z.output<B>>): Promise<Answer>;
}

const nothingSchema = z.strictObject({});
/** A request without a body, or with an empty object, which some clients cannot leave out. */
const noBodySchema = nothingSchema.nullish();

export function defineRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  spec: RouteSpec<P, Q, B>,
): Route {
  const { handle, params = nothingSchema, query = nothingSchema, body, ...facts } = spec;
  return {
    ...facts,
    params,
    query,
    body,
    handler: async (raw) =>
      handle({
        ...raw,
        // An absent schema stands for a type that the handler cannot use: `unknown`.
        params: parseInput(params, raw.params, 'path') as z.output<P>,
        query: parseInput(query, raw.query, 'query') as z.output<Q>,
        body: parseInput(body ?? noBodySchema, raw.body, 'body') as z.output<B>,
      }),
  };
}

/** Issues named in one problem; the first ones are what a person mends. */
const ISSUES_MAX = 20;

/** `value` as the schema says. @throws INVALID_REQUEST, every issue with its path. */
export function parseInput<T extends z.ZodType>(
  schema: T,
  value: unknown,
  where: string,
): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issues = result.error.issues.slice(0, ISSUES_MAX).map((issue) => {
    const { path, message, keys } = toDeepest(issue, [where]);
    const named = keys === undefined ? {} : { keys };
    return { path: path.map(String).join('.'), message, ...named };
  });
  const [first] = issues;
  const rest = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  throw new PrxError('INVALID_REQUEST', `${first?.path}: ${first?.message}${rest}`, {
    data: { issues },
  });
}

interface Issue {
  readonly path: readonly PropertyKey[];
  readonly message: string;
  /** Those that nobody knows there: the path leads to what has them. */
  readonly keys?: readonly string[];
}

/** What no alternative takes: what stopped those that came furthest, which is what was meant. */
function toDeepest(issue: z.core.$ZodIssue, at: readonly PropertyKey[]): Issue {
  const path = [...at, ...issue.path];
  const { message } = issue;
  if (issue.code === 'unrecognized_keys') return { path, message, keys: issue.keys };
  if (issue.code === 'invalid_key') return { path, message: joinMessages(issue.issues) };
  if (issue.code !== 'invalid_union') return { path, message };
  const tried = issue.errors.flatMap(([first]) => first ?? []).map((each) => toDeepest(each, path));
  const depth = Math.max(...tried.map((each) => each.path.length));
  const [best, ...others] = tried.filter((each) => each.path.length === depth);
  if (best === undefined) return { path, message };
  const same = others.filter((each) => String(each.path) === String(best.path));
  return { path: best.path, message: joinMessages([best, ...same]) };
}

function joinMessages(issues: readonly { readonly message: string }[]): string {
  return [...new Set(issues.map(({ message }) => message))].join('; or ');
}

export function toJsonAnswer(
  value: unknown,
  rest: Omit<Extract<Answer, { kind: 'json' }>, 'kind' | 'value'> = {},
): Answer {
  return { kind: 'json', value, ...rest };
}
