/** A turn as a chat completion. The API knows no tools that a server runs: they are shown in a
 *  field of our own, `prx`, on chunks whose delta is empty, which clients pass over. */
import { assert } from '../../base/assert.ts';
import type { FinishReason, Usage } from '../../protocol/content.ts';
import type { StreamFrame } from '../route.ts';
import type { Activity, TurnEnd } from './activity.ts';
import { toId } from './address.ts';
import type { OpenaiError } from './error.ts';
import type { Turn } from './turn.ts';

type Json = Readonly<Record<string, unknown>>;

export interface ChatOptions {
  /** stream_options.include_usage. */
  readonly includeUsage: boolean;
}

/** Between the texts of two steps. */
const STEP_GAP = '\n\n';

/** The frames of a streamed completion, `[DONE]` included. */
export async function* toChatFrames(
  turn: Turn,
  activities: AsyncIterable<Activity>,
  options: ChatOptions,
): AsyncGenerator<StreamFrame> {
  const head = toHead(turn, 'chat.completion.chunk');
  const chunk = (delta: Json, rest: Json = {}, finish: string | null = null): StreamFrame =>
    toFrame({
      ...head,
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
      ...(options.includeUsage ? { usage: null } : {}),
      ...rest,
    });
  yield chunk({ role: 'assistant', content: '' });
  const text = createTextJoiner();
  for await (const activity of activities) {
    switch (activity.kind) {
      case 'text':
        yield chunk({ content: text(activity.step, activity.text) });
        break;
      case 'reasoning':
        yield chunk({ reasoning_content: activity.text });
        break;
      case 'tool-requested':
      case 'tool-ended':
      case 'approval-requested':
      case 'approval-resolved':
        yield chunk({}, { prx: toShown(activity) });
        break;
      case 'superseded':
      case 'lost':
        yield toFrame({ error: toError(activity) });
        return;
      case 'ended': {
        const { end } = activity;
        const error = findFailure(end);
        if (error !== undefined) {
          yield toFrame({ error });
          return;
        }
        yield chunk({}, { prx: toSummary(turn, activity) }, toFinish(end));
        if (options.includeUsage) {
          yield toFrame({ ...head, choices: [], usage: toChatUsage(end.usage) });
        }
        yield { data: '[DONE]' };
        return;
      }
      case 'started':
      case 'step-ended':
        break;
    }
  }
  yield toFrame({ error: unfinished });
}

export type ChatResult =
  | { readonly kind: 'completion'; readonly completion: Json }
  | { readonly kind: 'failure'; readonly error: OpenaiError };

/** The whole completion, once the turn has ended. */
export async function toChatCompletion(
  turn: Turn,
  activities: AsyncIterable<Activity>,
): Promise<ChatResult> {
  const texts: string[] = [];
  for await (const activity of activities) {
    if (activity.kind === 'step-ended' && activity.text !== '') texts.push(activity.text);
    if (activity.kind === 'lost') return { kind: 'failure', error: toError(activity) };
    if (activity.kind !== 'ended') continue;
    const error = findFailure(activity.end);
    if (error !== undefined) return { kind: 'failure', error };
    const message = { role: 'assistant', content: texts.join(STEP_GAP), refusal: null };
    const finish = toFinish(activity.end);
    const completion = {
      ...toHead(turn, 'chat.completion'),
      choices: [{ index: 0, message, logprobs: null, finish_reason: finish }],
      usage: toChatUsage(activity.end.usage),
      prx: toSummary(turn, activity),
    };
    return { kind: 'completion', completion };
  }
  return { kind: 'failure', error: unfinished };
}

function toHead(turn: Turn, object: string): Json {
  return { id: toId('chatcmpl', turn), object, created: turn.createdAt, model: turn.agent };
}

function toFrame(value: Json): StreamFrame {
  return { data: JSON.stringify(value) };
}

/** Puts a gap before the first text of each later step. */
function createTextJoiner(): (step: number, text: string) => string {
  let last: number | undefined;
  return (step, text) => {
    const gap = last !== undefined && last !== step ? STEP_GAP : '';
    last = step;
    return gap + text;
  };
}

function toShown(activity: Activity): Json {
  const { kind, ...rest } = activity;
  return { event: kind, ...rest };
}

/** How it really ended, where that API has no word for it, and what it cost. */
export function toSummary(
  turn: Turn,
  { turn: number, end }: Extract<Activity, { kind: 'ended' }>,
): Json {
  const { outcome, reason, costUsd } = end;
  return { session: turn.session, turn: number, outcome, reason, cost_usd: costUsd };
}

const unfinished: OpenaiError = {
  message: 'the answer is not finished; the session goes on with it: read its events, or ask again',
  type: 'server_error',
  param: null,
  code: 'unfinished',
};

/** What ends an answer in mid-sentence. */
export function toError(activity: Extract<Activity, { kind: 'superseded' | 'lost' }>): OpenaiError {
  const [code, message] =
    activity.kind === 'superseded'
      ? [
          'superseded',
          `a new attempt of step ${activity.step} replaces the text sent so far; ` +
            'the session goes on with it',
        ]
      : ['session_lost', `the session is ${activity.state}: ${activity.reason}`];
  return { message, type: 'server_error', param: null, code };
}

/** A turn that failed has no answer; one that was stopped early has what was said until then. */
export function findFailure({ outcome, reason }: TurnEnd): OpenaiError | undefined {
  if (outcome !== 'failed') return undefined;
  return {
    message: `the turn failed: ${reason ?? 'see the events of the session'}`,
    type: 'server_error',
    param: null,
    code: 'turn_failed',
  };
}

const finishes: Readonly<Record<FinishReason, string>> = {
  stop: 'stop',
  tool_calls: 'stop',
  length: 'length',
  content_filter: 'content_filter',
  cancelled: 'stop',
};

/** One of the reasons that clients know. */
function toFinish({ outcome, finishReason }: TurnEnd): string {
  switch (outcome) {
    case 'completed':
      return finishes[finishReason ?? 'stop'];
    case 'interrupted':
      return 'stop';
    case 'max_turns':
    case 'budget':
    case 'timeout':
      return 'length';
    case 'refused':
      return 'content_filter';
    case 'failed':
      assert(false, 'a failed turn is an error, not an answer');
  }
}

function toChatUsage(usage: Usage): Json {
  const { input_tokens: prompt, output_tokens: completion } = usage;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: usage.cached_input_tokens ?? 0 },
    completion_tokens_details: { reasoning_tokens: usage.reasoning_tokens ?? 0 },
  };
}
