/** Workers follow one another, one at a time; turns end as they were made to end; a session fails
 *  only where something gave it a reason to, and nothing here does. */
import { type History, ofType, type SessionFacts, type Violation, violate } from '../history.ts';

export function checkSessions(history: History): readonly Violation[] {
  return history.facts.flatMap((facts) => [
    ...checkGenerations(facts, history),
    ...checkOutcomes(facts, history),
    ...checkStates(facts),
  ]);
}

/** A start of the supervisor ends whatever came before it; and an end that fell into a full disk is
 *  not in the journal, because the dead are not kept among the living for want of space. */
function checkGenerations(
  { session, known }: SessionFacts,
  { startsMs, faults }: Pick<History, 'startsMs' | 'faults'>,
): Violation[] {
  const started = ofType(known, 'worker.started');
  const exited = ofType(known, 'worker.exited');
  return started.flatMap((event, at) => {
    const before = started[at - 1];
    if (before === undefined) return [];
    const { generation } = before.data;
    const events = [before, event];
    if (event.data.generation <= generation) {
      const message = `generation ${event.data.generation} follows ${generation}`;
      return [violate('one worker', message, { session, events })];
    }
    const [fromMs, toMs] = [Date.parse(before.time), Date.parse(event.time)];
    const isOver =
      exited.some((exit) => exit.data.generation === generation && exit.seq < event.seq) ||
      startsMs.some((ms) => ms > fromMs && ms < toMs) ||
      faults.some((each) => each.kind === 'fill disk' && each.fromMs < toMs && each.toMs > fromMs);
    if (isOver) return [];
    const message = `generation ${event.data.generation} started before ${generation} had ended`;
    return [violate('one worker', message, { session, events })];
  });
}

function checkOutcomes({ session, known }: SessionFacts, { faults }: History): Violation[] {
  const stops = new Set(ofType(known, 'interrupt.accepted').map((event) => event.turn));
  const closings = ofType(known, 'session.state').filter((event) => event.data.to === 'stopping');
  return ofType(known, 'turn.completed').flatMap((event) => {
    const { outcome, reason, error, turn } = event.data;
    const begun = ofType(known, 'turn.started').find((each) => each.data.turn === turn);
    // A turn that opened while its session was being closed has no tombstone of its own.
    const wasClosed = closings.some(({ seq }) => seq > (begun?.seq ?? 0) && seq < event.seq);
    const isAsked = outcome === 'interrupted' && (stops.has(turn) || wasClosed);
    if (outcome === 'completed' || isAsked) return [];
    const wasFull = faults.some(({ kind }) => kind === 'fill disk');
    if (wasFull && error?.code === 'STORE_DEGRADED') return [];
    const why =
      error === undefined ? (reason ?? 'no reason given') : `${error.code}, ${error.message}`;
    const message = `turn ${turn} ended as ${outcome} without a cause: ${why}`;
    return [violate('turn outcome', message, { session, events: [event] })];
  });
}

function checkStates({ session, known }: SessionFacts): Violation[] {
  return ofType(known, 'session.state')
    .filter((event) => event.data.to === 'failed')
    .map((event) => violate('session failed', event.data.reason, { session, events: [event] }));
}
