/** Any history a journal can fold to, and many it cannot: results that are missing or too many,
 *  cancelled partials, ids used twice, names and arguments no provider would take back. */
import fc from 'fast-check';
import {
  type AcceptedInput,
  type AssistantMessage,
  acceptedInputSchema,
  type ContentPart,
  type ModelToolCall,
  type SessionHistory,
  type StepRecord,
  type ToolOutcome,
  type TurnRecord,
  toolStatusSchema,
  turnOutcomeSchema,
} from '../../protocol/content.ts';

const text = fc.oneof(
  fc.constantFrom('', ' ', '\n', 'plain'),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ minLength: 200, maxLength: 600 }),
);

const part: fc.Arbitrary<ContentPart> = fc.oneof(
  text.map((value) => ({ type: 'text' as const, text: value })),
  fc.constant({ type: 'image_url' as const, url: 'data:image/png;base64,AAAA' }),
);

const input: fc.Arbitrary<AcceptedInput> = fc
  .array(part, { maxLength: 3 })
  .map((content) => acceptedInputSchema.parse({ input_id: 'in_x', content }));

const toolCall: fc.Arbitrary<ModelToolCall> = fc.record({
  id: fc.constantFrom('', 'a', 'b', 'c', 'call_1', 'call_2'),
  name: fc.constantFrom('shell', '', 'odd name!', 'x'.repeat(80)),
  arguments: fc.oneof(
    fc.constantFrom('', '{}', '{"command":"ls"}', '{"comm', '[1]', 'null', '"text"'),
    text,
  ),
});

const message: fc.Arbitrary<AssistantMessage> = fc.record(
  { text, reasoning: text, tool_calls: fc.array(toolCall, { maxLength: 5 }) },
  { requiredKeys: ['text', 'tool_calls'] },
);

const outcome: fc.Arbitrary<ToolOutcome> = fc.record({
  status: fc.constantFrom(...toolStatusSchema.options),
  output: text,
  duration_ms: fc.nat(),
  truncated: fc.boolean(),
});

const step: fc.Arbitrary<Omit<StepRecord, 'step'>> = fc.record({
  steer: fc.array(input, { maxLength: 2 }),
  message,
  results: fc.array(outcome, { maxLength: 6 }),
});

const turn: fc.Arbitrary<Omit<TurnRecord, 'turn'>> = fc.record(
  {
    input,
    steps: fc
      .array(step, { maxLength: 5 })
      .map((steps) => steps.map((record, index) => ({ ...record, step: 2 * index + 1 }))),
    outcome: fc.constantFrom(...turnOutcomeSchema.options),
  },
  { requiredKeys: ['input', 'steps'] },
);

const compaction = fc.record({
  turn: fc.constant(1),
  step: fc.constant(1),
  strategy: fc.constantFrom('summarize' as const, 'truncate' as const),
  summary: text,
  from_turn: fc.integer({ min: 1, max: 7 }),
  from_step: fc.integer({ min: 1, max: 9 }),
  before_tokens: fc.nat(),
  after_tokens: fc.nat(),
});

export const anyHistory: fc.Arbitrary<SessionHistory> = fc
  .record(
    { turns: fc.array(turn, { minLength: 1, maxLength: 6 }), compaction },
    { requiredKeys: ['turns'] },
  )
  .map((history) => ({
    ...history,
    turns: history.turns.map((record, index) => ({ ...record, turn: index + 1 })),
  }));
