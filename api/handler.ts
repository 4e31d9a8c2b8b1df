/** The request handler behind every listener: fastify's router over the route table, with the
 *  checks of auth.ts before a body is read and problem documents for whatever fails. No schema is
 *  given to fastify: routes validate with zod themselves, and no compiler is loaded. */
import type { IncomingMessage, ServerResponse as Response } from 'node:http';
import type { Socket } from 'node:net';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { isPrxError, systemCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type { Supervisor, TokenBook } from '../supervisor/index.ts';
import { type Permit, writeAnswer } from './answers.ts';
import { type Audit, type AuditEntry, toFingerprint, toTarget } from './audit.ts';
import { authorize, type Caller, checkAddress, type Door, isExpired } from './auth.ts';
import { BODY_BYTES_MAX, discardBody, parseBody } from './body.ts';
import type { Broadcasts } from './broadcast.ts';
import { checkFraming } from './framing.ts';
import { createServer, ServerResponse } from './http.ts';
import { toOpenaiError } from './openai/error.ts';
import { createOpenapi } from './openapi.ts';
import type { Page } from './page.ts';
import { HttpError, logFailure, PROBLEM_TYPE, toRefusal } from './problem.ts';
import { type Rates, toRateKey } from './rates.ts';
import type { Refusals } from './refusals.ts';
import type { Answer, Route } from './route.ts';
import { routeTable } from './routes/index.ts';
import type { Streams } from './streams.ts';
import type { Upgrade } from './websocket.ts';

export interface HandlerDeps {
  readonly supervisor: Supervisor;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly version: string;
  readonly streams: Streams;
  readonly broadcasts: Broadcasts;
  readonly page: Page;
  readonly tokens: TokenBook;
  readonly rates: Rates;
  readonly refusals: Refusals;
  readonly audit: Audit;
}

export interface Handler {
  ready(): Promise<void>;
  serve(exchange: { request: IncomingMessage; response: Response; door: Door }): void;
  serveUpgrade(upgrade: Upgrade & { socket: Socket; door: Door }): void;
  close(): Promise<void>;
}

/** What is known of a request besides its bytes. */
interface Facts {
  readonly door: Door;
  readonly upgrade: Upgrade | undefined;
  caller: Caller | undefined;
}

type FactsOf = WeakMap<IncomingMessage, Facts>;

export function createHandler(deps: HandlerDeps): Handler {
  const factsOf: FactsOf = new WeakMap();
  const app = createApp(deps, factsOf);
  let document: unknown;
  const describe = (): unknown => {
    document ??= createOpenapi(routeTable, deps.version);
    return document;
  };
  for (const route of routeTable) addRoute(app, { deps, route, factsOf, describe });
  return {
    ready: async () => {
      await app.ready();
    },
    serve({ request, response, door }) {
      factsOf.set(request, { door, upgrade: undefined, caller: undefined });
      app.routing(request, response);
    },
    serveUpgrade({ request, socket, head, door }) {
      // Between node letting go of the socket and the library taking it, an error has no
      // listener; the close that follows it is what ends the request.
      socket.on('error', () => socket.destroy());
      const upgrade = { request, socket, head };
      factsOf.set(request, { door, upgrade, caller: undefined });
      const response = new ServerResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket);
      response.once('finish', () => socket.end());
      app.routing(request, response);
    },
    close: async () => {
      await app.close();
    },
  };
}

const REQUEST_ID = /^[A-Za-z0-9._:-]{1,128}$/;

