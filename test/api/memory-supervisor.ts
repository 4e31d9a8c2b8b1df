/** A supervisor of the api tests: the whole face over lists in memory. It stands in for the real
 *  one, which needs processes and a disk, because what is tested here is the mapping: requests to
 *  calls, results and errors to answers. It is a working implementation (events are numbered,
 *  replayed and followed), not a mock: nothing is told beforehand what it will be asked. */
import { type ErrorCode, PrxError } from '../../base/errors.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type EffectId, inputIdSchema, type SessionId } from '../../protocol/ids.ts';
import type { ExplainPolicy } from '../../protocol/policy-view.ts';
import type {
  CreateSession,
  ResolveApproval,
  SendInput,
  SessionView,
  StatusView,
} from '../../protocol/resources.ts';
import type { FollowOptions, ListFilter, Supervisor } from '../../supervisor/index.ts';
import { createStatus, createView, STAMP } from './views.ts';

interface Entry {
  view: SessionView;
  readonly events: EventEnvelope[];
  firstSeq: number;
  isDeleted: boolean;
}

interface FollowFrom {
  readonly at: number;
  readonly signal: AbortSignal;
  isOver(): boolean;
}

type ReadOptions = Parameters<Supervisor['readEvents']>[1];

export class MemorySupervisor implements Supervisor {
  /** What was asked, as `name(arguments)`, in order. */
  readonly calls: string[] = [];
  /** Events handed to followers so far: what a slow reader must keep small. */
  pulledCount = 0;
  /** Streams that were opened and have not ended. */
  followerCount = 0;
  health: StatusView['status'] = 'ok';
  artifactPath = '';
  readonly #entries = new Map<string, Entry>();
  readonly #log: EventEnvelope[] = [];
  readonly #keys = new Map<string, string>();
  readonly #waiters = new Set<() => void>();
  #sessionCount = 0;
  #failures: unknown[] = [];

  /** The next call of any method throws. */
  failNext(error: unknown): void {
    this.#failures.push(error);
  }

  /** Forgets events before this one, as retention does. */
  retainFrom(ref: string, seq: number): void {
    this.#find(ref).firstSeq = seq;
  }

  append(ref: string, type: string, data: unknown): EventEnvelope {
    const entry = this.#find(ref);
    const seq = entry.events.length + 1;
    const event = { session: entry.view.id, seq, epoch: 1, time: STAMP, type, data };
    entry.events.push(event);
    entry.view = { ...entry.view, last_seq: seq };
    this.#log.push(event);
    this.#wake();
    return event;
  }

