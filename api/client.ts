/** The typed client of the HTTP api, one method a route; what the CLI is built on. Loads nothing
 *  but node:http and the error table, so that a command answers at once. Answers are trusted to
 *  have the documented shape: both ends are one version, and the schemas live at the server. */
import type { IncomingMessage } from 'node:http';
import { type Clock, realClock } from '../base/clock.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { BackupView, JournalPage, JournalReport } from '../protocol/journal.ts';
import type {
  ApprovalView,
  CreateSession,
  EventPage,
  InputAccepted,
  ProcessView,
  ResolveApproval,
  SendInput,
  SessionView,
  StatusView,
} from '../protocol/resources.ts';
import type { SessionState } from '../protocol/states.ts';
import type { SweepView } from '../protocol/sweep.ts';
import { type ConnectionNews, followFrames } from './client/follow.ts';
import { type PolicyClient, policyMethods } from './client/policy.ts';
import {
  createExchange,
  type Exchange,
  type ExchangeRequest,
  type Target,
} from './client/request.ts';
import { createTokenMethods, type TokenMethods } from './client/tokens.ts';

export type { ConnectionNews } from './client/follow.ts';
export type { Target } from './client/request.ts';

export type ClientOptions = Target & {
  readonly clock?: Clock;
  /** Deadline of one exchange, milliseconds; default 60 000. Streams have none. */
  readonly timeoutMs?: number;
};

export interface SessionFilter {
  readonly state?: readonly SessionState[];
  readonly labels?: Readonly<Record<string, string>>;
  /** The real path of the folder. */
  readonly workspace?: string;
  readonly name?: string;
}

export interface ReadEventsOptions {
  /** Events after this sequence number; default 0: from the first. */
  readonly since?: number;
  readonly limit?: number;
  /** Epoch of the event at `since`: a stale position is refused instead of spliced. */
  readonly epoch?: number;
  readonly types?: readonly string[];
}

export interface ExportJournalOptions {
  readonly session?: string;
  /** As `next` of the page before; default 0. */
  readonly after?: number;
  readonly limit?: number;
  /** What repairs took out, instead of the journal. */
  readonly aside?: boolean;
}

export interface FollowStreamOptions {
  readonly signal?: AbortSignal;
  /** Told when the stream is open and when it was lost and will be opened again. */
  readonly onConnection?: (news: ConnectionNews) => void;
}

export interface Artifact {
  /** 200, or 206 for the asked range. */
  readonly status: number;
  readonly byteCount: number;
  readonly stream: IncomingMessage;
}

/** Wherever a `ref` is taken: an id, an unambiguous part of one, a name, or @last. Every method
 *  throws PrxError: the supervisor's own, or NOT_RUNNING, PEER_CLOSED, FORBIDDEN (another user's
 *  socket), DEADLINE_EXCEEDED, PAYLOAD_TOO_LARGE. */
