/** The conversation as a worker gets it: the closed turns from the last compaction on. Pure.
 *  Always well formed: each tool call of a message has exactly one result, whatever died. A turn
 *  that is still open is left out, with any compaction made in it: its worker asks everything
 *  again and gets what is committed, so it must start from what it started from before. */
import type {
  AcceptedInput,
  CompactionRecord,
  SessionHistory,
  StepRecord,
  ToolOutcome,
  TurnOutcome,
  TurnRecord,
} from '../protocol/content.ts';
import { cutTurn } from '../protocol/cut-turn.ts';
import type { EventEnvelope, EventType, KnownEvent } from '../protocol/events.ts';

type Event<T extends EventType> = Extract<KnownEvent, { type: T }>;

/** The types that say something here; the reader leaves out the rest. */
export const historyTypes = [
  'session.created',
  'input.accepted',
  'input.steered',
  'turn.started',
  'turn.completed',
  'model.started',
  'model.completed',
  'tool.started',
  'tool.completed',
  'context.compacted',
] as const satisfies readonly EventType[];

type HistoryEvent = Extract<KnownEvent, { type: (typeof historyTypes)[number] }>;

interface OpenTurn {
  readonly turn: number;
  readonly input: AcceptedInput;
  /** By step number. */
  readonly steer: Map<number, AcceptedInput[]>;
  readonly messages: Map<number, StepRecord['message']>;
  /** Steps whose model call is a compaction: no part of the conversation. */
  readonly compactions: Set<number>;
  /** By call id. */
  readonly started: Set<string>;
  readonly outcomes: Map<string, ToolOutcome>;
  compaction: CompactionRecord | undefined;
}

interface Fold {
  readonly inputs: Map<string, AcceptedInput>;
  readonly turns: TurnRecord[];
  open: OpenTurn | undefined;
  compaction: CompactionRecord | undefined;
}

/** @param events  of one session, oldest first; other types than historyTypes are ignored. May
 *    begin at the start of the turn in which the last compaction's boundary lies, as long as the
 *    inputs that are used later come first. */
export function foldHistory(events: Iterable<EventEnvelope>): SessionHistory {
  const fold: Fold = { inputs: new Map(), turns: [], open: undefined, compaction: undefined };
  for (const event of events) {
    // Data of a known type was validated when it was journaled; unknown types match no case.
    addEvent(fold, event as HistoryEvent);
  }
  const { compaction } = fold;
  if (compaction === undefined) return { turns: fold.turns };
  return { turns: fold.turns.flatMap((turn) => fromBoundary(turn, compaction)), compaction };
}

function addEvent(fold: Fold, event: HistoryEvent): void {
  switch (event.type) {
    case 'session.created':
      // That of a fork: the turn that was open where the copy ends goes no further here.
      closeTurn(fold, 'interrupted');
      return;
    case 'input.accepted': {
      const { input_id, content } = event.data;
      fold.inputs.set(input_id, { input_id, content });
      return;
    }
    case 'turn.started':
      startTurn(fold, event);
      return;
    case 'turn.completed':
      if (fold.open?.turn === event.data.turn) closeTurn(fold, event.data.outcome);
      return;
    default:
      if (fold.open !== undefined) addToTurn(fold.open, event, fold.inputs);
  }
}

function startTurn(fold: Fold, { data }: Event<'turn.started'>): void {
  if (fold.open?.turn === data.turn) return;
  fold.open = {
    turn: data.turn,
    input: fold.inputs.get(data.input_id) ?? { input_id: data.input_id, content: [] },
    steer: new Map(),
    messages: new Map(),
    compactions: new Set(),
    started: new Set(),
    outcomes: new Map(),
    compaction: undefined,
  };
}

type TurnEvent = Exclude<
  HistoryEvent,
  { type: 'session.created' | 'input.accepted' | 'turn.started' | 'turn.completed' }
>;

function addToTurn(open: OpenTurn, event: TurnEvent, inputs: Fold['inputs']): void {
  switch (event.type) {
    case 'input.steered': {
      const { step, input_id } = event.data;
      const input = inputs.get(input_id) ?? { input_id, content: [] };
      open.steer.set(step, [...(open.steer.get(step) ?? []), input]);
      return;
    }
    case 'model.started':
      if (event.data.purpose === 'compaction') open.compactions.add(event.data.step);
      return;
    case 'model.completed': {
      const { step, message, finish_reason } = event.data;
      const isCut = finish_reason === 'cancelled';
      open.messages.set(step, isCut ? { ...message, tool_calls: [] } : message);
      return;
    }
    case 'tool.started':
      open.started.add(event.data.call_id);
      return;
    case 'tool.completed': {
      const { call_id, ...outcome } = event.data;
      open.outcomes.set(call_id, outcome);
      return;
    }
    case 'context.compacted':
      open.compaction = { ...event.data, turn: event.turn ?? open.turn };
      return;
    default:
      // A type of a newer version, or one that is no part of a conversation.
      return;
  }
}

function closeTurn(fold: Fold, outcome: TurnOutcome): void {
  const { open } = fold;
  if (open === undefined) return;
  fold.open = undefined;
  fold.compaction = open.compaction ?? fold.compaction;
  fold.turns.push({ turn: open.turn, input: open.input, steps: toSteps(open), outcome });
}

/** A step that was steered but never answered keeps the user's words, with an empty message. */
function toSteps(open: OpenTurn): StepRecord[] {
  const numbers = new Set([...open.messages.keys(), ...open.steer.keys()]);
  return [...numbers]
    .filter((step) => !open.compactions.has(step))
    .sort((one, other) => one - other)
    .map((step) => {
      const message = open.messages.get(step) ?? { text: '', tool_calls: [] };
      return {
        step,
        steer: open.steer.get(step) ?? [],
        message,
        results: message.tool_calls.map((_, index) => {
          const call = `${open.turn}.${step}.${index + 1}`;
          return open.outcomes.get(call) ?? missingOutcome(open.started.has(call));
        }),
      };
    });
}

function missingOutcome(wasStarted: boolean): ToolOutcome {
  const base = { duration_ms: 0, truncated: false } as const;
  return wasStarted
    ? {
        ...base,
        status: 'indeterminate',
        output: 'This call was started, but its outcome is unknown: the turn ended before it came.',
      }
    : { ...base, status: 'cancelled', output: 'This call was not run: the turn ended before it.' };
}

function fromBoundary(turn: TurnRecord, { from_turn, from_step }: CompactionRecord): TurnRecord[] {
  if (turn.turn < from_turn) return [];
  return [turn.turn > from_turn ? turn : cutTurn(turn, from_step)];
}
