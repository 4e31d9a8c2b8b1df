/** The parts of one open session, wired: journal, approvals, gate, worker, driver; and what each
 *  event of the journal means to them. Its commands are in session.ts. */
import { background } from '../../base/background.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { SessionRecord } from '../../store/contract.ts';
import type { Host } from '../children/hosts.ts';
import type { AskHandlers } from '../children/workers.ts';
import { type Approvals, createApprovals } from '../effects/approvals.ts';
import { createGate, type Gate } from '../effects/gate.ts';
import type { Permission } from '../effects/ports.ts';
import { type Driver, startDriver } from './driver.ts';
import { createInputReader } from './input-reader.ts';
import { draft, openSessionJournal, type SessionJournal } from './journal.ts';
import { createResident, type Resident } from './resident.ts';
import type { SessionDeps } from './session-deps.ts';

export interface SessionParts {
  readonly journal: SessionJournal;
  readonly approvals: Approvals;
  readonly host: Host;
  readonly gate: Gate;
  readonly resident: Resident;
  readonly driver: Driver;
  /** Resolves at the next change of the state, or at a tombstone. */
  stateChanged(): Promise<void>;
}

export function assembleSession(deps: SessionDeps, initial: SessionRecord): SessionParts {
  const { store, bus, clock } = deps;
  const id = initial.id;
  let stateWaiters: (() => void)[] = [];
  const journal: SessionJournal = openSessionJournal({ store, bus }, initial, onRecord);
  const approvals: Approvals = createApprovals(journal, clock, deps.logger);
  const host = deps.createHost(id, () => journal.record());
  const agent = deps.agent(initial.agent);
  const limits = initial.limits;
  const gate: Gate = createGate(
    {
      ...deps.gateDeps,
      session: id,
      journal,
      host,
      hasOrphanWriter: (effect) => deps.hasOrphanWriter(id, effect),
      cancelOrphan: (effect) => deps.cancelOrphan(id, effect),
      permission,
      model: () => deps.model(journal.record()),
      tools: agent.tools,
      budget: () => deps.budget(limits),
    },
    approvals,
  );
  const resident = createResident({
    session: id,
    ...deps.residentDeps,
    journal,
    asks: toAsks(gate),
    manifest: () => deps.manifest(journal.record()),
    readHistory: () => store.readHistory(id),
    restart: () => deps.restartPolicy(agent),
  });
  const driver: Driver = startDriver({
    session: id,
    clock,
    logger: deps.logger,
    inputs: createInputReader(store, id),
    journal,
    gate,
    resident,
    turnTimeoutMs: () => toTimeoutMs(limits, agent.sessionTimeoutMs),
    idleHibernateMs: deps.idleHibernateMs,
    progressTimeoutMs: deps.progressTimeoutMs,
    isContended: deps.isContended,
    retireHost: () => host.retire(),
  });

  const stateChanged = (): Promise<void> =>
    new Promise((resolve) => {
      stateWaiters.push(resolve);
    });

  function onRecord(record: SessionRecord, event: EventEnvelope): void {
    approvals.onEvent(event);
    if (isProgress(event)) resident.onProgress();
    if (/^(model|tool|context)\./.test(event.type)) driver.onProgress();
    reconcile(record);
    if (event.type !== 'session.state' && event.type !== 'interrupt.accepted') return;
    const waiters = stateWaiters;
    stateWaiters = [];
    for (const resolve of waiters) resolve();
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
    background(journal.append(changed), 'session.reconcile', deps.logger);
  }

  async function permission(): Promise<Permission> {
    for (;;) {
      // Also what is under way counts: nothing is reserved behind a tombstone.
      if (journal.isStopped()) return 'stop';
      const state = journal.state();
      if (state === 'running' || state === 'awaiting') return 'go';
      if (state === 'stopping' || state === 'stopped') return 'stop';
      await stateChanged();
    }
  }

  return { journal, approvals, host, gate, resident, driver, stateChanged };
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

function toAsks(gate: Gate): AskHandlers {
  return {
    'turn/step': ({ turn, step }) => gate.nextStep(turn, step),
    'model/generate': (ask) => gate.generate(ask),
    'tool/call': (ask) => gate.callTool(ask),
    'context/compact': async (record) => {
      await gate.compact(record.turn, record);
      return {};
    },
  };
}

function toTimeoutMs(limits: Readonly<Record<string, number>>, configuredMs: number): number {
  const own = limits['session_timeout_secs'];
  return own === undefined ? configuredMs : own * 1000;
}
