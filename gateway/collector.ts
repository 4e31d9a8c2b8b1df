/** Puts the parts of a stream together to one assistant message, within bounds: a provider gone
 *  wild is cut off with a failure, not with our memory. */
import type { AssistantMessage, FinishReason, ModelToolCall, Usage } from '../protocol/content.ts';
import { createFailure } from './failures.ts';
import type { Part, ToolCallPart } from './providers/provider.ts';

/** Text, reasoning and all arguments together, characters. */
const MESSAGE_CHARS_MAX = 16 * 1024 * 1024;
/** Arguments of one call, characters. */
const ARGUMENTS_CHARS_MAX = 4 * 1024 * 1024;
const TOOL_CALLS_MAX = 128;

export interface Collector {
  /** Throws PROVIDER_BAD_RESPONSE (too_large) over a bound. */
  add(part: Part): void;
  /** `cancelled` leaves tool calls out: they may be half said. */
  toMessage(cancelled: boolean): AssistantMessage;
  readonly finishReason: () => FinishReason | undefined;
  readonly usage: () => Usage;
  readonly model: () => string | undefined;
}

interface OpenCall {
  id: string;
  name: string;
  arguments: string;
}

/** `idPrefix` makes ids for calls that the provider gave none. */
export function createCollector(idPrefix: string): Collector {
  const calls: OpenCall[] = [];
  const slots = new Map<number, OpenCall>();
  let text = '';
  let reasoning = '';
  let chars = 0;
  let finish: FinishReason | undefined;
  let usage: Usage = { input_tokens: 0, output_tokens: 0 };
  let model: string | undefined;

  function grow(count: number): void {
    chars += count;
    if (chars > MESSAGE_CHARS_MAX) {
      throw tooLarge(`an answer of more than ${MESSAGE_CHARS_MAX} characters`);
    }
  }

  function addCall(part: ToolCallPart): void {
    const call = findCall(part) ?? openCall(part);
    if (call.name === '') call.name = part.name ?? '';
    call.arguments += part.arguments;
    grow(part.arguments.length);
    if (call.arguments.length > ARGUMENTS_CHARS_MAX) {
      throw tooLarge(`a tool call with arguments of more than ${ARGUMENTS_CHARS_MAX} characters`);
    }
  }

  /** Some servers number all calls 0 and tell them apart by id alone. */
  function findCall(part: ToolCallPart): OpenCall | undefined {
    const call = slots.get(part.index);
    const another = part.id !== undefined && part.name !== undefined && part.id !== call?.id;
    return another ? undefined : call;
  }

  function openCall(part: ToolCallPart): OpenCall {
    if (calls.length >= TOOL_CALLS_MAX) {
      throw tooLarge(`more than ${TOOL_CALLS_MAX} tool calls in one answer`);
    }
    const id = part.id ?? `${idPrefix}_${calls.length}`;
    const call: OpenCall = { id, name: part.name ?? '', arguments: '' };
    calls.push(call);
    slots.set(part.index, call);
    return call;
  }

  return {
    add(part) {
      if (part.kind === 'tool_call') addCall(part);
      else if (part.kind === 'finish') finish = part.reason;
      else if (part.kind === 'usage') usage = part.usage;
      else if (part.kind === 'model') model = part.model;
      else {
        grow(part.text.length);
        if (part.kind === 'text') text += part.text;
        else reasoning += part.text;
      }
    },
    toMessage: (cancelled) => ({
      text,
      ...(reasoning === '' ? {} : { reasoning }),
      tool_calls: cancelled ? [] : calls.map(toToolCall),
    }),
    // Some servers say stop although they call tools, others the reverse.
    finishReason: () => {
      if (finish === 'stop' && calls.length > 0) return 'tool_calls';
      return finish === 'tool_calls' && calls.length === 0 ? 'stop' : finish;
    },
    usage: () => usage,
    model: () => model,
  };
}

/** A call without arguments is one with none, which as JSON text is `{}`. */
function toToolCall(call: OpenCall): ModelToolCall {
  return { ...call, arguments: call.arguments === '' ? '{}' : call.arguments };
}

function tooLarge(what: string): Error {
  return createFailure('too_large', `the provider sent ${what}; the request was given up`);
}