  async createSession(params: CreateSession, by: string) {
    this.#note('createSession', params, by);
    const key = params.idempotency_key;
    const before = key === undefined ? undefined : this.#keys.get(key);
    if (before !== undefined) return { view: this.#find(before).view, created: false };
    const { name, labels = {}, agent = 'default' } = params;
    const view = this.#add({ agent, labels, ...(name === undefined ? {} : { name }) });
    if (key !== undefined) this.#keys.set(key, view.id);
    return { view, created: true };
  }

  listAgents() {
    return [{ name: 'default' }, { name: 'reviewer' }];
  }

  async listSessions(filter: ListFilter) {
    this.#note('listSessions', filter);
    return [...this.#entries.values()].map(({ view }) => view).toReversed();
  }

  async getSession(ref: string) {
    this.#note('getSession', ref);
    return this.#find(ref).view;
  }

  async deleteSession(ref: string, by: string) {
    this.#note('deleteSession', ref, by);
    const entry = this.#find(ref);
    entry.isDeleted = true;
    this.#entries.delete(entry.view.id);
    this.#wake();
  }

  async renameSession(ref: string, name: string) {
    this.#note('renameSession', ref, name);
    return this.#change(ref, { name });
  }

  async acceptInput(ref: string, params: SendInput, by: string) {
    const size = params.text?.length ?? 0;
    this.#note('acceptInput', ref, size > 1000 ? { characters: size } : params, by);
    const told = { input_id: 'in_1', source: by, content: [], on_busy: 'enqueue' };
    const event = this.append(ref, 'input.accepted', told);
    return { input_id: inputIdSchema.parse('in_1'), seq: event.seq, duplicate: false };
  }

  async interrupt(ref: string, by: string) {
    this.#note('interrupt', ref, by);
    return this.#change(ref, { activity: 'idle' });
  }

  async suspend(ref: string, by: string) {
    this.#note('suspend', ref, by);
    return this.#change(ref, { state: 'suspended' });
  }

  async resume(ref: string, by: string) {
    this.#note('resume', ref, by);
    return this.#change(ref, { state: 'running' });
  }

  async restart(ref: string, by: string) {
    this.#note('restart', ref, by);
    return this.#change(ref, { restarts: 1 });
  }

  async close(ref: string, by: string) {
    this.#note('close', ref, by);
    return this.#change(ref, { state: 'stopped' });
  }

  async fork(ref: string, at: number | undefined, name: string | undefined) {
    this.#note('fork', ref, at, name);
    this.#find(ref);
    return this.#add(name === undefined ? {} : { name });
  }

  async readEvents(ref: string, { since, limit, types, epoch }: ReadOptions) {
    this.#note('readEvents', ref, { since, limit, types, epoch });
    const entry = this.#find(ref);
    checkCursor(entry, since);
    const events = entry.events
      .slice(since)
      .filter((event) => types?.includes(event.type) ?? true)
      .slice(0, limit);
    return { events, next: events.at(-1)?.seq ?? since, last_seq: entry.events.length };
  }

  async followEvents(ref: string, { since, types, epoch, signal }: FollowOptions) {
    this.#note('followEvents', ref, { since, types, epoch });
    const entry = this.#find(ref);
    checkCursor(entry, since);
    const isOver = (): boolean => entry.isDeleted;
    const all = this.#follow(entry.events, { at: since, signal, isOver });
    return types === undefined ? all : pick(all, (event) => types.includes(event.type));
  }

  async readAllEvents(cursor: string | undefined, limit: number) {
    this.#note('readAllEvents', cursor, limit);
    const at = toIndex(cursor);
    const events = this.#log.slice(at, at + limit);
    return { events, cursor: toCursor(at + events.length) };
  }

  async *followAll(cursor: string | undefined, signal: AbortSignal) {
    this.#note('followAll', cursor);
    let at = toIndex(cursor);
    for await (const event of this.#follow(this.#log, { at, signal, isOver: () => false })) {
      at += 1;
      yield { event, cursor: toCursor(at) };
    }
  }

  async listApprovals() {
    this.#note('listApprovals');
    return [];
  }

  async resolveApproval(ref: string, callId: EffectId, params: ResolveApproval, by: string) {
    this.#note('resolveApproval', ref, callId, params, by);
    this.#find(ref);
  }

  async explainPolicy(asked: ExplainPolicy) {
    this.#note('explainPolicy', asked);
    const { tool, agent = 'default' } = asked;
    const parts = [{ decision: 'allow' as const, rule: 'r' }];
    const verdict = { decision: 'allow' as const, by: 'policy', rule: 'r', level: 'none', parts };
    return { ...verdict, tool, agent, covers: [] };
  }

  async listKeptRules() {
    this.#note('listKeptRules');
    return [];
  }

  async removeKeptRule(id: string, by: string) {
    this.#note('removeKeptRule', id, by);
  }

  async readLink(token: string) {
    this.#note('readLink', token);
    if (token === 'spent') throw new PrxError('APPROVAL_RESOLVED', 'the link is used up');
    const times = { requested_at: STAMP, expires_at: STAMP };
    const call = { call_id: '1.1.1' as EffectId, tool: 'shell', arguments: { command: '<b>' } };
    return { session: 's_0123456789abcdef' as SessionId, ...call, digest: 'd', ...times };
  }

  async answerLink(token: string, decision: 'approve' | 'deny') {
    this.#note('answerLink', token, decision);
  }

  async listProcesses(ref: string | undefined) {
    this.#note('listProcesses', ref);
    return [{ kind: 'supervisor' as const, pid: 1, started_at: STAMP }];
  }

  async findArtifact(ref: string, artifactId: string) {
    this.#note('findArtifact', ref, artifactId);
    return { path: this.artifactPath, session: this.#find(ref).view.id };
  }

  async exportJournal(ref: string | undefined, options: object) {
    this.#note('exportJournal', ref, options);
    return { events: [], next: null };
  }

  async verifyJournal(ref: string | undefined) {
    this.#note('verifyJournal', ref);
    return { sessions: 1, events: 2, problems: [{ session: 'system', seq: 1, problem: 'p' }] };
  }

  async backup(path: string) {
    this.#note('backup', path);
    const counts = { bytes: 1, epoch: 1, sessions: 1, events: 2, files: 0, file_bytes: 0 };
    return { path, created_at: STAMP, heads_sha256: 'x', problems: [], ...counts };
  }

  async status(deep: boolean) {
    this.#note('status', deep);
    return createStatus(this.health);
  }

  async reload() {
    this.#note('reload');
    return { changed: ['agent.model'], needs_restart: [] };
  }

  async sweep() {
    this.#note('sweep');
    return { killed: [{ kind: 'worker' as const, pid: 7 }], removed: [], forgotten: 1 };
  }

  async requestStop(drainMs: number, by: string) {
    this.#note('requestStop', drainMs, by);
  }

  async metrics() {
    this.#note('metrics');
    return 'prx_sessions 1\n';
  }

  #note(name: string, ...args: readonly unknown[]): void {
    this.calls.push(`${name}(${args.map((arg) => JSON.stringify(arg) ?? '-').join(', ')})`);
    const [failure] = this.#failures.splice(0, 1);
    if (failure !== undefined) throw failure;
  }

  #find(ref: string): Entry {
    for (const entry of this.#entries.values()) {
      if (entry.view.id === ref || entry.view.name === ref) return entry;
    }
    throw new PrxError('SESSION_NOT_FOUND', `no session matches '${ref}'`);
  }

  #change(ref: string, changes: Partial<SessionView>): SessionView {
    const entry = this.#find(ref);
    entry.view = { ...entry.view, ...changes };
    return entry.view;
  }

