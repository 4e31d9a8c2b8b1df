/** Events in, pieces out: the pure reducer behind every view of a session. Each event is shown
 *  once (an old sequence number is ignored), text of a superseded attempt is named as void and
 *  never joined with what replaces it. */
import type { ToolOutcome } from '../../protocol/content.ts';
import type { EventData, KnownEvent } from '../../protocol/events.ts';
import { sanitize } from '../text/width.ts';
import type { PendingApproval, Piece, ToolCall } from './pieces.ts';
import { summarizeArguments } from './tool-summary.ts';

/** Lines of a tool's output that a view shows. */
const HEAD_LINES_MAX = 5;
const HEAD_LINE_CHARS_MAX = 400;

interface OpenStep {
  readonly step: number;
  readonly attempt: number;
  readonly text: string;
}

export interface FeedState {
  readonly lastSeq: number;
  readonly turn: number;
  /** True from turn.started to turn.completed. */
  readonly inTurn: boolean;
  readonly state: string;
  readonly residency: string;
  readonly model: string;
  /** The model call under way: what of its text was shown. */
  readonly open: OpenStep | undefined;
  /** Calls of the turn under way, by call id. */
  readonly calls: ReadonlyMap<string, ToolCall>;
  readonly approvals: ReadonlyMap<string, PendingApproval>;
  readonly queuedInputs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly costUsd: number;
}

export const emptyFeed: FeedState = {
  lastSeq: 0,
  turn: 0,
  inTurn: false,
  state: 'running',
  residency: 'hibernated',
  model: '',
  open: undefined,
  calls: new Map(),
  approvals: new Map(),
  queuedInputs: 0,
  inputTokens: 0,
  outputTokens: 0,
  costUsd: 0,
};

export interface Advance {
  readonly state: FeedState;
  readonly pieces: readonly Piece[];
}

/** @returns the next state and what to show; the same state for an event that was seen. */
export function advance(state: FeedState, event: KnownEvent): Advance {
  if (event.seq <= state.lastSeq) return { state, pieces: [] };
  const next = { ...state, lastSeq: event.seq };
  return advanceModel(next, event) ?? advanceTool(next, event) ?? advanceSession(next, event);
}

const quiet = (state: FeedState): Advance => ({ state, pieces: [] });

const notice = (state: FeedState, level: 'info' | 'warn' | 'error', text: string): Advance => ({
  state,
  pieces: [{ kind: 'notice', level, text }],
});

function advanceModel(state: FeedState, event: KnownEvent): Advance | undefined {
  switch (event.type) {
    case 'model.started':
      return startModel(state, event.data);
    case 'model.delta':
      return streamModel(state, event.data);
    case 'model.completed':
      return completeModel(state, event.data);
    case 'model.failed':
      return failModel(state, event.data);
    default:
      return undefined;
  }
}

function startModel(state: FeedState, data: EventData<'model.started'>): Advance {
  if (data.purpose === 'compaction') {
    return notice(state, 'info', 'the conversation is being summarized to fit the model');
  }
  const open: OpenStep = { step: data.step, attempt: data.attempt, text: '' };
  const next = { ...state, model: data.model, open };
  const before = state.open;
  const voided = before !== undefined && before.step === data.step && before.attempt < data.attempt;
  if (!voided || before.text === '') return quiet(next);
  const reason = 'the model was asked again';
  return { state: next, pieces: [{ kind: 'superseded', attempt: data.attempt, reason }] };
}

function streamModel(state: FeedState, data: EventData<'model.delta'>): Advance {
  if (data.kind === 'tool_call' || data.text === '') return quiet(state);
  const same = state.open?.step === data.step && state.open.attempt === data.attempt;
  // A delta of an older attempt that comes late is void already.
  if (!same && state.open?.step === data.step && state.open.attempt > data.attempt) {
    return quiet(state);
  }
  if (data.kind === 'reasoning') {
    return { state, pieces: [{ kind: 'reasoning', text: data.text }] };
  }
  const shown = same ? (state.open?.text ?? '') : '';
  const open = { step: data.step, attempt: data.attempt, text: shown + data.text };
  return { state: { ...state, open }, pieces: [{ kind: 'text', text: data.text }] };
}

