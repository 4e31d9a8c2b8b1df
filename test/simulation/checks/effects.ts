/** Effects: in the journal (reserve, end, attempts, tombstones, permissions) and in the world (what
 *  the provider was asked and what the sandbox ran). */
import type { Fact, Row } from '../facts.ts';
import type { Report } from './check.ts';
import { dataOf, type Journal, ofType } from './journal.ts';
import { checkTranscript } from './transcripts.ts';

/** Judges a row of an effect by the journal before it. */
export function checkEffectRow(row: Row, journal: Journal, report: Report): void {
  const { session, type } = row.event;
  const { effect } = row;
  if (effect === undefined) return;
  const past = journal.effect(session, effect);
  if (type === 'model.started' || type === 'tool.started') checkTombstone(row, journal, report);
  if (type === 'model.started') checkModelStart(row, past, report);
  else if (type === 'model.completed' || type === 'model.failed') checkModelEnd(row, past, report);
  else if (type === 'model.mismatched') {
    report('transcript', `${nameOf(row)}: a worker asked differently the second time`);
  } else if (type === 'model.delta') checkDelta(row, past, report);
  else if (type === 'tool.started') checkToolStart(row, past, report);
  else if (type === 'tool.completed' && ofType(past, 'tool.completed').length > 0) {
    report('effects end', `${session} ${effect} ends a second time`);
  }
}

const nameOf = (row: Row): string => `${row.event.session} ${row.event.seq} (${row.effect})`;

/** Nothing of a turn starts behind its tombstone. */
function checkTombstone(row: Row, journal: Journal, report: Report): void {
  const { session, turn = 0 } = row.event;
  if (ofType(journal.turn(session, turn), 'interrupt.accepted').length > 0) {
    report('tombstone', `${nameOf(row)}: ${row.event.type} behind the tombstone of its turn`);
  }
}

function checkModelStart(row: Row, past: readonly Row[], report: Report): void {
  const { attempt } = dataOf(row, 'model.started');
  const started = ofType(past, 'model.started');
  if (attempt !== started.length + 1) report('attempts', `${nameOf(row)}: attempt ${attempt}`);
  if (ofType(past, 'model.completed').length > 0) {
    report('attempts', `${nameOf(row)}: another attempt of a call that was answered`);
  }
  if (started.length === 0) return;
  const end = ofType(past, 'model.failed').at(-1);
  const failure = end === undefined ? undefined : dataOf(end, 'model.failed');
  if (failure?.attempt !== started.length || failure.retry_in_ms === null) {
    report('attempts', `${nameOf(row)}: attempt ${attempt} without a failure that allows it`);
  }
}

function checkModelEnd(row: Row, past: readonly Row[], report: Report): void {
  const { attempt } = row.event.data as { attempt: number };
  const ends = ofType(past, 'model.completed', 'model.failed');
  const isOpen = ofType(past, 'model.started').length === attempt;
  const isEnded = ends.some((each) => (each.event.data as { attempt: number }).attempt === attempt);
  if (!isOpen || isEnded) report('attempts', `${nameOf(row)}: end of attempt ${attempt}`);
}

/** Deltas belong to the open attempt and come once: their spool offsets rise. */
function checkDelta(row: Row, past: readonly Row[], report: Report): void {
  const { attempt, offset = 0 } = dataOf(row, 'model.delta');
  if (ofType(past, 'model.started').length !== attempt) {
    report('attempts', `${nameOf(row)}: a delta of attempt ${attempt}, which is not open`);
  }
  const before = ofType(past, 'model.delta')
    .map((each) => dataOf(each, 'model.delta'))
    .filter((each) => each.attempt === attempt)
    .at(-1);
  if (before !== undefined && offset !== 0 && offset <= (before.offset ?? 0)) {
    report('attempts', `${nameOf(row)}: a delta is told twice (offset ${offset})`);
  }
}

function checkToolStart(row: Row, past: readonly Row[], report: Report): void {
  const { attempt = 1 } = dataOf(row, 'tool.started');
  if (ofType(past, 'tool.completed').length > 0) {
    report('tools at most once', `${nameOf(row)}: started again behind its end`);
  }
  if (attempt !== ofType(past, 'tool.started').length + 1) {
    report('tools at most once', `${nameOf(row)}: attempt ${attempt}`);
  }
  if (attempt > 1) checkRerun(row, past, report);
  const [decided] = ofType(past, 'tool.decided');
  const decision = decided === undefined ? 'none' : dataOf(decided, 'tool.decided').decision;
  const isApproved = ofType(past, 'approval.resolved').some(
    (each) => dataOf(each, 'approval.resolved').decision === 'approve',
  );
  if (decision !== 'allow' && !(decision === 'ask' && isApproved)) {
    report('nothing without permission', `${nameOf(row)}: started, the decision is ${decision}`);
  }
}

