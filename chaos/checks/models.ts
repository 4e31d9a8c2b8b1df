/** What the provider was asked for is what the journal says; one more attempt has a named fault
 *  behind it; and the text of an answer is that of one attempt, whole. */

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
import { type ProviderFault, parseTurnScript, type TurnScript } from '../script.ts';

/** One step of one turn. */
interface Step {
  readonly session: string;
  readonly script: TurnScript;
  readonly index: number;
  readonly started: readonly EventOf<'model.started'>[];
  readonly failed: readonly EventOf<'model.failed'>[];
  readonly completed: readonly EventOf<'model.completed'>[];
  readonly deltas: readonly EventOf<'model.delta'>[];
}

const CHECK = 'model call';

export function checkModels(history: History): readonly Violation[] {
  const steps = history.facts.flatMap(listSteps);
  return [
    ...steps.flatMap((step) => checkStep(step, history)),
    ...checkStrays(steps, history),
    ...checkTranscripts(history),
    ...history.facts.flatMap(({ session, known }) =>
      ofType(known, 'model.mismatched').map((event) =>
        violate(CHECK, 'a worker asked differently the second time', { session, events: [event] }),
      ),
    ),
  ];
}

function checkTranscripts({ requests }: History): Violation[] {
  return requests.flatMap(({ key, index, problems }) =>
    problems.map((problem) => violate('transcript', `step ${index} of ${key || '?'}: ${problem}`)),
  );
}

function listSteps({ session, known }: SessionFacts): readonly Step[] {
  const scripts = findScripts(known);
  const places = new Map<string, EventOf<'model.started'>[]>();
  for (const event of ofType(known, 'model.started')) {
    const place = `${event.turn}.${event.data.step}`;
    places.set(place, [...(places.get(place) ?? []), event]);
  }
  return [...places.values()].flatMap((started) => {
    const [first] = started;
    if (first === undefined) return [];
    const { turn = 0, data } = first;
    const active = scripts.filter((each) => each.turn === turn && each.from <= data.step).at(-1);
    if (active === undefined) return [];
    const here = (event: { turn?: number | undefined; data: { step: number } }): boolean =>
      event.turn === turn && event.data.step === data.step;
    return {
      session,
      script: active.script,
      index: data.step - active.from,
      started,
      failed: ofType(known, 'model.failed').filter(here),
      completed: ofType(known, 'model.completed').filter(here),
      deltas: ofType(known, 'model.delta').filter(here),
    };
  });
}

interface ActiveScript {
  readonly turn: number;
  /** From this step on it is what the model performs. */
  readonly from: number;
  readonly script: TurnScript;
}

/** The input of a turn is performed from its first step, one that steered it from there. */
function findScripts(known: SessionFacts['known']): readonly ActiveScript[] {
  const texts = new Map<string, TurnScript>();
  for (const { data } of ofType(known, 'input.accepted')) {
    const [part] = data.content;
    const script = part?.type === 'text' ? parseTurnScript(part.text) : undefined;
    if (script !== undefined) texts.set(data.input_id, script);
  }
  const begun = ofType(known, 'turn.started').map(({ data }) => ({ ...data, from: 1 }));
  const steered = ofType(known, 'input.steered').map(({ turn = 0, data }) => ({
    turn,
    input_id: data.input_id,
    from: data.step,
  }));
  return [...begun, ...steered].flatMap(({ turn, input_id, from }) => {
    const script = texts.get(input_id);
    return script === undefined ? [] : [{ turn, from, script }];
  });
}

function checkStep(step: Step, history: History): Violation[] {
  const { session, script, index, started, failed, completed } = step;
  const events = [...started, ...failed, ...completed].sort((one, other) => one.seq - other.seq);
  const requests = history.requests.filter(
    (each) => each.key === script.chaos && each.index === index,
  );
  const found = [
    ...checkAttempts(step),
    ...checkCounts(step, requests.length),
    ...failed.flatMap((event) => checkFailure(event, step, requests.length, history.faults)),
    ...checkText(step),
  ];
  return found.map((what) =>
    violate(CHECK, `step ${index} of ${script.chaos} ${what}`, { session, events }),
  );
}

function checkAttempts({ started, failed, completed }: Step): string[] {
  const found: string[] = [];
  for (const [at, { seq, data }] of started.entries()) {
    if (data.attempt !== at + 1) found.push(`has attempt ${data.attempt} in place ${at + 1}`);
    if (at === 0) continue;
    const before = failed.find((event) => event.data.attempt === at && event.seq < seq);
    if (before === undefined) found.push(`began attempt ${at + 1} before ${at} had failed`);
    else if (before.data.retry_in_ms === null) found.push(`went on after its last attempt, ${at}`);
  }
  if (completed.length > 1) found.push(`has ${completed.length} model.completed`);
  if (completed.length + failed.length !== started.length) {
    const ends = completed.length + failed.length;
    found.push(`has ${started.length} attempts and ${ends} ends`);
  }
  return found;
}