function completeModel(state: FeedState, data: EventData<'model.completed'>): Advance {
  const { text } = data.message;
  const shown = state.open?.step === data.step ? state.open.text : '';
  const pieces: Piece[] = [];
  if (text.startsWith(shown)) {
    if (text.length > shown.length) pieces.push({ kind: 'text', text: text.slice(shown.length) });
  } else {
    // What was streamed is not how the committed text begins: the committed text stands.
    const reason = 'the recorded answer differs from what was streamed';
    pieces.push({ kind: 'superseded', attempt: data.attempt, reason });
    if (text !== '') pieces.push({ kind: 'text', text });
  }
  if (text !== '') pieces.push({ kind: 'text-end' });
  if (data.finish_reason === 'length') {
    pieces.push({ kind: 'notice', level: 'warn', text: 'the answer was cut at the token limit' });
  }
  const next = {
    ...state,
    open: undefined,
    inputTokens: state.inputTokens + data.usage.input_tokens,
    outputTokens: state.outputTokens + data.usage.output_tokens,
    costUsd: state.costUsd + data.cost_usd,
  };
  return { state: next, pieces };
}

function failModel(state: FeedState, data: EventData<'model.failed'>): Advance {
  const { code, message } = data.error;
  if (data.retry_in_ms === null) {
    return notice(state, 'error', `the model call failed: ${message} (${code})`);
  }
  const seconds = (data.retry_in_ms / 1000).toFixed(1);
  return notice(state, 'warn', `${message} (${code}); trying again in ${seconds} s`);
}

function advanceTool(state: FeedState, event: KnownEvent): Advance | undefined {
  switch (event.type) {
    case 'tool.requested': {
      const { call_id, tool } = event.data;
      const call = createCall(call_id, tool, event.data.arguments);
      return quiet(withCall(state, call));
    }
    case 'tool.decided':
      return decideTool(state, event.data);
    case 'approval.requested':
      return requestApproval(state, event.data);
    case 'approval.resolved':
      return resolveApproval(state, event.data);
    case 'tool.started': {
      const { call_id, level } = event.data;
      const call: ToolCall = { ...findCall(state, call_id), status: 'running', level };
      return { state: withCall(state, call), pieces: [{ kind: 'tool-started', call }] };
    }
    case 'tool.output': {
      const { call_id, text } = event.data;
      const found = findCall(state, call_id);
      return quiet(withCall(state, { ...found, ...joinHead(found, text) }));
    }
    case 'tool.completed':
      return completeTool(state, event.data.call_id, event.data);
    default:
      return undefined;
  }
}

function createCall(callId: string, tool: string, args: unknown): ToolCall {
  return {
    callId,
    tool,
    summary: summarizeArguments(tool, args),
    arguments: args,
    level: undefined,
    status: 'requested',
    durationMs: undefined,
    exitCode: undefined,
    head: [],
    lineCount: 0,
    notice: undefined,
    deniedBy: undefined,
  };
}

/** A view that begins in the middle of a call knows its id alone. */
function findCall(state: FeedState, callId: string): ToolCall {
  return state.calls.get(callId) ?? createCall(callId, 'tool', {});
}

function withCall(state: FeedState, call: ToolCall): FeedState {
  return { ...state, calls: new Map(state.calls).set(call.callId, call) };
}

function decideTool(state: FeedState, data: EventData<'tool.decided'>): Advance {
  if (data.decision !== 'deny') return quiet(state);
  const deniedBy = data.rule === '' ? data.by : `${data.by}: ${data.rule}`;
  return quiet(withCall(state, { ...findCall(state, data.call_id), deniedBy }));
}

function requestApproval(state: FeedState, data: EventData<'approval.requested'>): Advance {
  const approval: PendingApproval = {
    callId: data.call_id,
    tool: data.tool,
    summary: summarizeArguments(data.tool, data.arguments),
    arguments: data.arguments,
    expiresAt: data.expires_at,
    digest: data.digest,
    rule: data.rule,
    covers: data.covers,
    keeps: data.keeps,
  };
  const call = state.calls.get(data.call_id) ?? createCall(data.call_id, data.tool, data.arguments);
  const next = {
    ...withCall(state, { ...call, status: 'awaiting' as const }),
    approvals: new Map(state.approvals).set(approval.callId, approval),
  };
  return { state: next, pieces: [{ kind: 'approval', approval }] };
}

function resolveApproval(state: FeedState, data: EventData<'approval.resolved'>): Advance {
  const approvals = new Map(state.approvals);
  approvals.delete(data.call_id);
  const call = findCall(state, data.call_id);
  const edited = data.arguments;
  const resolved: ToolCall =
    data.decision !== 'approve'
      ? { ...call, deniedBy: data.decision === 'timeout' ? 'approval timed out' : data.by }
      : edited === undefined
        ? call
        : { ...call, arguments: edited, summary: summarizeArguments(call.tool, edited) };
  const { call_id: callId, decision, by } = data;
  return {
    state: { ...withCall(state, resolved), approvals },
    pieces: [{ kind: 'approval-resolved', callId, decision, by }],
  };
}

