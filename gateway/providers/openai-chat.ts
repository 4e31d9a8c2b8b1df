/** Chat Completions, as OpenAI defines it and as its many imitators speak it: fields that are
 *  null, missing or beyond the specification are taken as they come. */
import type { OpenAI } from 'openai';
import { z } from 'zod';
import type { FinishReason, ProviderMessage, Usage } from '../../protocol/content.ts';
import { createFailure } from '../failures.ts';
import type { OpenAiEndpoint } from './openai-endpoint.ts';
import {
  listOpenAiModels,
  streamEvents,
  toFunction,
  tokenCount,
  toWireCall,
} from './openai-stream.ts';
import type { Chunk, GenerateRequest, Part, Provider } from './provider.ts';

type ChatRequest = OpenAI.Chat.ChatCompletionCreateParamsStreaming;
type ChatMessage = OpenAI.Chat.ChatCompletionMessageParam;

const PATH = '/chat/completions';
const text = z.string().nullish();
const count = z.number().nullish();

const toolCallSchema = z.object({
  index: count,
  id: text,
  function: z.object({ name: text, arguments: text }).nullish(),
});

const deltaSchema = z.object({
  content: text,
  refusal: text,
  /** Not OpenAI's: DeepSeek, vLLM and others; `reasoning`: OpenRouter, Ollama. */
  reasoning_content: text,
  reasoning: text,
  tool_calls: z.array(toolCallSchema).nullish(),
});

const usageSchema = z.object({
  prompt_tokens: tokenCount,
  completion_tokens: tokenCount,
  prompt_tokens_details: z.object({ cached_tokens: tokenCount }).nullish().catch(undefined),
  completion_tokens_details: z.object({ reasoning_tokens: tokenCount }).nullish().catch(undefined),
});

const chunkSchema = z.object({
  model: text,
  choices: z.array(z.object({ delta: deltaSchema.nullish(), finish_reason: text })).nullish(),
  usage: usageSchema.nullish().catch(undefined),
});

export function createChatProvider(endpoint: OpenAiEndpoint): Provider {
  return {
    target: endpoint.target,
    listModels: (signal) => listOpenAiModels(endpoint, signal),
    generate: (request, signal) => generate(endpoint, request, signal),
  };
}

async function* generate(
  endpoint: OpenAiEndpoint,
  request: GenerateRequest,
  signal: AbortSignal,
): AsyncIterable<Chunk> {
  const body = toChatRequest(request);
  const events = streamEvents({
    endpoint,
    path: PATH,
    model: request.model,
    signal,
    send: (client) => client.chat.completions.create(body, { signal }),
  });
  for await (const event of events) yield event === undefined ? [] : toChatParts(event);
}

export function toChatRequest(request: GenerateRequest): ChatRequest {
  const { model, messages, tools, parallelToolCalls } = request;
  return {
    model,
    messages: messages.filter(isTold).map(toChatMessage),
    stream: true,
    stream_options: { include_usage: true },
    ...(tools.length === 0
      ? {}
      : {
          tools: tools.map((tool) => ({ type: 'function', function: toFunction(tool) })),
          parallel_tool_calls: parallelToolCalls,
        }),
  };
}

/** An answer with nothing in it says nothing, and some servers refuse it. */
function isTold(message: ProviderMessage): boolean {
  if (message.role !== 'assistant') return true;
  return message.message.text !== '' || message.message.tool_calls.length > 0;
}

function toChatMessage(message: ProviderMessage): ChatMessage {
  switch (message.role) {
    case 'system':
      return { role: 'system', content: message.text };
    case 'tool':
      return { role: 'tool', tool_call_id: message.call_id, content: message.text };
    case 'user':
      return { role: 'user', content: toChatContent(message.content) };
    case 'assistant': {
      const { text: content, tool_calls: calls } = message.message;
      if (calls.length === 0) return { role: 'assistant', content };
      return {
        role: 'assistant',
        content: content === '' ? null : content,
        tool_calls: calls.map(toWireCall).map(({ id, name, arguments: args }) => ({
          id,
          type: 'function',
          function: { name, arguments: args },
        })),
      };
    }
  }
}

/** Text alone is sent as a string: the form that every server understands. */
function toChatContent(
  content: Extract<ProviderMessage, { role: 'user' }>['content'],
): string | OpenAI.Chat.ChatCompletionContentPart[] {
  if (content.every((part) => part.type === 'text')) {
    return content.map((part) => part.text).join('\n');
  }
  return content.map((part) =>
    part.type === 'text' ? part : { type: 'image_url', image_url: { url: part.url } },
  );
}

/** The parts of one event. Throws PROVIDER_BAD_RESPONSE when it is none of this API. */
export function toChatParts(event: unknown): Chunk {
  const parsed = chunkSchema.safeParse(event);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
    throw createFailure('garbled', `the provider sent an event of an unknown shape (${where})`);
  }
  const { model, choices, usage } = parsed.data;
  const choice = choices?.[0];
  const parts: Part[] = [];
  if (model) parts.push({ kind: 'model', model });
  if (choice?.delta) parts.push(...toDeltaParts(choice.delta));
  if (usage) parts.push({ kind: 'usage', usage: toUsage(usage) });
  if (choice?.finish_reason) {
    parts.push({ kind: 'finish', reason: toFinishReason(choice.finish_reason) });
  }
  return parts;
}

function toDeltaParts(delta: z.infer<typeof deltaSchema>): readonly Part[] {
  const reasoning = delta.reasoning_content || delta.reasoning;
  const said = delta.content || delta.refusal;
  const parts: Part[] = [];
  if (reasoning) parts.push({ kind: 'reasoning', text: reasoning });
  if (said) parts.push({ kind: 'text', text: said });
  for (const [position, call] of (delta.tool_calls ?? []).entries()) {
    parts.push({
      kind: 'tool_call',
      index: call.index ?? position,
      ...(call.id ? { id: call.id } : {}),
      ...(call.function?.name ? { name: call.function.name } : {}),
      arguments: call.function?.arguments ?? '',
    });
  }
  return parts;
}

function toUsage(usage: z.infer<typeof usageSchema>): Usage {
  const cached = usage.prompt_tokens_details?.cached_tokens;
  const reasoning = usage.completion_tokens_details?.reasoning_tokens;
  return {
    input_tokens: usage.prompt_tokens ?? 0,
    output_tokens: usage.completion_tokens ?? 0,
    ...(cached ? { cached_input_tokens: cached } : {}),
    ...(reasoning ? { reasoning_tokens: reasoning } : {}),
  };
}

/** Words beyond the specification (eos, end_turn …) mean that the model was done; `error` (said
 *  by routers whose upstream broke) does not. */
function toFinishReason(reason: string): FinishReason {
  if (reason === 'error') {
    throw createFailure('stream_broken', 'the provider ended the stream with the reason "error"');
  }
  if (reason === 'length' || reason === 'max_tokens') return 'length';
  if (reason === 'content_filter') return 'content_filter';
  return reason === 'tool_calls' || reason === 'function_call' ? 'tool_calls' : 'stop';
}
