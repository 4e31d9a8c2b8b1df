/** The transcript a provider is sent: a pure function of the manifest and the folded journal, the
 *  running turn included as its last, open turn. No time, no randomness: a restarted worker
 *  builds the very same request. Invariant: always well formed, whatever the history lacks. The
 *  system message is first; every tool call has exactly one result, right behind its message;
 *  no message is empty; call ids are unique; arguments are a JSON object. */
import type {
  AssistantMessage,
  ContentPart,
  ModelToolCall,
  ProviderMessage,
  SessionHistory,
  StepRecord,
  TurnOutcome,
  TurnRecord,
} from '../protocol/content.ts';
import { cutTurn } from '../protocol/cut-turn.ts';
import type { AgentManifest } from '../protocol/worker-methods.ts';
import { formatSurplus, formatToolResult, NOT_RUN } from './tool-result.ts';

/** Everything before (turn, step) is left out; the input of `turn` itself always stays. */
export interface Boundary {
  readonly turn: number;
  readonly step: number;
}

/** @returns the whole transcript, oldest message first. */
export function buildTranscript(
  manifest: AgentManifest,
  history: SessionHistory,
): readonly ProviderMessage[] {
  const ids = new Set<string>();
  return [
    { role: 'system', text: systemText(manifest) },
    ...summaryMessages(history),
    ...keptTurns(history).flatMap((turn) => buildTurn(manifest, turn, ids)),
  ];
}

/** The turns and steps from the last compaction on. */
export function keptTurns(history: SessionHistory): readonly TurnRecord[] {
  const { compaction, turns } = history;
  if (compaction === undefined) return turns;
  const from = { turn: compaction.from_turn, step: compaction.from_step };
  return turns
    .filter((turn) => turn.turn >= from.turn)
    .map((turn) => (turn.turn === from.turn ? cutTurn(turn, from.step) : turn));
}

function systemText(manifest: AgentManifest): string {
  const environment =
    manifest.tools.length === 0
      ? ['You have no tools in this session.']
      : [
          `Workspace: ${manifest.workspace}. Relative paths are relative to it.`,
          'Tools run in a sandbox; a result says so where something was cut, denied or limited.',
        ];
  return [manifest.instructions.trim(), environment.join('\n')]
    .filter((part) => part !== '')
    .join('\n\n');
}

function summaryMessages({ compaction }: SessionHistory): readonly ProviderMessage[] {
  if (compaction === undefined) return [];
  const text =
    compaction.summary.trim() === ''
      ? '[Earlier messages of this conversation were left out to save space.]'
      : `[Earlier messages of this conversation were replaced by this summary.]\n${compaction.summary}`;
  return [userText(text)];
}

function userText(text: string): ProviderMessage {
  return { role: 'user', content: [{ type: 'text', text }] };
}

function buildTurn(
  manifest: AgentManifest,
  turn: TurnRecord,
  ids: Set<string>,
): readonly ProviderMessage[] {
  const open = turn.outcome === undefined;
  return [
    userContent(turn.input.content),
    ...turn.steps.flatMap((step) => buildStep({ manifest, step, ids, open })),
    ...endMark(turn.outcome),
  ];
}

function userContent(content: readonly ContentPart[]): ProviderMessage {
  const parts = content.filter((part) => part.type !== 'text' || part.text.trim() !== '');
  if (parts.length === 0) return userText('(an empty message)');
  return { role: 'user', content: parts };
}

interface StepView {
  readonly manifest: AgentManifest;
  readonly step: StepRecord;
  /** Call ids used so far in this transcript; grows. */
  readonly ids: Set<string>;
  readonly open: boolean;
}

function buildStep({ manifest, step, ids, open }: StepView): readonly ProviderMessage[] {
  const calls = step.message.tool_calls.map((call) => toSafeCall(call, ids));
  const steer = step.steer.map((input) => userContent(input.content));
  const message = toSafeMessage(step.message, calls, open);
  if (message === undefined) return steer;
  const results = calls.map((call, index): ProviderMessage => {
    const limit = manifest.maxToolCallsPerTurn;
    const isSurplus = index >= limit;
    const text = isSurplus
      ? formatSurplus(limit)
      : formatToolResult(step.results[index] ?? NOT_RUN);
    return { role: 'tool', call_id: call.id, name: call.name, text };
  });
  return [...steer, { role: 'assistant', message }, ...results];
}

/** undefined: it says nothing, and providers refuse a message that is empty. Reasoning goes back
 *  only within its own turn: some models need it between tool calls, none need it afterwards. */
function toSafeMessage(
  message: AssistantMessage,
  calls: ModelToolCall[],
  open: boolean,
): AssistantMessage | undefined {
  const text = message.text.trim() === '' ? '' : message.text;
  if (text === '' && calls.length === 0) return undefined;
  const { reasoning } = message;
  return { text, tool_calls: calls, ...(open && reasoning ? { reasoning } : {}) };
}

const TOOL_NAME_CHARS_MAX = 64;

/** Models do break the rules providers impose on the next request: ids that are empty or used
 *  twice, names with odd characters, arguments that are no JSON (cut by a length limit). One such
 *  call in the history would make every later request fail. */
function toSafeCall(call: ModelToolCall, ids: Set<string>): ModelToolCall {
  const id = call.id === '' || ids.has(call.id) ? freshId(ids) : call.id;
  ids.add(id);
  const name = call.name.replaceAll(/[^a-zA-Z0-9_-]/g, '_').slice(0, TOOL_NAME_CHARS_MAX);
  return { id, name: name === '' ? 'unnamed' : name, arguments: toSafeArguments(call.arguments) };
}

function freshId(ids: ReadonlySet<string>): string {
  let number = ids.size + 1;
  while (ids.has(`call_${number}`)) number += 1;
  return `call_${number}`;
}

function toSafeArguments(text: string): string {
  if (text.trim() === '') return '{}';
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return text;
  } catch {
    // Shown to the model below as what it was: a text.
  }
  return JSON.stringify({ invalid_arguments: text });
}

/** How an unfinished turn shows in the transcript, so that the model does not take what it said
 *  in it for a finished answer. Stops from outside share a sentence: only the supervisor knows
 *  which one it was, and what the worker remembers must equal what the journal says. */
const endSentence: Readonly<Record<TurnOutcome, string>> = {
  completed: '',
  interrupted: 'was stopped from outside before it was finished',
  timeout: 'was stopped from outside before it was finished',
  max_turns: 'reached the limit of steps before it was finished',
  budget: 'used up its budget before it was finished',
  refused: 'was ended by the content filter of the provider',
  failed: 'failed before it was finished',
};

function endMark(outcome: TurnOutcome | undefined): readonly ProviderMessage[] {
  if (outcome === undefined || outcome === 'completed') return [];
  return [userText(`[The turn above ${endSentence[outcome]}.]`)];
}