function createApp(deps: HandlerDeps, factsOf: FactsOf): FastifyInstance {
  const app = fastify({
    // The listeners are ours (two doors, one router); fastify's own server never listens.
    serverFactory: () => createServer(),
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    exposeHeadRoutes: false,
    requestIdHeader: false,
    genReqId: (request) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && REQUEST_ID.test(given) ? given : deps.random.uuid();
    },
    routerOptions: { maxParamLength: 512 },
    schemaController: { compilersFactory: { buildValidator: never, buildSerializer: never } },
    frameworkErrors: (error, request, reply) => refuse(deps, request, reply, error),
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    /^application\/json\s*(;|$)/i,
    { parseAs: 'buffer' },
    async (_request: FastifyRequest, bytes: Buffer) => parseBody(bytes),
  );
  // A button of a page without a script sends an empty form; no other route takes one.
  app.addContentTypeParser(
    /^application\/x-www-form-urlencoded\s*(;|$)/i,
    { parseAs: 'buffer', bodyLimit: 1024 },
    async (request: FastifyRequest, bytes: Buffer) => {
      const isLink = request.routeOptions.url?.startsWith('/api/v1/links/') === true;
      if (isLink && bytes.length === 0) return undefined;
      throw new HttpError(415, 'the body must be application/json', { code: 'INVALID_REQUEST' });
    },
  );
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({
      'x-request-id': request.id,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    const { door } = getFacts(factsOf, request);
    checkFraming(request.raw);
    const { localAddress, remoteAddress = '' } = request.raw.socket;
    checkAddress(door, request.headers, localAddress);
    if (!request.is404) return;
    // Before its body is read: nobody has said who asks.
    if (door.kind === 'tcp') deps.rates.take(toRateKey(remoteAddress));
    throw toNotFound(request);
  });
  app.setErrorHandler(async (error, request, reply) => {
    if (systemCode(error) === 'FST_ERR_CTP_BODY_TOO_LARGE') await discardBody(request.raw);
    refuse(deps, request, reply, error);
    return reply;
  });
  app.setNotFoundHandler((request, reply) => refuse(deps, request, reply, toNotFound(request)));
  return app;
}

/** HEAD is GET without the body (RFC 9110, 9.3.2), which node leaves out. */
function methodsOf({ method }: Route): string[] {
  return method === 'GET' ? ['GET', 'HEAD'] : [method];
}

function never(): never {
  assert(false, 'no schema is given to fastify');
}

function addRoute(
  app: FastifyInstance,
  args: { deps: HandlerDeps; route: Route; factsOf: FactsOf; describe: () => unknown },
): void {
  const { deps, route, factsOf, describe } = args;
  const { supervisor, clock, streams, broadcasts } = deps;
  app.route({
    method: methodsOf(route),
    url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
    onRequest: async (request) => {
      const facts = getFacts(factsOf, request);
      facts.caller = admit(deps, { request, route, door: facts.door });
    },
    handler: async (request, reply) => {
      const { caller, upgrade } = getFacts(factsOf, request);
      assert(caller !== undefined, 'a handler runs after authorization');
      const { params, query, body, headers } = request;
      const permit = toPermit(deps, caller);
      const note = toNote(deps, { request, route, caller });
      const working = route.handler({
        supervisor,
        tokens: deps.tokens,
        params,
        query,
        body,
        headers,
        by: caller.by,
        hasScope: (scope) => caller.hasScope(scope) && permit.isValid(),
        describe,
        page: deps.page,
        signal: toSignal(reply.raw),
      });
      working.then(note.done, note.failed);
      const answer = note.toAudited(await working);
      const toProblem = (error: unknown): unknown => {
        logFailure(deps.logger, error, { requestId: request.id, route: route.id });
        return toRefusal(error, request.id).problem;
      };
      const answering = { clock, streams, broadcasts, toProblem };
      await writeAnswer(answering, { route, reply, upgrade, permit }, answer);
      return reply;
    },
  });
}

interface Asked {
  readonly request: FastifyRequest;
  readonly route: Route;
  readonly caller: Caller;
}

/** What only reads leaves no line. */
function toNote({ audit }: HandlerDeps, { request, route, caller }: Asked) {
  const { token, by } = caller;
  const { remoteAddress: address } = request.raw.socket;
  const entry = {
    by,
    ...(token === undefined ? {} : { token: toFingerprint(token.sha256) }),
    ...(address === undefined ? {} : { address }),
    route: route.id,
    ...toTarget(request.params),
  };
  const note = (rest: Omit<AuditEntry, 'by' | 'route'>): void =>
    audit.note({ ...entry, ...rest, request_id: request.id });
  const toRefused = (error: unknown): Pick<AuditEntry, 'status' | 'code'> => {
    const { status, code } = toRefusal(error, request.id).problem;
    return { status, code };
  };
  return {
    /** What comes through a WebSocket changes as much as a request does. */
    toAudited(answer: Answer): Answer {
      if (answer.kind !== 'socket') return answer;
      return {
        ...answer,
        async onMessage(message) {
          const working = answer.onMessage(message);
          const facts = toMessageFacts(entry.on, message);
          if (facts !== undefined) {
            working.then(
              () => note({ ...facts, status: 200 }),
              (error: unknown) => note({ ...facts, ...toRefused(error) }),
            );
          }
          return working;
        },
      };
    },
    done(answer: Answer): void {
      if (route.method === 'GET') return;
      const { status = route.status, value } =
        answer.kind === 'json' ? answer : { value: undefined };
      const { id } = (value ?? {}) as { id?: unknown };
      note({ status, ...(status === 201 && typeof id === 'string' ? { created: id } : {}) });
    },
    failed(error: unknown): void {
      if (route.method !== 'GET') note(toRefused(error));
    },
  };
}