/** An attempt was certainly sent when the provider's own answer ended it; one that was reserved
 *  just before a death may not have been. */
function checkCounts({ started, failed, completed }: Step, requestCount: number): string[] {
  const ends = [...completed, ...failed.filter((event) => isProviders(event.data.error.code))];
  if (requestCount > started.length) {
    return [`was asked for ${requestCount} times; the journal has ${started.length} attempts`];
  }
  const least = ends.filter((event) => event.type !== 'model.completed' || !isCut(event)).length;
  if (requestCount >= least) return [];
  return [`was asked for ${requestCount} times; the journal has ${least} answers`];
}

const isCut = (event: EventOf<'model.completed'>): boolean =>
  event.data.finish_reason === 'cancelled';

const isProviders = (code: string): boolean =>
  code.startsWith('PROVIDER_') && !['PROVIDER_UNREACHABLE', 'PROVIDER_TIMEOUT'].includes(code);

/** Which fault of the model server shows as which error. */
const shownAs: Readonly<Record<string, readonly ProviderFault[]>> = {
  PROVIDER_RATE_LIMITED: ['rate_limit'],
  PROVIDER_REFUSED: ['overload'],
  PROVIDER_STREAM_BROKEN: ['cut', 'stall'],
  PROVIDER_TIMEOUT: ['stall'],
  // Cut before the head of the answer had left.
  PROVIDER_UNREACHABLE: ['cut', 'stall'],
};

/** Clocks of two processes, and the moment between a death and its being seen, ms. */
const TOLERANCE_MS = 250;
/** A frozen supervisor hears of a death this much later, ms. */
const UNSEEN_MS = 3000;

function checkFailure(
  event: EventOf<'model.failed'>,
  { script, index, started }: Step,
  requestCount: number,
  faults: readonly InjectedFault[],
): string[] {
  const { attempt, error } = event.data;
  const scripted = script.steps[index]?.faults ?? [];
  if (shownAs[error.code]?.some((fault) => scripted.includes(fault))) return [];
  const begun = started.find((each) => each.data.attempt === attempt);
  // An attempt that was never sent may have been reserved for a gateway already dead.
  const wasSent = requestCount >= started.length;
  const beforeMs = wasSent ? TOLERANCE_MS : UNSEEN_MS;
  const fromMs = Date.parse(begun?.time ?? event.time) - beforeMs;
  const toMs = Date.parse(event.time) + TOLERANCE_MS;
  const during = (...kinds: readonly FaultKind[]): boolean =>
    faults.some(
      (fault) => kinds.includes(fault.kind) && fault.fromMs <= toMs && fault.toMs >= fromMs,
    );
  // The turn was stopped by a person, or by the end of the supervisor.
  if (error.code === 'CANCELLED') return [];
  if (error.code === 'STORE_DEGRADED' && during('fill disk')) return [];
  if (error.code === 'PROVIDER_TIMEOUT' && during('freeze gateway', 'freeze supervisor')) return [];
  if (error.code === 'GATEWAY_LOST') {
    if (during('kill gateway', 'freeze gateway', 'fill disk')) return [];
    // Reserved, and the supervisor died before it could ask: nobody paid for this one.
    if (!wasSent && during('kill supervisor', 'stop supervisor')) return [];
  }
  const counts = `${requestCount} requests for ${started.length} attempts`;
  return [
    `failed (attempt ${attempt}, ${counts}) without a cause: ${error.code}, ${error.message}`,
  ];
}

function checkText({ started, completed, deltas, script, index }: Step): string[] {
  const found: string[] = [];
  const late = deltas.find((delta) => {
    const newest = started.findLast((event) => event.seq < delta.seq);
    return newest?.data.attempt !== delta.data.attempt;
  });
  if (late !== undefined) found.push(`has a delta of attempt ${late.data.attempt} out of its time`);
  const [end] = completed;
  if (end === undefined) return found;
  const streamed = deltas
    .filter(({ data }) => data.attempt === end.data.attempt && data.kind === 'text')
    .map(({ data }) => data.text)
    .join('');
  const { text, tool_calls } = end.data.message;
  if (streamed !== text) found.push(`was streamed as '${streamed}' and ended as '${text}'`);
  const step = script.steps[index];
  const expected = step?.say ?? '';
  if (isCut(end)) {
    if (!expected.startsWith(text)) found.push(`said '${expected}' and was cut to '${text}'`);
  } else if (text !== expected || tool_calls.length !== step?.calls.length) {
    found.push(`said '${expected}', the journal has '${text}' with ${tool_calls.length} calls`);
  }
  return found;
}

/** Requests for steps that no journal has. */
function checkStrays(steps: readonly Step[], { requests }: History): Violation[] {
  const known = new Set(steps.map(({ script, index }) => `${script.chaos}/${index}`));
  return requests
    .filter(({ key, index }) => key !== '' && !known.has(`${key}/${index}`))
    .map(({ key, index }) => violate(CHECK, `step ${index} of ${key} is in no journal`));
}
