/** Every checker over one stream of facts. */
import { isDeepStrictEqual } from 'node:util';
import type { SessionRecord } from '../../../store/contract.ts';
import { foldSession } from '../../../store/fold-session.ts';
import type { Fact, Row } from '../facts.ts';
import type { Report, Violation } from './check.ts';
import { checkEffectRow, createWorldCheck } from './effects.ts';
import { createJournal, dataOf, type Journal, ofType } from './journal.ts';
import { checkOrder } from './order.ts';
import { createProcessCheck } from './processes.ts';
import { createReaderCheck } from './readers.ts';
import { checkRestarts } from './restarts.ts';

export interface Checks {
  hear(fact: Fact): void;
  /** Number of events a follower has seen. */
  seenBy(follower: string): number;
  /** The last checks; all violations of the run. */
  end(): readonly Violation[];
}

const VIOLATIONS_MAX = 100;

export interface CheckSettings {
  /** Restarts the policy allows within its period. */
  readonly restartAttempts: number;
  /** Sessions that may have a worker at once. */
  readonly maxSessions: number;
}

/** @param nowMs  virtual time. */
export function createChecks(settings: CheckSettings, nowMs: () => number): Checks {
  const violations: Violation[] = [];
  const report: Report = (check, message) => {
    if (violations.length < VIOLATIONS_MAX) violations.push({ check, message });
  };
  const journal = createJournal(nowMs);
  const world = createWorldCheck(journal, report);
  const readers = createReaderCheck(journal, report);
  const processes = createProcessCheck(settings.maxSessions, nowMs, report);

  const lastId = (): number => journal.rows.at(-1)?.id ?? 0;
  const forgiven = new Map<string, number>();
  const ended = new Map<number, number>();
  const ignore = (): void => undefined;
  const hearers: { readonly [K in Fact['kind']]: (fact: Extract<Fact, { kind: K }>) => void } = {
    written({ row }) {
      checkOrder(row, journal, report);
      checkEffectRow(row, journal, report);
      const forgivenId = forgiven.get(row.event.session) ?? 0;
      const failedStarts = processes.failedStarts();
      const rules = { attempts: settings.restartAttempts, forgivenId, failedStarts, ended };
      checkRestarts(row, journal, rules, report);
      world.onRow(row);
      journal.add(row);
    },
    copied({ from, row }) {
      checkCopy(from, row, journal, report);
      journal.addCopy(row);
    },
    removed({ session }) {
      journal.remove(session);
      readers.onRemoved(session);
    },
    lost({ behindId }) {
      readers.onLost(behindId);
      world.onPowerLoss();
      journal.cut(behindId);
    },
    synced: ({ id }) => journal.sync(id),
    opened: ({ follower, session, since }) => readers.onOpened(follower, session, since),
    seen: readers.onSeen,
    superseded: ({ follower, lastGoodSeq }) => readers.onSuperseded(follower, lastGoodSeq),
    accepted: readers.onAccepted,
    refused: ({ session, key }) => readers.onRefused(session, key),
    forgiven: ({ session }) => void forgiven.set(session, lastId()),
    ordered: world.onOrdered,
    requested: world.onRequested,
    'attempt.ended': world.onEnded,
    executed: world.onExecuted,
    'process.bound': processes.onBound,
    'process.ended'(fact) {
      ended.set(fact.pid, lastId());
      processes.onEnded(fact);
    },
    'start.failed': processes.onStartFailed,
    survived: ({ pids }) => processes.onSurvived(pids),
    projected: ({ record }) => checkProjection(record, journal, report),
    stuck: ({ session, why }) => report('liveness', `${session}: ${why}`),
    crashed: ({ message }) => report('no crash', message),
    'supervisor.started': processes.onSupervisor,
    'supervisor.ended': processes.onSupervisor,
    'process.thawed': processes.onThawed,
    'process.started': ignore,
    fault: ({ fault }) => processes.onFault(fault),
    healed: ignore,
  };

  return {
    // The row of exactly this kind hears exactly this fact.
    hear: (fact) => (hearers[fact.kind] as (each: Fact) => void)(fact),
    seenBy: readers.seenBy,
    end() {
      world.end();
      readers.end();
      checkInputs(journal, report);
      return violations;
    },
  };
}

/** A fork says of its past what its original says of it. */
function checkCopy(from: string, { event }: Row, journal: Journal, report: Report): void {
  const original = journal.whole(from)[event.seq - 1]?.event;
  const { session, epoch } = event;
  if (isDeepStrictEqual({ ...original, session, epoch }, event)) return;
  report('fork', `${session} ${event.seq} is not what ${from} has there`);
}

/** The live projection is the fold of the journal as far as it was published. */
function checkProjection(record: SessionRecord, journal: Journal, report: Report): void {
  let folded: SessionRecord | undefined;
  for (const { event } of journal.whole(record.id).slice(0, record.last_seq)) {
    folded = foldSession(folded, event);
  }
  // What the store gave has no fields without a value, and an order of its own.
  if (journal.isRemoved(record.id)) return;
  if (isDeepStrictEqual(JSON.parse(JSON.stringify(folded)), JSON.parse(JSON.stringify(record))))
    return;
  report('projection', `${record.id} at ${record.last_seq} is not the fold of its journal`);
}

/** At the end every accepted input was taken once, and its turn has its one end. */
function checkInputs(journal: Journal, report: Report): void {
  for (const row of ofType(journal.rows, 'input.accepted')) {
    const { input_id: input } = dataOf(row, 'input.accepted');
    const { session } = row.event;
    const mine = journal
      .session(session)
      .filter(({ event }) => (event.data as Partial<{ input_id: string }>)?.input_id === input);
    const steered = ofType(mine, 'input.steered').length;
    const completed = ofType(mine, 'turn.completed').length;
    if (steered + completed === 1) continue;
    const message = `${session} ${input}: ${completed} ends of a turn, steered ${steered} times`;
    report('inputs exactly once', message);
  }
}