  #add(changes: Partial<SessionView>): SessionView {
    this.#sessionCount += 1;
    const view = createView(this.#sessionCount, changes);
    this.#entries.set(view.id, { view, events: [], firstSeq: 1, isDeleted: false });
    this.append(view.id, 'session.created', { agent: view.agent });
    return this.#find(view.id).view;
  }

  async *#follow<T>(list: readonly T[], from: FollowFrom): AsyncGenerator<T> {
    this.followerCount += 1;
    try {
      for (let index = from.at; !from.signal.aborted && !from.isOver(); ) {
        const item = list[index];
        if (item === undefined) {
          await this.#changed(from.signal);
          continue;
        }
        index += 1;
        this.pulledCount += 1;
        yield item;
      }
    } finally {
      this.followerCount -= 1;
      this.#wake();
    }
  }

  /** Resolves at the next change of anything, or when the signal aborts. */
  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#waiters.add(resolve);
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  /** Resolves once no stream is followed any more. */
  async unfollowed(): Promise<void> {
    while (this.followerCount > 0) await this.#changed(new AbortController().signal);
  }

  #wake(): void {
    const all = [...this.#waiters];
    this.#waiters.clear();
    for (const resolve of all) resolve();
  }
}

function checkCursor(entry: Entry, since: number): void {
  const lastSeq = entry.events.length;
  if (since > lastSeq) throw cursorError('CURSOR_SUPERSEDED', { epoch: 1, last_good_seq: lastSeq });
  if (since + 1 >= entry.firstSeq) return;
  throw cursorError('CURSOR_GONE', { first_seq: entry.firstSeq });
}

function cursorError(code: ErrorCode, data: Readonly<Record<string, unknown>>): PrxError {
  return new PrxError(code, 'the cursor is not valid', { data });
}

async function* pick<T>(items: AsyncIterable<T>, fits: (item: T) => boolean): AsyncGenerator<T> {
  for await (const item of items) if (fits(item)) yield item;
}

function toCursor(index: number): string {
  return `c${index}`;
}

function toIndex(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  const digits = /^c(\d+)$/.exec(cursor)?.[1];
  if (digits !== undefined) return Number(digits);
  throw new PrxError('INVALID_REQUEST', `'${cursor}' is no cursor of this supervisor`);
}
