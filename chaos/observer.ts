/** What is watched while a run goes on: open inputs of each session, and that no session has two
 *  live workers. Fed by the stream clients, so that it sees what clients see. */
import type { Clock } from '../base/clock.ts';
import { findIdentity, isAlive, type ProcessIdentity } from '../base/process.ts';
import { type EventEnvelope, parseEvent } from '../protocol/events.ts';

export interface Observer {
  onEvent(event: EventEnvelope): void;
  /** Inputs that were accepted and have no end yet, as far as was seen. */
  openInputs(session: string): number;
  /** The outcome of the input with this id, once it was seen. */
  outcomeOf(inputId: string): string | undefined;
  counts(): { readonly turns: number; readonly tools: number };
  /** Looks once for sessions with two workers; call it several times a second. */
  checkWorkers(): void;
}

/** A killed process is seen a moment longer; one without a supervisor may finish a line. */
const TWO_WORKERS_MS = 1500;

interface Seen {
  readonly open: Set<string>;
  workers: ProcessIdentity[];
  twoSinceMs: number | undefined;
  last: number;
}

export function createObserver(clock: Clock, onFinding: (message: string) => void): Observer {
  const sessions = new Map<string, Seen>();
  const outcomes = new Map<string, string>();
  let turns = 0;
  let tools = 0;

  const seenOf = (session: string): Seen => {
    const known = sessions.get(session);
    if (known !== undefined) return known;
    const fresh: Seen = { open: new Set(), workers: [], twoSinceMs: undefined, last: 0 };
    sessions.set(session, fresh);
    return fresh;
  };

  function end(seen: Seen, inputId: string, outcome: string): void {
    seen.open.delete(inputId);
    outcomes.set(inputId, outcome);
  }

  /** What a fork copied is not its own. */
  function forget(seen: Seen): void {
    seen.open.clear();
    seen.workers = [];
  }

  return {
    onEvent(envelope) {
      const seen = seenOf(envelope.session);
      // Several clients follow one session: what the first one brings counts.
      if (envelope.seq <= seen.last) return;
      seen.last = envelope.seq;
      const event = parseEvent(envelope);
      if (event?.type === 'session.created') forget(seen);
      else if (event?.type === 'input.accepted') seen.open.add(event.data.input_id);
      else if (event?.type === 'input.steered') end(seen, event.data.input_id, 'steered');
      else if (event?.type === 'turn.completed') {
        turns += event.data.outcome === 'completed' ? 1 : 0;
        end(seen, event.data.input_id, event.data.outcome);
      } else if (event?.type === 'tool.completed') tools += event.data.status === 'ok' ? 1 : 0;
      else if (event?.type === 'worker.started') {
        const identity = findIdentity(event.data.pid);
        if (identity !== undefined) seen.workers.push(identity);
      }
    },
    openInputs: (session) => seenOf(session).open.size,
    outcomeOf: (inputId) => outcomes.get(inputId),
    counts: () => ({ turns, tools }),
    checkWorkers() {
      for (const [session, seen] of sessions) {
        seen.workers = seen.workers.filter(isAlive);
        if (seen.workers.length < 2) {
          seen.twoSinceMs = undefined;
          continue;
        }
        seen.twoSinceMs ??= clock.nowMs();
        if (clock.nowMs() - seen.twoSinceMs < TWO_WORKERS_MS) continue;
        const pids = seen.workers.map(({ pid }) => pid).join(' and ');
        onFinding(`session ${session} has two live workers: ${pids}`);
        seen.workers = [];
      }
    },
  };
}