export interface ApiClient extends PolicyClient, TokenMethods {
  getHealth(): Promise<{ status: string }>;
  /** Resolves also when it is not ready: `status` and `reasons` say so. */
  getReadiness(): Promise<{ status: StatusView['status']; reasons: string[] }>;
  /** Prometheus text. */
  getMetrics(): Promise<string>;
  getOpenapi(): Promise<unknown>;
  getStatus(options?: { deep?: boolean }): Promise<StatusView>;
  reload(): Promise<{ changed: string[]; needs_restart: string[] }>;
  /** Ends what earlier supervisors left and nothing needs; says what that was. */
  sweep(): Promise<SweepView>;
  /** Resolves when the stop has begun. */
  stop(options?: { drain_secs?: number }): Promise<void>;
  createSession(params: CreateSession): Promise<{ view: SessionView; created: boolean }>;
  listSessions(filter?: SessionFilter): Promise<SessionView[]>;
  getSession(ref: string): Promise<SessionView>;
  renameSession(ref: string, name: string): Promise<SessionView>;
  deleteSession(ref: string): Promise<void>;
  sendInput(ref: string, input: SendInput): Promise<InputAccepted>;
  interrupt(ref: string): Promise<SessionView>;
  suspend(ref: string): Promise<SessionView>;
  resume(ref: string): Promise<SessionView>;
  restart(ref: string): Promise<SessionView>;
  close(ref: string): Promise<SessionView>;
  fork(ref: string, options?: { at?: number; name?: string }): Promise<SessionView>;
  readEvents(ref: string, options?: ReadEventsOptions): Promise<EventPage>;
  /** Replays from `since`, then live, across lost connections. Ends when the signal aborts;
   *  throws SESSION_NOT_FOUND once the session is deleted. */
  followEvents(
    ref: string,
    options?: Omit<ReadEventsOptions, 'limit'> & FollowStreamOptions,
  ): AsyncIterable<EventEnvelope>;
  readAllEvents(options?: {
    cursor?: string;
    limit?: number;
  }): Promise<{ events: EventEnvelope[]; cursor: string }>;
  followAllEvents(
    options?: { cursor?: string } & FollowStreamOptions,
  ): AsyncIterable<{ event: EventEnvelope; cursor: string }>;
  /** Of one session (`system` too), or of all, in commit order. */
  exportJournal(options?: ExportJournalOptions): Promise<JournalPage>;
  /** Waits for hours, if it takes that long. */
  verifyJournal(ref?: string): Promise<JournalReport>;
  /** Writes a new file (absolute path) on the supervisor's machine; unix socket only. */
  backup(path: string): Promise<BackupView>;
  listApprovals(): Promise<ApprovalView[]>;
  resolveApproval(ref: string, callId: string, params: ResolveApproval): Promise<void>;
  /** Of one session, or of the whole supervisor. */
  listProcesses(ref?: string): Promise<ProcessView[]>;
  /** `range`: a Range header, as `bytes=0-1023`. The stream is the caller's to read. */
  openArtifact(ref: string, artifactId: string, range?: string): Promise<Artifact>;
}

export function createClient(options: ClientOptions): ApiClient {
  const clock = options.clock ?? realClock;
  const exchange = createExchange(options, clock, options.timeoutMs ?? 60_000);
  return {
    ...supervisorMethods(exchange),
    ...sessionMethods(exchange),
    ...actionMethods(exchange),
    ...eventMethods(exchange, clock),
    ...journalMethods(exchange),
    ...workMethods(exchange),
    ...policyMethods(exchange),
    ...createTokenMethods(exchange),
  };
}

type Methods<K extends keyof ApiClient> = Pick<ApiClient, K>;

const API = '/api/v1';

function sessionPath(ref: string, rest = ''): string {
  return `${API}/sessions/${encodeURIComponent(ref)}${rest}`;
}

/** The answer's JSON. Its shape is the route's: see the file head. */
async function readJson<T>(exchange: Exchange, request: ExchangeRequest): Promise<T> {
  const { text } = await exchange.readText(request);
  return JSON.parse(text) as T;
}

function supervisorMethods(
  exchange: Exchange,
): Methods<
  | 'getHealth'
  | 'getReadiness'
  | 'getMetrics'
  | 'getOpenapi'
  | 'getStatus'
  | 'reload'
  | 'sweep'
  | 'stop'
> {
  return {
    getHealth: () => readJson(exchange, { method: 'GET', path: '/healthz' }),
    getReadiness: () => readJson(exchange, { method: 'GET', path: '/readyz', alsoOk: [503] }),
    getMetrics: async () => (await exchange.readText({ method: 'GET', path: '/metrics' })).text,
    getOpenapi: () => readJson(exchange, { method: 'GET', path: '/openapi.json' }),
    getStatus: (options = {}) =>
      readJson(exchange, {
        method: 'GET',
        path: `${API}/status`,
        query: options.deep ? { deep: 'true' } : {},
      }),
    reload: () => readJson(exchange, { method: 'POST', path: `${API}/reload` }),
    sweep: () => readJson(exchange, { method: 'POST', path: `${API}/sweep` }),
    stop: async (options = {}) => {
      await exchange.readText({ method: 'POST', path: `${API}/stop`, body: options });
    },
  };
}