function checkRerun(row: Row, past: readonly Row[], report: Report): void {
  const [requested] = ofType(past, 'tool.requested');
  const isWrite = requested === undefined || dataOf(requested, 'tool.requested').effect === 'write';
  const resolved = ofType(past, 'effect.resolved').filter((each) =>
    dataOf(each, 'effect.resolved').how.startsWith('re-run'),
  ).length;
  if (isWrite) report('tools at most once', `${nameOf(row)}: a writing call runs again`);
  if (resolved !== ofType(past, 'tool.started').length) {
    report('tools at most once', `${nameOf(row)}: it runs again and the journal does not say why`);
  }
}

type Ordered = Extract<Fact, { kind: 'ordered' }>;
type Requested = Extract<Fact, { kind: 'requested' }>;
type Executed = Extract<Fact, { kind: 'executed' }>;
type Ended = Extract<Fact, { kind: 'attempt.ended' }>;

/** The world's side of effects. */
export function createWorldCheck(journal: Journal, report: Report) {
  const requests = new Set<string>();
  const runs = new Set<string>();
  const ends = new Map<string, Ended>();

  /** The reserve of this attempt, which must be safe before anything is done. */
  function checkReserve(fact: Requested | Executed, type: 'model.started' | 'tool.started'): void {
    const { session, effect, attempt } = fact;
    // Ordered before that; nobody calls it back from a process that stands still.
    if (journal.isRemoved(session)) return;
    const rows = ofType(journal.effect(session, effect), type);
    const reserve = rows.find(
      (row) => ((row.event.data as { attempt?: number }).attempt ?? 1) === attempt,
    );
    const name = `${session} ${effect}#${attempt}`;
    if (reserve === undefined) report('durable before done', `${name} was not reserved`);
    else if (reserve.id > journal.syncedId()) {
      report('durable before done', `${name} was done before its reserve was synced`);
    }
  }

  return {
    /** Nothing is sent for an effect whose turn has its tombstone. */
    onOrdered({ session, effect }: Ordered): void {
      if (session === undefined) return;
      if (journal.isRemoved(session)) {
        report('removal', `${session} ${effect} is ordered, and its session is removed`);
      }
      const turn = Number(effect.split('.')[0]);
      const [tombstone] = ofType(journal.turn(session, turn), 'interrupt.accepted');
      if (tombstone === undefined || !journal.isKnown(tombstone)) return;
      report('tombstone', `${session} ${effect} is ordered behind the tombstone of its turn`);
    },
    onRequested(fact: Requested): void {
      const { session, effect, attempt } = fact;
      const name = `${session} ${effect}#${attempt}`;
      if (requests.has(name)) report('attempts', `the provider was asked twice for ${name}`);
      requests.add(name);
      checkReserve(fact, 'model.started');
      if (!journal.isRemoved(session)) checkTranscript(fact, journal, report);
    },
    onExecuted(fact: Executed): void {
      const name = `${fact.session} ${fact.effect}#${fact.attempt}`;
      if (runs.has(name)) report('tools at most once', `${name} ran twice`);
      runs.add(name);
      checkReserve(fact, 'tool.started');
    },
    onEnded(fact: Ended): void {
      ends.set(`${fact.session} ${fact.effect}#${fact.attempt}`, fact);
    },
    /** What was not safe may be gone. */
    onPowerLoss(): void {
      for (const [name, { isSafe }] of ends) if (!isSafe) ends.delete(name);
    },
    /** An answer that stands in its spool is never asked for again. */
    onRow(row: Row): void {
      if (row.event.type !== 'model.started' || row.effect === undefined) return;
      const { attempt } = dataOf(row, 'model.started');
      const name = `${row.event.session} ${row.effect}#${attempt - 1}`;
      if (ends.get(name)?.outcome.kind !== 'completed') return;
      report('attempts', `${name} was answered and spooled, and is asked for again`);
    },
    /** Unsynced spools may be gone with the power; a synced end is not. */
    end(): void {
      for (const row of ofType(journal.rows, 'model.completed')) {
        const { attempt } = dataOf(row, 'model.completed');
        const name = `${row.event.session} ${row.effect}#${attempt}`;
        if (!requests.has(name)) report('attempts', `${name} has an answer nobody was asked for`);
      }
      for (const row of ofType(journal.rows, 'tool.completed')) {
        const { status, call_id: call } = dataOf(row, 'tool.completed');
        const { session } = row.event;
        const started = ofType(journal.effect(session, call), 'tool.started').length;
        const ran = Array.from({ length: started }, (_, at) => `${session} ${call}#${at + 1}`);
        if (status === 'ok' && !ran.some((name) => runs.has(name))) {
          report('tools at most once', `${session} ${call} is ok and never ran`);
        }
      }
    },
  };
}
