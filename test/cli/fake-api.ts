/** A supervisor as the CLI sees one: the HTTP routes over a unix socket, with sessions in memory
 *  and events that the test writes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EventEnvelope } from '../../protocol/events.ts';

export interface FakeRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: unknown;
}

interface FakeSession {
  readonly view: Record<string, unknown> & { id: string };
  readonly events: EventEnvelope[];
  readonly followers: Set<(event: EventEnvelope) => void>;
}

interface Problem {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly data?: object;
}

export const SESSION = 's_0123456789abcdef';

type Body = Record<string, unknown>;

export class FakeApi {
  readonly stateDir = mkdtempSync(join(tmpdir(), 'prx-cli-'));
  readonly requests: FakeRequest[] = [];
  /** Answers these (`GET /path`) with a problem instead. */
  readonly problems = new Map<string, Problem>();
  /** Called after an input was accepted: what the agent then does. */
  onInput: ((sessionId: string, inputId: string, text: string) => void) | undefined;
  onInterrupt: ((sessionId: string) => void) | undefined;
  onDecision: ((callId: string, body: Body) => void) | undefined;
  approvals: unknown[] = [];
  /** Answers these (`GET /path`) with a value. */
  readonly answers = new Map<string, unknown>();
  readonly #sessions = new Map<string, FakeSession>();
  readonly #open = new Set<ServerResponse>();
  #inputCount = 0;
  readonly #server: Server = createServer((incoming, response) => {
    void readRequest(incoming).then((request) => {
      this.requests.push(request);
      this.#route(request, response);
    });
  });

  async listen(): Promise<this> {
    const path = join(this.stateDir, 'api.sock');
    await new Promise<void>((done) => this.#server.listen(path, done));
    return this;
  }

  addSession(id: string, extra: Body = {}): void {
    const view = { ...baseView(id), ...extra, id };
    this.#sessions.set(id, { view, events: [], followers: new Set() });
  }

  setView(id: string, patch: Body): void {
    Object.assign(this.#find(id).view, patch);
  }

  emit(id: string, type: string, data: unknown): void {
    const session = this.#find(id);
    const seq = session.events.length + 1;
    const time = '2026-01-02T03:04:05.000Z';
    const event = { session: id, seq, epoch: 1, time, type, data } as EventEnvelope;
    session.events.push(event);
    session.view['last_seq'] = seq;
    for (const follow of session.followers) follow(event);
  }

  /** Resolves once somebody follows a session. */
  async untilFollowed(): Promise<void> {
    while (this.#open.size === 0) await new Promise((next) => setImmediate(next));
  }

  /** Cuts the connections of everybody who follows. */
  cut(): void {
    for (const response of this.#open) response.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((done) => this.#server.close(done));
    rmSync(this.stateDir, { recursive: true, force: true });
  }

  #find(ref: string): FakeSession {
    const known = [...this.#sessions.values()];
    const found =
      ref === '@last'
        ? known.at(-1)
        : known.find(({ view }) => view.id.includes(ref) || view['name'] === ref);
    if (found === undefined) throw new Error(ref);
    return found;
  }

  #acceptInput(session: FakeSession, body: Body): unknown {
    const key = body['idempotency_key'];
    const earlier = session.events.find(
      ({ type, data }) =>
        key !== undefined && type === 'input.accepted' && (data as Body)['idempotency_key'] === key,
    );
    if (earlier !== undefined) {
      const { input_id } = earlier.data as Body;
      return { input_id, seq: earlier.seq, duplicate: true };
    }
    this.#inputCount += 1;
    const input_id = `in_${this.#inputCount}`;
    const text = String(body['text']);
    this.emit(session.view.id, 'input.accepted', {
      input_id,
      source: 'socket',
      content: [{ type: 'text', text }],
      on_busy: body['on_busy'] ?? 'enqueue',
      ...(key === undefined ? {} : { idempotency_key: key }),
    });
    const seq = session.events.length;
    // After the answer is on its way: a client must not depend on the order of the two.
    queueMicrotask(() => this.onInput?.(session.view.id, input_id, text));
    return { input_id, seq, duplicate: false };
  }

  #follow(session: FakeSession, request: FakeRequest, response: ServerResponse): void {
    const last = String(session.view['last_seq']);
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-prx-last-seq': last });
    response.flushHeaders();
    const types = request.query.get('types')?.split(',');
    const send = (event: EventEnvelope): void => {
      if (types !== undefined && !types.includes(event.type)) return;
      response.write(`id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`);
    };
    const since = Number(request.query.get('since') ?? 0);
    for (const event of session.events.filter((one) => one.seq > since)) send(event);
    session.followers.add(send);
    this.#open.add(response);
    response.on('close', () => {
      session.followers.delete(send);
      this.#open.delete(response);
    });
  }

  #page(session: FakeSession, request: FakeRequest, response: ServerResponse): void {
    const since = Number(request.query.get('since') ?? 0);
    const types = request.query.get('types')?.split(',');
    const limit = Number(request.query.get('limit') ?? 1000);
    const events = session.events
      .filter((one) => one.seq > since && (types?.includes(one.type) ?? true))
      .slice(0, limit);
    response.setHeader('x-prx-next', String(events.at(-1)?.seq ?? since));
    response.setHeader('x-prx-last-seq', String(session.events.length));
    answer(response, 200, events);
  }

  #routeSession(request: FakeRequest, response: ServerResponse) {
    const [, , , , ref = '', part = '', last = ''] = request.path.split('/');
    const session = this.#find(decodeURIComponent(ref));
    const body = (request.body ?? {}) as Body;
    const { id } = session.view;
    if (part === 'input') return answer(response, 202, this.#acceptInput(session, body));
    if (part === 'events') {
      const isLive = request.query.get('follow') === 'true';
      return isLive
        ? this.#follow(session, request, response)
        : this.#page(session, request, response);
    }
    if (part === 'approvals') {
      this.onDecision?.(last, body);
      return answer(response, 204, undefined);
    }
    if (part === 'processes') return answer(response, 200, []);
    if (part === 'interrupt') this.onInterrupt?.(id);
    if (request.method === 'PATCH') Object.assign(session.view, body);
    if (request.method === 'DELETE') {
      this.#sessions.delete(id);
      return answer(response, 204, undefined);
    }
    answer(response, 200, session.view);
  }

  #route(request: FakeRequest, response: ServerResponse) {
    const problem = this.problems.get(`${request.method} ${request.path}`);
    if (problem !== undefined) return sendProblem(response, problem);
    const given = this.answers.get(`${request.method} ${request.path}`);
    if (given !== undefined) return answer(response, 200, given);
    const views = [...this.#sessions.values()].map(({ view }) => view);
    switch (`${request.method} ${request.path}`) {
      case 'POST /api/v1/sessions':
        this.addSession(views.length === 0 ? SESSION : `s_${views.length}000000000000000`, {
          ...(request.body as Body),
        });
        return answer(response, 201, this.#find('@last').view);
      case 'GET /api/v1/sessions': {
        const state = request.query.get('state')?.split(',');
        const isWanted = (view: Body, key: string): boolean =>
          [null, view[key]].includes(request.query.get(key));
        const found = views.filter(
          (view) =>
            (state?.includes(String(view['state'])) ?? true) &&
            isWanted(view, 'workspace') &&
            isWanted(view, 'name'),
        );
        return answer(response, 200, found);
      }
      case 'GET /healthz':
        return answer(response, 200, { status: 'ok' });
      case 'GET /api/v1/status':
        return answer(response, 200, fakeStatus(this.stateDir));
      case 'POST /api/v1/reload':
        return answer(response, 200, { changed: ['log.level'], needs_restart: ['api.listen'] });
      case 'POST /api/v1/sweep':
        return answer(response, 200, {
          killed: [{ kind: 'sandbox', pid: 42 }],
          removed: ['run/sandbox-42.sock'],
          forgotten: 1,
        });
      case 'DELETE /api/v1/rules/r_1':
        return answer(response, 204, undefined);
      case 'GET /api/v1/approvals':
        return answer(response, 200, this.approvals);
      case 'GET /api/v1/events': {
        response.setHeader('x-prx-next-cursor', 'end');
        const isEnd = request.query.get('cursor') === 'end';
        const all = [...this.#sessions.values()].flatMap(({ events }) => events);
        return answer(response, 200, isEnd ? [] : all);
      }
    }
    try {
      this.#routeSession(request, response);
    } catch (error) {
      const detail = `no session '${(error as Error).message}'`;
      sendProblem(response, { status: 404, code: 'SESSION_NOT_FOUND', detail });
    }
  }
}

async function readRequest(incoming: IncomingMessage): Promise<FakeRequest> {
  let text = '';
  for await (const chunk of incoming) text += String(chunk);
  const url = new URL(incoming.url ?? '/', 'http://localhost');
  return {
    method: incoming.method ?? 'GET',
    path: url.pathname,
    query: url.searchParams,
    body: text === '' ? undefined : JSON.parse(text),
  };
}

function answer(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(value === undefined ? undefined : JSON.stringify(value));
}

function sendProblem(response: ServerResponse, problem: Problem): void {
  answer(response, problem.status, { type: 'about:blank', title: problem.code, ...problem });
}

function baseView(id: string): Record<string, unknown> & { id: string } {
  return {
    id,
    agent: 'default',
    model: 'test-model',
    workspace: '/w',
    labels: {},
    approve: 'ask',
    state: 'running',
    state_reason: 'open for work',
    activity: 'idle',
    residency: 'hibernated',
    generation: 0,
    created_at: '2026-01-02T03:04:05.000Z',
    updated_at: '2026-01-02T03:04:05.000Z',
    last_seq: 0,
    epoch: 1,
    turn: 0,
    queued_inputs: 0,
    pending_approvals: 0,
    usage: { input_tokens: 0, output_tokens: 0 },
    cost_usd: 0,
    restarts: 0,
  };
}

function fakeStatus(stateDir: string): unknown {
  return {
    status: 'ok',
    reasons: [],
    version: '9.9.9',
    pid: 1,
    started_at: '2026-01-02T03:04:05.000Z',
    state_dir: stateDir,
    socket: join(stateDir, 'api.sock'),
    epoch: 1,
    model: 'test-model',
    provider: 'offline',
    sandbox: { level: 'bubblewrap' },
    mcp: [
      {
        ...{ server: 'files', state: 'running', processes: 1, tools: 3, level: 'bubblewrap' },
        problems: ['"x" is listed twice'],
      },
    ],
    custom_tools: [
      { file: '/t/a.ts', tool: 'custom__a', effect: 'read' },
      { file: '/t/b.ts', problem: 'why' },
    ],
    worker_confinement: [],
    capacity: { max_concurrent_sessions: 8, resident: 0, queued: 0, warm: 0 },
    sessions: {},
  };
}