function sessionMethods(
  exchange: Exchange,
): Methods<
  'createSession' | 'listSessions' | 'getSession' | 'renameSession' | 'deleteSession' | 'sendInput'
> {
  return {
    createSession: async (params) => {
      const answer = await exchange.readText({
        method: 'POST',
        path: `${API}/sessions`,
        body: params,
      });
      const view = JSON.parse(answer.text) as SessionView;
      return { view, created: answer.head.statusCode === 201 };
    },
    listSessions: (filter = {}) =>
      readJson(exchange, {
        method: 'GET',
        path: `${API}/sessions`,
        query: {
          state: filter.state?.join(','),
          workspace: filter.workspace,
          name: filter.name,
          label: Object.entries(filter.labels ?? {}).map(([key, value]) => `${key}=${value}`),
        },
      }),
    getSession: (ref) => readJson(exchange, { method: 'GET', path: sessionPath(ref) }),
    renameSession: (ref, name) =>
      readJson(exchange, { method: 'PATCH', path: sessionPath(ref), body: { name } }),
    deleteSession: async (ref) => {
      await exchange.readText({ method: 'DELETE', path: sessionPath(ref) });
    },
    sendInput: (ref, input) =>
      readJson(exchange, { method: 'POST', path: sessionPath(ref, '/input'), body: input }),
  };
}

function actionMethods(
  exchange: Exchange,
): Methods<'interrupt' | 'suspend' | 'resume' | 'restart' | 'close' | 'fork'> {
  const act = (ref: string, action: string, body?: unknown): Promise<SessionView> =>
    readJson(exchange, { method: 'POST', path: sessionPath(ref, `/${action}`), body });
  return {
    interrupt: (ref) => act(ref, 'interrupt'),
    suspend: (ref) => act(ref, 'suspend'),
    resume: (ref) => act(ref, 'resume'),
    restart: (ref) => act(ref, 'restart'),
    close: (ref) => act(ref, 'close'),
    fork: (ref, options = {}) => act(ref, 'fork', options),
  };
}

function eventMethods(
  exchange: Exchange,
  clock: Clock,
): Methods<'readEvents' | 'followEvents' | 'readAllEvents' | 'followAllEvents'> {
  return {
    readEvents: async (ref, options = {}) => {
      const path = sessionPath(ref, '/events');
      const answer = await exchange.readText({ method: 'GET', path, query: toQuery(options) });
      return {
        events: JSON.parse(answer.text) as EventEnvelope[],
        next: Number(answer.head.headers['x-prx-next']),
        last_seq: Number(answer.head.headers['x-prx-last-seq']),
      };
    },
    followEvents: (ref, options = {}) => followSession(exchange, clock, { ref, options }),
    readAllEvents: async ({ cursor, limit } = {}) => {
      const query = { cursor, limit: limit?.toString() };
      const answer = await exchange.readText({ method: 'GET', path: `${API}/events`, query });
      return {
        events: JSON.parse(answer.text) as EventEnvelope[],
        cursor: String(answer.head.headers['x-prx-next-cursor']),
      };
    },
    followAllEvents: (options = {}) => followAll(exchange, clock, options),
  };
}

function toQuery(options: ReadEventsOptions): Record<string, string | undefined> {
  return {
    since: options.since?.toString(),
    limit: options.limit?.toString(),
    epoch: options.epoch?.toString(),
    types: options.types?.join(','),
  };
}

const SSE_HEADERS = { accept: 'text/event-stream' };

