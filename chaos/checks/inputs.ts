/** What was accepted is in the journal once and processed once; what was refused is not there. */
import {
  type EventOf,
  type History,
  ofType,
  type SentInput,
  type SessionFacts,
  type Violation,
  violate,
} from '../history.ts';

export function checkInputs(history: History): readonly Violation[] {
  const facts = history.facts;
  return [...facts.flatMap(checkEnds), ...checkAnswers(facts, history.inputs)];
}

/** Each accepted input was steered into a turn or had exactly one turn, which ended once. */
function checkEnds({ session, known }: SessionFacts): Violation[] {
  return ofType(known, 'input.accepted').flatMap((accepted) => {
    const { input_id } = accepted.data;
    const of = (event: { data: { input_id: string } }): boolean => event.data.input_id === input_id;
    const turns = ofType(known, 'turn.started').filter(of);
    const ends = ofType(known, 'turn.completed').filter(of);
    const steered = ofType(known, 'input.steered').filter(of);
    const numbers = new Set(turns.map((event) => event.data.turn));
    if (ends.length + steered.length === 1 && numbers.size + steered.length === 1) return [];
    const message = `input ${input_id} was given to ${numbers.size} turns, steered ${steered.length} times and has ${ends.length} turn.completed`;
    const events = [accepted, ...turns, ...steered, ...ends];
    return [violate('input exactly once', message, { session, events })];
  });
}

function checkAnswers(facts: readonly SessionFacts[], inputs: readonly SentInput[]): Violation[] {
  const accepted = new Map<string, EventOf<'input.accepted'>[]>();
  for (const { session, known } of facts) {
    for (const event of ofType(known, 'input.accepted')) {
      const place = `${session} ${event.data.idempotency_key ?? ''}`;
      accepted.set(place, [...(accepted.get(place) ?? []), event]);
    }
  }
  return inputs.flatMap((input) =>
    checkAnswer(input, accepted.get(`${input.session} ${input.key}`) ?? []),
  );
}

function checkAnswer(
  { session, key, answers, refused }: SentInput,
  events: readonly EventOf<'input.accepted'>[],
): Violation[] {
  const fail = (message: string): Violation[] => [
    violate('input exactly once', message, { session, events }),
  ];
  if (events.length > 1) return fail(`key ${key} was accepted ${events.length} times`);
  const [event] = events;
  if (answers.length === 0) {
    return refused && event !== undefined ? fail(`key ${key} was refused, yet accepted`) : [];
  }
  if (event === undefined) return fail(`key ${key} was answered with 202 and is not there`);
  const other = answers.find(
    (answer) => answer.seq !== event.seq || answer.input_id !== event.data.input_id,
  );
  if (other === undefined) return [];
  return fail(`key ${key} was answered as ${other.input_id} at event ${other.seq}`);
}
