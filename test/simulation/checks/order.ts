/** What may be written behind what: sequence, states, turns, inputs, generations. */
import { allowedTransitions, type SessionState } from '../../../protocol/states.ts';
import type { Row } from '../facts.ts';
import type { Report } from './check.ts';
import { dataOf, type Journal, ofType } from './journal.ts';

/** Judges a row by the journal before it. */
export function checkOrder(row: Row, journal: Journal, report: Report): void {
  const { session, seq, epoch, type } = row.event;
  const before = journal.session(session);
  const last = journal.whole(session).at(-1)?.event;
  if (seq !== (last?.seq ?? 0) + 1) report('sequence', `${session} ${seq} follows ${last?.seq}`);
  if (epoch < (last?.epoch ?? 0)) report('sequence', `${session} ${seq}: the epoch falls`);
  if (session === 'system') return;
  if (type === 'session.state') checkState(row, before, report);
  else if (type === 'turn.started') checkTurnStart(row, journal, report);
  else if (type === 'turn.completed') checkTurnEnd(row, journal, report);
  else if (type === 'input.steered') checkSteered(row, before, report);
  else if (type === 'worker.started') checkGeneration(row, before, report);
  checkTurnIsOpen(row, journal, report);
}

function checkState(row: Row, before: readonly Row[], report: Report): void {
  const { from, to } = dataOf(row, 'session.state');
  const last = ofType(before, 'session.state').at(-1);
  const state: SessionState = last === undefined ? 'created' : dataOf(last, 'session.state').to;
  const { session, seq } = row.event;
  if (state !== from) report('states', `${session} ${seq}: from ${from}, but it is ${state}`);
  if (!allowedTransitions[from].includes(to))
    report('states', `${session} ${seq}: ${from} → ${to}`);
}

const inputOf = (row: Row): string => (row.event.data as { input_id: string }).input_id;

function checkTaken(row: Row, before: readonly Row[], report: Report): void {
  const input = inputOf(row);
  const { session, seq, type } = row.event;
  const mine = before.filter(
    (each) => (each.event.data as Partial<{ input_id: string }>)?.input_id === input,
  );
  if (ofType(mine, 'input.accepted').length !== 1) {
    report('inputs exactly once', `${session} ${seq}: ${type} of ${input}, which was not accepted`);
  }
  if (ofType(mine, 'turn.started', 'input.steered').length > 0) {
    report('inputs exactly once', `${session} ${seq}: ${type} takes ${input} a second time`);
  }
}

function checkSteered(row: Row, before: readonly Row[], report: Report): void {
  checkTaken(row, before, report);
}

function checkTurnStart(row: Row, journal: Journal, report: Report): void {
  const before = journal.session(row.event.session);
  checkTaken(row, before, report);
  const { session, seq } = row.event;
  const { turn } = dataOf(row, 'turn.started');
  const last = ofType(before, 'turn.started', 'turn.completed').at(-1);
  if (last?.event.type === 'turn.started') {
    report('one turn at a time', `${session} ${seq}: turn ${turn} starts in an open turn`);
  }
  // A fork counts on behind the turns that it took over.
  const [newest] = ofType(journal.whole(session), 'turn.started').slice(-1);
  const earlier = newest?.event.turn ?? 0;
  if (turn !== earlier + 1) {
    report('one turn at a time', `${session} ${seq}: turn ${turn} follows ${earlier}`);
  }
}

function checkTurnEnd(row: Row, journal: Journal, report: Report): void {
  const { session, seq, turn = 0 } = row.event;
  const own = journal.turn(session, turn);
  const [start] = ofType(own, 'turn.started');
  if (start === undefined || inputOf(start) !== inputOf(row)) {
    report('inputs exactly once', `${session} ${seq}: the end of a turn that did not start so`);
  }
  if (ofType(own, 'turn.completed').length > 0) {
    report('inputs exactly once', `${session} ${seq}: turn ${turn} ends a second time`);
  }
  checkOutcome(row, own, report);
  const effects = new Set(own.flatMap(({ effect }) => effect ?? []));
  for (const effect of effects) {
    const rows = journal.effect(session, effect);
    const started = ofType(rows, 'model.started', 'tool.started').length;
    const isEnded =
      ofType(rows, 'tool.completed', 'model.completed').length > 0 ||
      ofType(rows, 'model.failed').some(
        (each) => dataOf(each, 'model.failed').retry_in_ms === null,
      );
    const failed = ofType(rows, 'model.failed').length;
    // Between two attempts a turn may be interrupted: nothing of the call runs then.
    if (started > 0 && !isEnded && failed !== started) {
      report(
        'effects end',
        `${session} ${seq}: turn ${turn} ends, its effect ${effect} has no end`,
      );
    }
  }
}

/** A turn ends so only for a reason that stands in the journal. */
function checkOutcome(row: Row, own: readonly Row[], report: Report): void {
  const { session, seq, turn } = row.event;
  const { outcome, reason } = dataOf(row, 'turn.completed');
  const isStopped = ofType(own, 'interrupt.accepted').length > 0 || reason === 'closed';
  const isAnswered = ofType(own, 'model.completed').some(
    (each) => dataOf(each, 'model.completed').message.tool_calls.length === 0,
  );
  const isKilled = ofType(own, 'input.quarantined').length > 0;
  const isFailed = ofType(own, 'model.failed').length > 0;
  const hasReason =
    outcome === 'completed'
      ? isAnswered
      : outcome === 'failed'
        ? isKilled || isFailed
        : (outcome !== 'interrupted' && outcome !== 'timeout') || isStopped;
  if (!hasReason) report('outcomes', `${session} ${seq}: turn ${turn} ends as ${outcome}: why?`);
}

/** No effect of a turn is written before its start or behind its end. (A tombstone may come behind
 *  the end it was too late for; it stops nothing.) */
function checkTurnIsOpen(row: Row, journal: Journal, report: Report): void {
  const { session, seq, turn, type } = row.event;
  if (turn === undefined || (row.effect === undefined && type !== 'input.steered')) return;
  const own = journal.turn(session, turn);
  const isOpen =
    ofType(own, 'turn.started').length > 0 && ofType(own, 'turn.completed').length === 0;
  if (!isOpen) report('one turn at a time', `${session} ${seq}: ${type} in turn ${turn}, not open`);
}

function checkGeneration(row: Row, before: readonly Row[], report: Report): void {
  const { generation } = dataOf(row, 'worker.started');
  const highest = Math.max(
    0,
    ...ofType(before, 'worker.started').map((each) => dataOf(each, 'worker.started').generation),
  );
  if (generation > highest) return;
  const { session, seq } = row.event;
  report('one worker', `${session} ${seq}: generation ${generation} is not above ${highest}`);
}