function completeTool(state: FeedState, callId: string, outcome: ToolOutcome): Advance {
  const before = findCall(state, callId);
  const call: ToolCall = {
    ...before,
    status: outcome.status,
    level: outcome.level ?? before.level,
    durationMs: outcome.duration_ms,
    exitCode: outcome.exit_code,
    notice: outcome.notice,
    ...joinHead({ head: [], lineCount: 0 }, outcome.output),
  };
  return { state: withCall(state, call), pieces: [{ kind: 'tool', call }] };
}

function joinHead(
  before: Pick<ToolCall, 'head' | 'lineCount'>,
  text: string,
): Pick<ToolCall, 'head' | 'lineCount'> {
  const lines = sanitize(text).replace(/\n$/, '').split('\n');
  const shown = lines.map((line) => line.slice(0, HEAD_LINE_CHARS_MAX));
  const count = text === '' ? 0 : lines.length;
  return {
    head: [...before.head, ...shown.slice(0, count)].slice(0, HEAD_LINES_MAX),
    lineCount: before.lineCount + count,
  };
}

function advanceSession(state: FeedState, event: KnownEvent): Advance {
  switch (event.type) {
    case 'input.accepted': {
      const { content, source, input_id: inputId } = event.data;
      const text = content.map((part) => (part.type === 'text' ? part.text : '[image]')).join('\n');
      const next = { ...state, queuedInputs: state.queuedInputs + 1 };
      return { state: next, pieces: [{ kind: 'user', text, source, inputId }] };
    }
    case 'input.steered':
      return quiet({ ...state, queuedInputs: Math.max(0, state.queuedInputs - 1) });
    case 'input.quarantined': {
      const next = { ...state, queuedInputs: Math.max(0, state.queuedInputs - 1) };
      return notice(next, 'error', `an input was set aside: ${event.data.reason}`);
    }
    case 'turn.started': {
      const { turn, input_id: inputId, attempt } = event.data;
      const taken = attempt <= 1 ? 1 : 0;
      const queuedInputs = Math.max(0, state.queuedInputs - taken);
      const next = { ...state, turn, inTurn: true, queuedInputs };
      return { state: next, pieces: [{ kind: 'turn-started', turn, inputId }] };
    }
    case 'turn.completed':
      return completeTurn(state, event.data);
    case 'session.state': {
      const { to, reason } = event.data;
      return { state: { ...state, state: to }, pieces: [{ kind: 'state', to, reason }] };
    }
    case 'session.residency':
      return quiet({ ...state, residency: event.data.to });
    default:
      return advanceOddity(state, event);
  }
}

function completeTurn(state: FeedState, data: EventData<'turn.completed'>): Advance {
  const end = {
    turn: data.turn,
    inputId: data.input_id,
    outcome: data.outcome,
    reason: data.reason,
    error: data.error,
    usage: data.usage,
    costUsd: data.cost_usd,
    steps: data.steps,
  };
  const next = {
    ...state,
    turn: data.turn,
    inTurn: false,
    open: undefined,
    calls: new Map<string, ToolCall>(),
    approvals: new Map<string, PendingApproval>(),
  };
  return { state: next, pieces: [{ kind: 'turn', end }] };
}

/** Deaths, repairs and limits: what a reader should know although the session goes on. */
function advanceOddity(state: FeedState, event: KnownEvent): Advance {
  switch (event.type) {
    case 'worker.exited': {
      const { cause, code, signal } = event.data;
      if (cause === 'completed' || cause === 'stopped') return quiet(state);
      const how = signal ?? (code === null ? 'unknown' : `exit ${code}`);
      return notice(state, 'warn', `the worker died (${cause}, ${how}); the session goes on`);
    }
    case 'worker.restarting': {
      const { attempt, delay_ms } = event.data;
      return notice(state, 'info', `starting a new worker in ${delay_ms} ms (attempt ${attempt})`);
    }
    case 'effect.resolved':
      return notice(state, 'warn', `call ${event.data.id} was resolved: ${event.data.how}`);
    case 'limit.exceeded': {
      const { limit, value, max, level } = event.data;
      const how = level === 'soft' ? 'is near' : 'exceeded';
      return notice(state, 'warn', `limit ${limit} ${how}: ${value} of ${max}`);
    }
    case 'store.degraded':
      return notice(state, 'error', `the journal cannot be written: ${event.data.reason}`);
    case 'store.repaired':
      return notice(state, 'info', `the journal works again: ${event.data.reason}`);
    case 'context.compacted': {
      const { before_tokens, after_tokens } = event.data;
      return notice(state, 'info', `context compacted: ${before_tokens} → ${after_tokens} tokens`);
    }
    default:
      return quiet(state);
  }
}
