/** A tool call runs at most once, and the journal's word on it is the world's: `ok` means that its
 *  mark is there, not started means that it is not. */

import {
  type EventOf,
  type History,
  type InjectedFault,
  ofType,
  type SessionFacts,
  type Violation,
  violate,
} from '../history.ts';
import type { FaultKind } from '../plan.ts';
import { EFFECTS_FILE, OUTPUT_FOLDER } from '../script.ts';

interface Call {
  readonly session: string;
  readonly id: string;
  readonly token: string | undefined;
  readonly requested: readonly EventOf<'tool.requested'>[];
  readonly asked: readonly EventOf<'approval.requested'>[];
  readonly answered: readonly EventOf<'approval.resolved'>[];
  readonly started: readonly EventOf<'tool.started'>[];
  readonly resolved: readonly EventOf<'effect.resolved'>[];
  readonly completed: readonly EventOf<'tool.completed'>[];
}

export function checkTools(history: History): readonly Violation[] {
  const calls = history.facts.flatMap(listCalls);
  return [
    ...calls.flatMap((call) => checkCall(call, history)),
    ...checkStrays(calls, history.effects),
    ...history.facts.flatMap(checkAnswered),
  ];
}

function listCalls({ session, known }: SessionFacts): readonly Call[] {
  const of = (id: string) => (event: { data: { call_id: string } }) => event.data.call_id === id;
  const requests = ofType(known, 'tool.requested');
  const ids = [...new Set(requests.map((event) => event.data.call_id))];
  return ids.map((id) => {
    const requested = requests.filter(of(id));
    return {
      session,
      id,
      token: findToken(requested[0]?.data.arguments),
      requested,
      asked: ofType(known, 'approval.requested').filter(of(id)),
      answered: ofType(known, 'approval.resolved').filter(of(id)),
      started: ofType(known, 'tool.started').filter(of(id)),
      resolved: ofType(known, 'effect.resolved').filter((event) => event.data.id === id),
      completed: ofType(known, 'tool.completed').filter(of(id)),
    };
  });
}

/** The mark that a call leaves, read from its arguments. */
function findToken(value: unknown): string | undefined {
  const text = JSON.stringify(value) ?? '';
  const shell = new RegExp(`echo (\\S+) >> ${EFFECTS_FILE}`).exec(text)?.[1];
  return shell ?? new RegExp(`"${OUTPUT_FOLDER}/([^"]+)"`).exec(text)?.[1];
}

function checkCall(call: Call, { effects, faults }: History): Violation[] {
  const { session, id, requested, asked, answered, started, resolved, completed, token } = call;
  const found: string[] = [];
  if (requested.length !== 1) found.push(`was requested ${requested.length} times`);
  if (completed.length !== 1) found.push(`has ${completed.length} tool.completed`);
  if (started.length > 1 + resolved.length) {
    found.push(`was started ${started.length} times, with ${resolved.length} words on why`);
  }
  if (started.length > 1 && requested[0]?.data.effect === 'write') found.push('ran again');
  if (answered.length !== asked.length) {
    found.push(`was put before a person ${asked.length} times and answered ${answered.length}`);
  }
  const isRefused = answered.some((event) => event.data.decision !== 'approve');
  if (isRefused && started.length > 0) found.push('was started although nobody approved it');
  const end = completed[0]?.data;
  if (end?.status === 'denied' && !isRefused && !isHit(completed[0], faults)) {
    found.push(`was denied by nobody: ${end.output}`);
  }
  found.push(...checkMark(call, token === undefined ? undefined : (effects.get(token) ?? 0)));
  const events = [...requested, ...answered, ...started, ...resolved, ...completed];
  return found.map((what) =>
    violate('tool at most once', `call ${id} ${what}`, { session, events }),
  );
}

/** A sandbox takes this long to start on a busy machine, ms. */
const START_MS = 10_000;

/** The sandbox of this call was killed as it started: nothing ran, and the call says so. */
function isHit(
  end: EventOf<'tool.completed'> | undefined,
  faults: readonly InjectedFault[],
): boolean {
  if (end === undefined || !end.data.output.includes('nothing ran')) return false;
  const atMs = Date.parse(end.time);
  const kinds: readonly FaultKind[] = ['kill host', 'kill call', 'fill disk'];
  return faults.some(
    ({ kind, fromMs, toMs }) => kinds.includes(kind) && fromMs <= atMs && toMs >= atMs - START_MS,
  );
}

/** @param marks  how often the call has acted; undefined: it leaves no mark */
function checkMark({ started, completed, token }: Call, marks: number | undefined): string[] {
  if (marks === undefined) return [];
  const status = completed[0]?.data.status ?? 'none';
  if (marks > 1) return [`acted ${marks} times (${token})`];
  if (status === 'ok' && marks !== 1) return [`is ok and has not acted (${token})`];
  const mayAct = started.length > 0 && status !== 'denied';
  return marks > 0 && !mayAct ? [`acted, yet its status is ${status} (${token})`] : [];
}

function checkStrays(calls: readonly Call[], effects: ReadonlyMap<string, number>): Violation[] {
  const known = new Set(calls.map((call) => call.token));
  return [...effects.keys()]
    .filter((token) => !known.has(token))
    .map((token) => violate('tool at most once', `'${token}' acted and is in no journal`));
}

/** In a turn that completed, every call that the model asked for has its result. */
function checkAnswered({ session, known }: SessionFacts): Violation[] {
  const ended = new Set<string>(ofType(known, 'tool.completed').map(({ data }) => data.call_id));
  const completed = ofType(known, 'turn.completed').filter(
    (event) => event.data.outcome === 'completed',
  );
  const turns = new Set(completed.map((event) => event.data.turn));
  return ofType(known, 'model.completed')
    .filter((event) => turns.has(event.turn ?? 0))
    .flatMap((event) =>
      event.data.message.tool_calls.flatMap((_, index) => {
        const id = `${event.turn}.${event.data.step}.${index + 1}`;
        if (ended.has(id)) return [];
        const message = `call ${id} has no end in a turn that completed`;
        return [violate('tool at most once', message, { session, events: [event] })];
      }),
    );
}
