/** One turn of a session as an OpenAI client may see it: a pure reading of the journal, from the
 *  accepted input to the end of its turn. Both facades are written on it, live and replayed alike,
 *  so the same history always gives the same answer. Nothing here keeps what was said: only how
 *  much of the running step's text was passed on. */
import type { FinishReason, ToolStatus, TurnOutcome, Usage } from '../../protocol/content.ts';
import { type EventEnvelope, type KnownEvent, parseEvent } from '../../protocol/events.ts';
import { type EffectId, type InputId, parseEffectId } from '../../protocol/ids.ts';

export interface TurnEnd {
  readonly outcome: TurnOutcome;
  readonly reason: string | undefined;
  readonly usage: Usage;
  readonly costUsd: number;
  /** Why the model stopped in its last step; absent when it never answered. */
  readonly finishReason: FinishReason | undefined;
}

export type Activity =
  | { readonly kind: 'started'; readonly turn: number }
  | { readonly kind: 'text' | 'reasoning'; readonly step: number; readonly text: string }
  /** The step's message is final; `text` is the whole of it. */
  | { readonly kind: 'step-ended'; readonly step: number; readonly text: string }
  | {
      readonly kind: 'tool-requested' | 'approval-requested';
      readonly callId: EffectId;
      readonly tool: string;
      /** JSON text. */
      readonly arguments: string;
    }
  | {
      readonly kind: 'tool-ended';
      readonly callId: EffectId;
      readonly status: ToolStatus;
      readonly output: string;
    }
  | { readonly kind: 'approval-resolved'; readonly callId: EffectId }
  /** Text that was passed on belongs to an attempt that another one replaces. */
  | { readonly kind: 'superseded'; readonly step: number; readonly attempt: number }
  | { readonly kind: 'ended'; readonly turn: number; readonly end: TurnEnd }
  /** The turn cannot come to an end: the session was stopped, or parked as failed. */
  | { readonly kind: 'lost'; readonly state: string; readonly reason: string };

type Reader = (event: EventEnvelope) => readonly Activity[];

/** Whose turn is read: that of an input, from the input on, or a turn that is under way. */
export type TurnOf = { readonly inputId: InputId } | { readonly turn: number };

/** @returns what each event of the session, given in order, means to this turn. Events of other
 *  turns mean nothing. */
export function createTurnReader(of: TurnOf): Reader {
  let turn = 'turn' in of ? of.turn : undefined;
  const inputId = 'inputId' in of ? of.inputId : undefined;
  let finishReason: FinishReason | undefined;
  const step = createStepReader();
  return (envelope) => {
    const event = parseEvent(envelope);
    if (event === undefined) return [];
    if (event.type === 'turn.started' && event.data.input_id === inputId) {
      const isFirst = turn === undefined;
      turn = event.data.turn;
      return isFirst ? [{ kind: 'started', turn }] : [];
    }
    const isEnd = event.type === 'turn.completed';
    if (isEnd && (event.data.input_id === inputId || event.data.turn === turn)) {
      const { outcome, error, usage, cost_usd: costUsd } = event.data;
      const reason = error?.message ?? event.data.reason;
      const end: TurnEnd = { outcome, reason, usage, costUsd, finishReason };
      return [{ kind: 'ended', turn: event.data.turn, end }];
    }
    if (event.type === 'session.state') return readState(event.data);
    if (event.type === 'approval.resolved') {
      const { call_id: callId } = event.data;
      // Of no turn by itself: the answer comes from outside of it.
      return parseEffectId(callId).turn === turn ? [{ kind: 'approval-resolved', callId }] : [];
    }
    if (turn === undefined || event.turn !== turn) return [];
    if (event.type === 'model.completed') finishReason = event.data.finish_reason;
    return event.type.startsWith('model.') ? step(event) : readTool(event);
  };
}

function readState({ to, reason }: { to: string; reason: string }): Activity[] {
  return to === 'stopped' || to === 'failed' ? [{ kind: 'lost', state: to, reason }] : [];
}

/** The model calls of a turn. A step has one attempt at a time; a compaction's are not shown. */
function createStepReader(): (event: KnownEvent) => readonly Activity[] {
  let current = { step: 0, attempt: 0, isHidden: false };
  let sent = '';
  return (event) => {
    switch (event.type) {
      case 'model.started': {
        const { step, attempt, purpose } = event.data;
        const isSuperseding = step === current.step && sent !== '';
        current = { step, attempt, isHidden: purpose === 'compaction' };
        sent = '';
        return isSuperseding ? [{ kind: 'superseded', step, attempt }] : [];
      }
      case 'model.delta': {
        const { step, attempt, kind, text } = event.data;
        if (current.isHidden || step !== current.step || attempt !== current.attempt) return [];
        if (kind === 'tool_call' || text === '') return [];
        if (kind === 'text') sent += text;
        return [{ kind, step, text }];
      }
      case 'model.completed': {
        const { step, attempt, message } = event.data;
        if (current.isHidden) return [];
        const ended: Activity = { kind: 'step-ended', step, text: message.text };
        const rest = message.text.startsWith(sent) ? message.text.slice(sent.length) : undefined;
        sent = '';
        if (rest === undefined) return [{ kind: 'superseded', step, attempt }, ended];
        return rest === '' ? [ended] : [{ kind: 'text', step, text: rest }, ended];
      }
      default:
        return [];
    }
  };
}

function readTool(event: KnownEvent): readonly Activity[] {
  switch (event.type) {
    case 'tool.requested': {
      const { call_id: callId, tool } = event.data;
      return [{ kind: 'tool-requested', callId, tool, arguments: toJson(event.data.arguments) }];
    }
    case 'approval.requested': {
      const { call_id: callId, tool } = event.data;
      const text = toJson(event.data.arguments);
      return [{ kind: 'approval-requested', callId, tool, arguments: text }];
    }
    case 'tool.completed': {
      const { call_id: callId, status, output } = event.data;
      return [{ kind: 'tool-ended', callId, status, output }];
    }
    default:
      return [];
  }
}

/** The model's own text stays as it is; anything else is written as JSON. */
export function toJson(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value ?? {});
}
