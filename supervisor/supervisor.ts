/** The supervisor put together: sessions, gate, children and store behind one face. This file
 *  wires and maps; decisions live in the rooms it wires. */
import { createHash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { PrxError } from '../base/errors.ts';
import { removeTree } from '../base/remove-tree.ts';
import { type EventEnvelope, SYSTEM_SESSION } from '../protocol/events.ts';
import { createSessionId, type SessionId, sessionIdSchema } from '../protocol/ids.ts';
import type { JournalPage } from '../protocol/journal.ts';
import type { CreateSession, EventPage, SessionView } from '../protocol/resources.ts';
import type { JournalKey, ReadOptions, SessionRecord, Store } from '../store/contract.ts';
import { foldSession } from '../store/index.ts';
import { copyArtifacts } from './artifacts.ts';
import { findAgent } from './config.ts';
import { followSystem } from './follow-all.ts';
import type { FollowOptions, Supervisor } from './index.ts';
import { createPolicyFace } from './policy-face.ts';
import type { Runtime } from './runtime.ts';
import type { Session } from './sessions/session.ts';
import {
  checkWorkspace,
  copyPrivateWorkspace,
  createPrivateWorkspace,
  listHomes,
  workspaceOf,
} from './sessions/workspace.ts';
import { toApprovalViews, toSessionView } from './views.ts';

interface Created {
  readonly view: SessionView;
  readonly created: boolean;
}

interface NewSession {
  readonly id: SessionId;
  readonly agent: string;
  readonly workspace: string;
  readonly isPrivate: boolean;
}

interface NewFork {
  readonly from: SessionId;
  readonly seq: number;
  readonly to: SessionId;
  readonly name: string | undefined;
}

/** The face over a running composition. */
export function createSupervisor(runtime: Runtime): Supervisor {
  const { store, directory, bus } = runtime;

  const view = (record: SessionRecord): SessionView => {
    const fresh = directory.refresh(record);
    const shown = toSessionView(fresh, directory.find(record.id), runtime.shownModel(fresh));
    return { ...shown, workspace: workspaceOf(runtime.config().stateDir, fresh) };
  };

  async function command(
    ref: string,
    act: (session: Session) => Promise<unknown>,
  ): Promise<SessionView> {
    runtime.assertOpen();
    const session = await directory.open(ref);
    await act(session);
    return view(session.record());
  }

  async function create(params: CreateSession, by: string): Promise<Created> {
    runtime.assertOpen();
    const config = runtime.config();
    const { name: agent } = findAgent(config, params.agent);
    const id = createSessionId(runtime.random);
    if (params.workspace !== undefined) {
      const workspace = checkWorkspace(params.workspace, {
        stateDir: config.stateDir,
        roots: config.raw.security.sandbox.workspace_roots,
        homes: listHomes(),
      });
      return createIn({ id, agent, workspace, isPrivate: false }, params, by);
    }
    return runtime.folders.settle(id, () => {
      // Before the session is there: whoever dies in between leaves no session without its folder.
      const workspace = createPrivateWorkspace(config.stateDir, id);
      return createIn({ id, agent, workspace, isPrivate: true }, params, by);
    });
  }

  async function createIn(
    { id, agent, workspace, isPrivate }: NewSession,
    params: CreateSession,
    by: string,
  ): Promise<Created> {
    const discard = (): void => {
      if (isPrivate) removeTree(workspace);
    };
    const { idempotency_key: key } = params;
    const digest = toDigest(params);
    const events = creationEvents(id, { ...params, agent, workspace }, isPrivate, by);
    const unique = key === undefined ? {} : { unique: { scope: 'session', key, digest } };
    const result = await store.append({ events, ...unique }).catch((error: unknown) => {
      // Of a journal that failed it is not known what stands there.
      if (store.health().degraded === undefined) discard();
      throw error;
    });
    if (result.kind === 'duplicate') {
      discard();
      if (!result.sameDigest) {
        const message = `the idempotency key '${key}' was used for another session; use a new key`;
        throw new PrxError('IDEMPOTENCY_CONFLICT', message);
      }
      const earlier = await store.resolveSession(result.event.session);
      return { view: view(earlier), created: false };
    }
    // What the writer made of the same events; reading it back would cost a third of the creation.
    const record = result.events.reduce<SessionRecord | undefined>(foldSession, undefined);
    assert(record !== undefined, 'a session that was appended is there');
    runtime.hearChange();
    directory.openRecord(record);
    return { view: view(record), created: true };
  }

  /** Of a damaged session, which cannot be closed, only its whole id is sure. */
  function findDamaged(ref: string): SessionId | undefined {
    const { damaged } = store.health();
    return damaged.some(({ session }) => session === ref) ? sessionIdSchema.parse(ref) : undefined;
  }

  async function resolveJournal(ref: string): Promise<JournalKey> {
    return ref === SYSTEM_SESSION ? SYSTEM_SESSION : (await directory.resolve(ref)).id;
  }

  /** Damaged or not. `isGone`: it may be that only what was moved aside is left of it. */
  async function findJournal(ref: string, isGone: boolean): Promise<JournalKey> {
    if (ref === SYSTEM_SESSION) return SYSTEM_SESSION;
    const whole = sessionIdSchema.safeParse(ref);
    if (isGone && whole.success) return whole.data;
    return findDamaged(ref) ?? (await directory.resolve(ref)).id;
  }

  async function closeToRemove(ref: string, by: string, isOnlyStopped: boolean) {
    const session = await directory.open(ref);
    const { state } = session.record();
    if (isOnlyStopped && (state !== 'stopped' || session.isChanging())) {
      const message = `session ${session.id} is ${state}, or about to be opened again; it is kept`;
      throw new PrxError('STATE_INVALID', message, { data: { state } });
    }
    if (findDamaged(session.id) === undefined && state !== 'stopped' && state !== 'failed') {
      await session.close(by);
    }
    session.host.release();
    return session.id;
  }

  async function dropOpen(id: SessionId): Promise<void> {
    const open = directory.find(id);
    open?.host.release();
    directory.drop(id);
    // A damaged one was not closed: worker and slot are given back, whatever its journal takes.
    await open?.resident.leave('removed').catch(() => undefined);
  }

  async function remove(ref: string, by: string, isOnlyStopped = false): Promise<void> {
    runtime.assertOpen();
    const id = findDamaged(ref) ?? (await closeToRemove(ref, by, isOnlyStopped));
    await dropOpen(id);
    await runtime.folders.settle(id, async () => {
      await store.deleteSession(id);
      // Who asked for it in between has opened it again.
      await dropOpen(id);
      runtime.folders.remove(id);
    });
  }

  async function forkWithCopies(fork: NewFork, isPrivate: boolean): Promise<SessionRecord> {
    const { from, to } = fork;
    const { stateDir } = runtime.config();
    try {
      await copyArtifacts(stateDir, from, to);
      const workspace = isPrivate ? await copyPrivateWorkspace(stateDir, from, to) : undefined;
      return await forkAs(store, fork, workspace);
    } catch (error) {
      // As in a creation.
      if (store.health().degraded === undefined) runtime.folders.remove(to);
      // Removed meanwhile, it says so itself; what the copy missed of it says nothing.
      await store.resolveSession(from);
      throw error;
    }
  }

  /** A page, up to what is published. */
  async function readPage(id: JournalKey, options: ReadOptions): Promise<EventPage> {
    const page = await store.readEvents(id, options);
    const published = bus.publishedSeq(id) ?? page.last_seq;
    if (page.last_seq <= published) return page;
    const events = page.events.filter((event) => event.seq <= published);
    return { events, next: events.at(-1)?.seq ?? options.since, last_seq: published };
  }

  async function follow(
    ref: string,
    options: FollowOptions,
  ): Promise<AsyncIterable<EventEnvelope>> {
    const id = await resolveJournal(ref);
    const { since, epoch, types, signal } = options;
    // Checked before the stream starts, so that a bad cursor is an answer and not a broken stream.
    // The newest number of an open session is none; its epoch is asked of the journal.
    if (epoch !== undefined || since !== bus.publishedSeq(id)) {
      await readPage(id, { since, limit: 1, ...(epoch === undefined ? {} : { epoch }) });
    }
    const source = { read: (from: number, limit: number) => readPage(id, { since: from, limit }) };
    const events =
      id === SYSTEM_SESSION
        ? followSystem({ store, bus }, since, signal)
        : bus.follow(id, since, source, signal);
    return types === undefined ? events : filterTypes(events, types);
  }

  const approvals: Pick<Supervisor, 'listApprovals' | 'resolveApproval'> = {
    async listApprovals() {
      const records = await store.listSessions();
      return records.flatMap((record) => toApprovalViews(directory.refresh(record)));
    },
    async resolveApproval(ref, callId, params, by) {
      runtime.assertOpen();
      await (await directory.open(ref)).resolveApproval(callId, params, by);
    },
  };

  return {
    createSession: create,
    listAgents: () => [...runtime.config().agents.keys()].map((name) => ({ name })),
    async listSessions({ state, ...rest }) {
      const filter = { ...rest, ...(state === undefined ? {} : { states: state }) };
      return (await store.listSessions(filter)).map(view);
    },
    getSession: async (ref) => view(await directory.resolve(ref)),
    deleteSession: (ref, by, only) => remove(ref, by, only === 'stopped'),
    renameSession: (ref, name) => command(ref, (session) => session.rename(name)),
    async acceptInput(ref, params, by) {
      runtime.assertOpen();
      return (await directory.open(ref)).acceptInput(params, by);
    },
    interrupt: (ref, by) => command(ref, (session) => session.interrupt(by)),
    suspend: (ref, by) => command(ref, (session) => session.suspend(by)),
    resume: (ref, by) => command(ref, (session) => session.resume(by)),
    restart: (ref, by) => command(ref, (session) => session.restart(by)),
    close: (ref, by) => command(ref, (session) => session.close(by)),
    async fork(ref, at, name) {
      runtime.assertOpen();
      const source = await directory.resolve(ref);
      const id = createSessionId(runtime.random);
      const fork = { from: source.id, seq: at ?? source.last_seq, to: id, name };
      const isPrivate = source.private_workspace;
      const record = await runtime.folders.settle(id, () => forkWithCopies(fork, isPrivate));
      runtime.hearChange();
      return view(record);
    },
    async readEvents(ref, options) {
      return readPage(await resolveJournal(ref), options);
    },
    followEvents: follow,
    readAllEvents: (cursor, limit) => store.readAll(cursor, limit),
    followAll: (cursor, signal) => runtime.followAll(cursor, signal),
    ...approvals,
    ...createPolicyFace(runtime, approvals),
    async listProcesses(ref) {
      const id = ref === undefined ? undefined : (await directory.resolve(ref)).id;
      return runtime.listProcesses(id);
    },
    async findArtifact(ref, artifactId) {
      const { id } = await directory.resolve(ref);
      return { path: runtime.findArtifact(id, artifactId), session: id };
    },
    async exportJournal(ref, options) {
      const session = ref === undefined ? undefined : await findJournal(ref, options.aside);
      const page = await store.exportEvents({
        ...options,
        ...(session === undefined ? {} : { session }),
      });
      // The reader writes each line with these fields; see store/export.ts.
      return page as JournalPage;
    },
    async verifyJournal(ref) {
      const report = await store.verify(
        ref === undefined ? undefined : await findJournal(ref, false),
      );
      return { ...report, problems: [...report.problems] };
    },
    async backup(path) {
      const summary = await store.backup(path);
      return { ...summary, problems: [...summary.problems] };
    },
    status: (deep) => runtime.status(deep),
    reload: () => runtime.reload(),
    requestStop: (drainMs, by) => runtime.requestStop(drainMs, by),
    sweep: () => runtime.sweep(),
    metrics: () => runtime.metrics(),
  };
}

/** Of what is asked for: labels have no order. */
function toDigest({ idempotency_key: _key, ...meaning }: CreateSession): string {
  const { labels = {} } = meaning;
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const ordered = meaning.labels && { labels: Object.fromEntries(sorted) };
  return createHash('sha256')
    .update(JSON.stringify({ ...meaning, ...ordered }))
    .digest('hex');
}

/** @param workspace  its own; undefined: it works in the original's folder. */
function forkAs(
  store: Store,
  { from, seq, to, name }: NewFork,
  workspace: string | undefined,
): Promise<SessionRecord> {
  return store.forkSession(from, seq, to, {
    ...(name === undefined ? {} : { name }),
    ...(workspace === undefined ? {} : { workspace }),
  });
}

function creationEvents(
  session: SessionId,
  params: CreateSession & { agent: string; workspace: string },
  isPrivate: boolean,
  by: string,
) {
  const { name, model, labels, limits, approve } = params;
  const own = Object.entries(limits ?? {}).filter((entry) => entry[1] !== undefined);
  const created = {
    ...(name === undefined ? {} : { name }),
    agent: params.agent,
    ...(model === undefined ? {} : { model }),
    workspace: params.workspace,
    private_workspace: isPrivate,
    labels: labels ?? {},
    limits: Object.fromEntries(own),
    approve: approve ?? 'ask',
    source: by,
  };
  return [
    { session, type: 'session.created' as const, data: created },
    {
      session,
      type: 'session.state' as const,
      data: { from: 'created', to: 'starting', reason: `created by ${by}` },
    },
    {
      session,
      type: 'session.state' as const,
      data: { from: 'starting', to: 'running', reason: 'open for work' },
    },
  ];
}

async function* filterTypes(
  events: AsyncIterable<EventEnvelope>,
  types: readonly string[],
): AsyncGenerator<EventEnvelope> {
  for await (const event of events) if (types.includes(event.type)) yield event;
}
