/** The parts of one open session, wired: journal, approvals, gate, worker, driver; and what each
 *  event of the journal means to them. Its commands are in session.ts. */
import { background } from '../../base/background.ts';
import { PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { SessionHistory } from '../../protocol/content.ts';
import type { EventData, EventEnvelope } from '../../protocol/events.ts';
import { parseEffectId } from '../../protocol/ids.ts';
import type { SessionRecord } from '../../store/contract.ts';
import { toSpentMs } from '../../store/index.ts';
import type { Host } from '../children/hosts.ts';
import type { AskHandlers } from '../children/workers.ts';
import type { AgentConfig } from '../config.ts';
import { type Approvals, createApprovals } from '../effects/approvals.ts';
import { decideCall } from '../effects/decision.ts';
import { createGate, type Gate } from '../effects/gate.ts';
import type { CustomGate, HostPort, Permission } from '../effects/ports.ts';
import type { McpSession } from '../mcp/pool.ts';
import { routeTools } from '../mcp/route.ts';
import { type Driver, startDriver } from './driver.ts';
import { createInputReader } from './input-reader.ts';
import { draft, openSessionJournal, type SessionJournal } from './journal.ts';
import { createSessionProcesses, type SessionProcesses } from './processes.ts';
import { createResident, type Resident } from './resident.ts';
import type { SessionDeps } from './session-deps.ts';
import { createTurnTime } from './turn-clock.ts';

export interface SessionParts {
  readonly journal: SessionJournal;
  readonly approvals: Approvals;
  readonly host: Host;
  readonly processes: SessionProcesses;
  readonly gate: Gate;
  readonly resident: Resident;
  readonly driver: Driver;
  /** Resolves at the next change of the state, or at a tombstone. */
  stateChanged(): Promise<void>;
  /** Those of `stateChanged` look again. */
  wakeWaiters(): void;
}

export function assembleSession(deps: SessionDeps, initial: SessionRecord): SessionParts {
  const { store, bus, clock } = deps;
  const { id, limits } = initial;
  const { wait: stateChanged, wake: wakeWaiters } = createWaiters();
  const agent = (): AgentConfig => deps.agent(initial.agent);
  const bufferSize = (): number => agent().streamBufferSize;
  const journal: SessionJournal = openSessionJournal({ store, bus, bufferSize }, initial, onRecord);
  const logger = deps.openLog(id, () => journal.record().turn);
  const mcp = deps.mcp(id);
  const approvals = openApprovals({ ...deps, logger }, journal, mcp);
  const record = (): SessionRecord => journal.record();
  const inputs = createInputReader(store, id);
  const processes = openProcesses({ ...deps, logger }, journal);
  const own = deps.createHost({ session: id, record, onNetwork, book: processes, logger });
  const host = withMcp(own, mcp);
  const current = toCurrentHost(host, deps.residentDeps.settings);
  const custom = withCheck(deps.custom, current, host);
  const gate: Gate = createGate(
    {
      ...deps.gateDeps,
      ...{ session: id, logger, journal },
      ...{ host: routeTools(current, mcp), mcp, custom },
      hasOrphanWriter: (effect) => deps.hasOrphanWriter(id, effect),
      cancelOrphan: (effect) => deps.cancelOrphan(id, effect),
      permission: () => toPermission(journal),
      permissionChanged,
      model: () => deps.model(journal.record()),
      parallelToolCalls: () => agent().parallelToolCalls,
      tools: () => [...agent().tools, ...mcp.names(agent()), ...custom.names(agent())],
      budget: () => deps.budget(limits),
    },
    approvals,
  );
  const time = createTurnTime({
    clock,
    limits: () => ({
      turnMs: toTimeoutMs(limits, agent().sessionTimeoutMs),
      progressMs: agent().progressTimeoutMs,
    }),
    earlier: toEarlier(initial, toTimeoutMs(limits, agent().sessionTimeoutMs)),
  });
  const resident = createResident({
    session: id,
    ...{ ...deps.residentDeps, journal, logger },
    asks: toAsks(gate, () => driver.onWaiting()),
    manifest: () => deps.manifest(journal.record()),
    readHistory: (signal) =>
      readHistory(deps, mcp, { agent: agent(), record: journal.record(), signal }),
    restart: () => deps.restartPolicy(agent()),
    spentMs: time.spentMs,
  });
  const driver: Driver = startDriver({
    session: id,
    ...{ clock, logger, journal, gate, resident, time },
    inputs,
    idleHibernateMs: () => agent().idleHibernateMs,
    ...{ host, isContended: deps.isContended },
  });
  background(processes.resume(), 'session.processes', logger);

  function onNetwork(data: EventData<'network.request'>): Promise<unknown> {
    const { call_id: effect } = data;
    const at = effect === undefined ? {} : { effect, turn: parseEffectId(effect).turn };
    return journal.append(draft('network.request', data, at));
  }

  function onRecord(record: SessionRecord, event: EventEnvelope): void {
    approvals.onEvent(event);
    inputs.onEvent(event);
    if (isProgress(event)) resident.onProgress();
    if (/^(model|tool|context)\./.test(event.type)) time.onProgress();
    if (event.type.startsWith('approval.')) driver.onWaiting();
    reconcile(record);
    if (event.type !== 'session.state' && event.type !== 'interrupt.accepted') return;
    wakeWaiters();
    driver.onState();
  }

  /** The state follows the pending approvals, also where a request and an answer crossed, or
   *  where a turn ended over its approvals. */
  function reconcile({ state, approvals: pending, open_turn: open }: SessionRecord): void {
    if (journal.state() !== state) return;
    const to =
      state === 'running' && pending.length > 0 && open !== undefined
        ? 'awaiting'
        : state === 'awaiting' && pending.length === 0
          ? 'running'
          : undefined;
    if (to === undefined) return;
    const reason = to === 'awaiting' ? 'an approval is pending' : 'no approval is pending';
    const changed = draft('session.state', { from: state, to, reason });
    background(journal.append(changed), 'session.reconcile', logger);
  }

  function permissionChanged(): Promise<void> {
    return journal.outstanding() > 0 ? journal.nextLanding() : stateChanged();
  }

  return { journal, approvals, host, processes, gate, resident, driver, stateChanged, wakeWaiters };
}

function createWaiters(): { wait(): Promise<void>; wake(): void } {
  let waiting: (() => void)[] = [];
  return {
    wait: () => new Promise((resolve) => waiting.push(resolve)),
    wake() {
      const woken = waiting;
      waiting = [];
      for (const resolve of woken) resolve();
    },
  };
}

/** What is on its way to the journal lets nothing start, and ends nothing either: a tombstone
 *  that cannot be written never was, and its turn goes on. */
function toPermission(journal: SessionJournal): Permission {
  const { state, open_turn: open } = journal.record();
  if (open?.interrupted === true || state === 'stopping' || state === 'stopped') return 'stop';
  const isGoing = [state, journal.state()].every((its) => its === 'running' || its === 'awaiting');
  return isGoing && !journal.isStopped() ? 'go' : 'wait';
}

function openApprovals(
  deps: SessionDeps & { readonly logger: Logger },
  journal: SessionJournal,
  mcp: McpSession,
): Approvals {
  const { store, clock, logger, gateDeps, custom } = deps;
  const { id: session } = journal.record();
  return createApprovals({
    ...{ session, journal, store, clock, logger },
    decide: (tool, value) => decideCall({ ...gateDeps, journal, mcp, custom }, tool, value),
    kept: gateDeps.kept,
    notify: (approval) => deps.notifyApproval(journal.record(), approval),
  });
}

function openProcesses(
  deps: SessionDeps & { readonly logger: Logger },
  journal: SessionJournal,
): SessionProcesses {
  const { gateDeps, clock, logger } = deps;
  const { id: session } = journal.record();
  return createSessionProcesses({
    ...{ session, journal, clock, logger },
    stateDir: gateDeps.stateDir,
    spools: gateDeps.spools,
    hasOrphanWriter: (effect) => deps.hasOrphanWriter(session, effect),
  });
}

/** What a worker that dies next did not do for nothing. */
function isProgress({ type }: EventEnvelope): boolean {
  return (
    type === 'model.completed' ||
    type === 'tool.completed' ||
    type === 'context.compacted' ||
    type === 'turn.completed'
  );
}

interface HistoryQuestion {
  readonly agent: AgentConfig;
  readonly record: SessionRecord;
  readonly signal: AbortSignal;
}

async function readHistory(
  { store }: SessionDeps,
  mcp: McpSession,
  { agent, record, signal }: HistoryQuestion,
): Promise<SessionHistory> {
  // The manifest, which comes next, names their tools.
  const ready = mcp.ready(agent, signal);
  if (ready !== undefined) await ready;
  // Before its first turn there is none, and the first prompt need not wait for a reader.
  return record.turn === 0 ? { turns: [] } : store.readHistory(record.id);
}

/** The session's own MCP servers go when its sandbox goes. */
function withMcp(host: Host, mcp: McpSession): Host {
  return {
    ...host,
    release() {
      host.release();
      mcp.retire();
    },
    retire() {
      host.retire();
      mcp.retire();
    },
  };
}

/** Policies that may come and go while one call gets its host. */
const REPLACED_MAX = 5;

/** A host that was started under earlier settings is let go before the next call, as soon as none
 *  runs in it. One of another policy is not worked beside: a call begins under the policy by which
 *  it was decided, or not. */
function toCurrentHost(host: Host, settings: () => unknown): HostPort {
  let startedUnder: unknown;

  async function letGo(): Promise<void> {
    host.retire();
    while (host.isOutdated()) {
      // What no longer fits its policy does not go on; what the change left alone does.
      await host.endProcesses('replaced');
      await host.nextEnd();
      host.retire();
    }
  }

  return {
    ...host,
    async prepare(tool) {
      for (let round = 1; round <= REPLACED_MAX; round += 1) {
        const now = settings();
        if (host.child() !== undefined && startedUnder !== now) await letGo();
        await host.prepare(tool);
        startedUnder = now;
        // One that was just being started may be of the policy of before.
        if (!host.isOutdated()) return;
        startedUnder = undefined;
      }
      const message = `the sandbox's policy changed ${REPLACED_MAX} times while it was started`;
      throw new PrxError('SANDBOX_UNAVAILABLE', message);
    },
  };
}

/** A check is for the host in which the call would run. */
function withCheck(
  custom: SessionDeps['custom'],
  current: Pick<HostPort, 'prepare'>,
  host: Pick<Host, 'check'>,
): CustomGate {
  return {
    ...custom,
    async check(tool, value) {
      await current.prepare(tool);
      return host.check(tool, value);
    },
  };
}

/** @param onAnswered hears each answer, once the gate holds the ask no longer. */
function toAsks(gate: Gate, onAnswered: () => void): AskHandlers {
  return {
    'turn/step': ({ turn, step }) => gate.nextStep(turn, step).finally(onAnswered),
    'model/generate': (ask) => gate.generate(ask).finally(onAnswered),
    'tool/call': (ask) => gate.callTool(ask).finally(onAnswered),
    'context/compact': async (record) => {
      await gate.compact(record.turn, record).finally(onAnswered);
      return {};
    },
  };
}

/** From the end of a turn's time to its tombstone in the journal, at most. */
const STOP_MS_MAX = 60_000;

/** What executed it last was seen by the newest event. A turn that had been executing for much
 *  longer than it may would have been ended: a clock was set ahead, and that does not count. */
function toEarlier({ open_turn: open, updated_at: at }: SessionRecord, limitMs: number) {
  if (open?.time === undefined) return undefined;
  const maxMs = limitMs === 0 ? Number.POSITIVE_INFINITY : limitMs + STOP_MS_MAX;
  const known = [toSpentMs(open.time, at), open.time.ms];
  return { turn: open.turn, spentMs: known.find((spentMs) => spentMs <= maxMs) ?? 0 };
}

function toTimeoutMs(limits: Readonly<Record<string, number>>, configuredMs: number): number {
  const own = limits['session_timeout_secs'];
  return own === undefined ? configuredMs : own * 1000;
}
