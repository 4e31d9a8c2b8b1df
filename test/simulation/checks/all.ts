/** Every checker over one stream of facts. */
import { isDeepStrictEqual } from 'node:util';
import type { SessionRecord } from '../../../store/contract.ts';
import { foldSession } from '../../../store/fold-session.ts';
import type { Fact } from '../facts.ts';
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

export function createChecks(restartAttempts = Number.POSITIVE_INFINITY): Checks {
  const violations: Violation[] = [];
  const report: Report = (check, message) => {
    if (violations.length < VIOLATIONS_MAX) violations.push({ check, message });
  };
  const journal = createJournal();
  const world = createWorldCheck(journal, report);
  const readers = createReaderCheck(journal, report);
  const processes = createProcessCheck(report);

  function hear(fact: Fact): void {
    switch (fact.kind) {
      case 'written':
        checkOrder(fact.row, journal, report);
        checkEffectRow(fact.row, journal, report);
        checkRestarts(fact.row, journal, restartAttempts, report);
        world.onRow(fact.row);
        return journal.add(fact.row);
      case 'synced':
        return journal.sync(fact.id);
      case 'lost':
        readers.onLost(fact.behindId);
        return journal.cut(fact.behindId);
      case 'opened':
        return readers.onOpened(fact.follower, fact.session, fact.since);
      case 'seen':
        return readers.onSeen(fact);
      case 'superseded':
        return readers.onSuperseded(fact.follower, fact.lastGoodSeq);
      case 'accepted':
        return readers.onAccepted(fact);
      case 'refused':
        return readers.onRefused(fact.session, fact.key);
      case 'requested':
        return world.onRequested(fact);
      case 'attempt.ended':
        return world.onEnded(fact);
      case 'executed':
        return world.onExecuted(fact);
      case 'process.bound':
        return processes.onBound(fact);
      case 'process.ended':
        return processes.onEnded(fact.pid);
      case 'survived':
        return processes.onSurvived(fact.pids);
      case 'projected':
        return checkProjection(fact.record, journal, report);
      case 'stuck':
        return report('liveness', `${fact.session}: ${fact.why}`);
      case 'crashed':
        return report('no crash', fact.message);
      case 'supervisor.started':
      case 'supervisor.ended':
      case 'process.started':
      case 'fault':
      case 'healed':
        return undefined;
    }
  }

  return {
    hear,
    seenBy: readers.seenBy,
    end() {
      world.end();
      readers.end();
      checkInputs(journal, report);
      return violations;
    },
  };
}

/** The live projection is the fold of the journal as far as it was published. */
function checkProjection(record: SessionRecord, journal: Journal, report: Report): void {
  let folded: SessionRecord | undefined;
  for (const { event } of journal.session(record.id).slice(0, record.last_seq)) {
    folded = foldSession(folded, event);
  }
  // What the store gave has no fields without a value, and an order of its own.
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