/** Undefined: it changes nothing. */
function toMessageFacts(
  on: AuditEntry['on'],
  message: unknown,
): Pick<AuditEntry, 'message' | 'on'> | undefined {
  const { type, call_id } = (message ?? {}) as Readonly<Record<string, unknown>>;
  if (type === 'ping') return undefined;
  const known = ['input', 'interrupt', 'approval'].find((each) => each === type);
  return { message: known ?? 'unknown', on: { ...on, ...toTarget({ call_id }).on } };
}

/** Who it is, and whether it asks too often: as the token if that is valid, so that strangers at
 *  the same address (a proxy's) cannot use up what it may ask. */
function admit(
  deps: HandlerDeps,
  { request, route, door }: { request: FastifyRequest; route: Route; door: Door },
): Caller {
  if (door.kind === 'socket') return authorize(door, route, noClaim);
  const { headers } = request;
  const address = request.raw.socket.remoteAddress ?? '';
  try {
    const claim = { headers, tokens: deps.tokens.tokens(), wallMs: deps.clock.wallMs() };
    const caller = authorize(door, route, claim);
    deps.rates.take(caller.token === undefined ? toRateKey(address) : caller.by);
    if (caller.token !== undefined) deps.tokens.noteUse(caller.token.name);
    return caller;
  } catch (error) {
    if (isPrxError(error, 'RATE_LIMITED')) throw error;
    deps.rates.take(toRateKey(address));
    deps.refusals.note(error, { headers, address, route: route.id });
    throw error;
  }
}

const noClaim = { headers: {}, tokens: [], wallMs: 0 };

function toPermit({ tokens, clock }: HandlerDeps, { token }: Caller): Permit {
  if (token === undefined) return { leftMs: Number.POSITIVE_INFINITY, isValid: () => true };
  const leftMs = (token.expiresAtMs ?? Number.POSITIVE_INFINITY) - clock.wallMs();
  const isKnown = (): boolean =>
    tokens.tokens().some(({ name, sha256 }) => name === token.name && sha256 === token.sha256);
  return { leftMs, isValid: () => !isExpired(token, clock.wallMs()) && isKnown() };
}

function toSignal(response: Response): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => controller.abort());
  return controller.signal;
}

function getFacts(factsOf: FactsOf, request: FastifyRequest): Facts {
  const facts = factsOf.get(request.raw);
  assert(facts !== undefined, 'every request comes through a door');
  return facts;
}

function refuse(
  deps: HandlerDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  error: unknown,
): void {
  logFailure(deps.logger, error, {
    requestId: request.id,
    route: `${request.method} ${request.routeOptions.url ?? 'unknown'}`,
  });
  const { problem, headers } = toRefusal(error, request.id);
  reply.code(problem.status).headers(headers).header('x-request-id', request.id);
  if (request.url.startsWith('/v1/')) {
    reply.type('application/json; charset=utf-8').send(JSON.stringify(toOpenaiError(problem)));
    return;
  }
  reply.type(PROBLEM_TYPE).send(JSON.stringify(problem));
}

/** 405 for a path that other methods have, 404 for one that none has. */
function toNotFound(request: FastifyRequest): HttpError {
  const path = request.url.split('?')[0] ?? '';
  const here = routeTable.filter((route) => toPattern(route.path).test(path));
  const what = `${request.method} ${path.slice(0, 200)}`;
  if (here.length === 0) {
    return new HttpError(404, `there is no ${what}; see /openapi.json`, { code: 'NOT_FOUND' });
  }
  const allow = [...new Set(here.flatMap(methodsOf))].join(', ');
  return new HttpError(405, `there is no ${what}; allowed here: ${allow}`, { headers: { allow } });
}

function toPattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`);
}