async function* followSession(
  exchange: Exchange,
  clock: Clock,
  args: { ref: string; options: Omit<ReadEventsOptions, 'limit'> & FollowStreamOptions },
): AsyncGenerator<EventEnvelope> {
  const { signal, onConnection, types } = args.options;
  let { since, epoch } = args.options;
  const connect = (): Promise<IncomingMessage> => {
    const position = toQuery({
      ...(since === undefined ? {} : { since }),
      ...(epoch === undefined ? {} : { epoch }),
      ...(types === undefined ? {} : { types }),
    });
    return exchange.open({
      method: 'GET',
      path: sessionPath(args.ref, '/events'),
      query: { ...position, follow: 'true' },
      headers: SSE_HEADERS,
      ...(signal === undefined ? {} : { signal }),
    });
  };
  for await (const frame of followFrames({ clock, signal, onConnection, connect })) {
    const event = JSON.parse(frame.data) as EventEnvelope;
    since = event.seq;
    epoch = event.epoch;
    yield event;
  }
}

async function* followAll(
  exchange: Exchange,
  clock: Clock,
  options: { cursor?: string } & FollowStreamOptions,
): AsyncGenerator<{ event: EventEnvelope; cursor: string }> {
  const { signal, onConnection } = options;
  let cursor = options.cursor;
  const connect = (): Promise<IncomingMessage> =>
    exchange.open({
      method: 'GET',
      path: `${API}/events`,
      query: { cursor, follow: 'true' },
      headers: SSE_HEADERS,
      ...(signal === undefined ? {} : { signal }),
    });
  for await (const frame of followFrames({ clock, signal, onConnection, connect })) {
    cursor = frame.id ?? cursor;
    yield { event: JSON.parse(frame.data) as EventEnvelope, cursor: cursor ?? '' };
  }
}

/** A large journal takes minutes; a supervisor that died closes the connection. */
const JOURNAL_TIMEOUT_MS = 12 * 3600 * 1000;

function journalMethods(exchange: Exchange): Methods<'exportJournal' | 'verifyJournal' | 'backup'> {
  return {
    exportJournal: ({ session, after, limit, aside } = {}) =>
      readJson(exchange, {
        method: 'GET',
        path: `${API}/journal`,
        query: {
          session,
          after: after?.toString(),
          limit: limit?.toString(),
          aside: aside ? 'true' : undefined,
        },
      }),
    verifyJournal: (session) =>
      readJson(exchange, {
        method: 'GET',
        path: `${API}/journal/verify`,
        query: { session },
        timeoutMs: JOURNAL_TIMEOUT_MS,
      }),
    backup: (path) =>
      readJson(exchange, {
        method: 'POST',
        path: `${API}/backup`,
        body: { path },
        timeoutMs: JOURNAL_TIMEOUT_MS,
      }),
  };
}

function workMethods(
  exchange: Exchange,
): Methods<'listApprovals' | 'resolveApproval' | 'listProcesses' | 'openArtifact'> {
  return {
    listApprovals: () => readJson(exchange, { method: 'GET', path: `${API}/approvals` }),
    resolveApproval: async (ref, callId, params) => {
      const path = sessionPath(ref, `/approvals/${encodeURIComponent(callId)}`);
      await exchange.readText({ method: 'POST', path, body: params });
    },
    listProcesses: (ref) =>
      readJson(exchange, {
        method: 'GET',
        path: ref === undefined ? `${API}/processes` : sessionPath(ref, '/processes'),
      }),
    openArtifact: async (ref, artifactId, range) => {
      const stream = await exchange.open({
        method: 'GET',
        path: sessionPath(ref, `/artifacts/${encodeURIComponent(artifactId)}`),
        ...(range === undefined ? {} : { headers: { range } }),
      });
      const byteCount = Number(stream.headers['content-length']);
      return { status: stream.statusCode ?? 0, byteCount, stream };
    },
  };
}
