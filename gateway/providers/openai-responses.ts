/** The Responses API, stateless: nothing is stored at the provider, each request carries the whole
 *  transcript, as with Chat Completions. Events that say nothing new are passed over. */
import type { OpenAI } from 'openai';
import { z } from 'zod';
import type { FinishReason, ProviderMessage, Usage } from '../../protocol/content.ts';
import { createFailure } from '../failures.ts';
import { toQuote } from '../redact.ts';
import type { OpenAiEndpoint } from './openai-endpoint.ts';
import {
  listOpenAiModels,
  streamEvents,
  toFunction,
  tokenCount,
  toWireCall,
} from './openai-stream.ts';
import type { Chunk, GenerateRequest, Part, Provider } from './provider.ts';

type ResponsesRequest = OpenAI.Responses.ResponseCreateParamsStreaming;
type InputItem = OpenAI.Responses.ResponseInputItem;

const PATH = '/responses';

export function createResponsesProvider(endpoint: OpenAiEndpoint): Provider {
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
  const body = toResponsesRequest(request);
  const events = streamEvents({
    endpoint,
    path: PATH,
    model: request.model,
    signal,
    send: (client) => client.responses.create(body, { signal }),
  });
  for await (const event of events) {
    yield event === undefined ? [] : toResponsesParts(event, endpoint.redact);
  }
}

export function toResponsesRequest(request: GenerateRequest): ResponsesRequest {
  const { model, messages, tools, parallelToolCalls } = request;
  return {
    model,
    input: messages.flatMap(toInputItems),
    stream: true,
    store: false,
    ...(tools.length === 0
      ? {}
      : {
          tools: tools.map((tool) => ({ type: 'function', strict: false, ...toFunction(tool) })),
          parallel_tool_calls: parallelToolCalls,
        }),
  };
}

function toInputItems(message: ProviderMessage): readonly InputItem[] {
  switch (message.role) {
    case 'system':
      return [{ type: 'message', role: 'system', content: message.text }];
    case 'user':
      return [{ type: 'message', role: 'user', content: message.content.map(toInputContent) }];
    case 'tool':
      return [{ type: 'function_call_output', call_id: message.call_id, output: message.text }];
    case 'assistant': {
      const { text, tool_calls: calls } = message.message;
      const said: readonly InputItem[] =
        text === '' ? [] : [{ type: 'message', role: 'assistant', content: text }];
      const items = calls.map(toWireCall).map(({ id, name, arguments: args }) => ({
        type: 'function_call' as const,
        call_id: id,
        name,
        arguments: args,
      }));
      return [...said, ...items];
    }
  }
}

function toInputContent(
  part: Extract<ProviderMessage, { role: 'user' }>['content'][number],
): OpenAI.Responses.ResponseInputContent {
  if (part.type === 'text') return { type: 'input_text', text: part.text };
  return { type: 'input_image', image_url: part.url, detail: 'auto' };
}

const delta = z.string();

const usageSchema = z.object({
  input_tokens: tokenCount,
  output_tokens: tokenCount,
  input_tokens_details: z.object({ cached_tokens: tokenCount }).nullish().catch(undefined),
  output_tokens_details: z.object({ reasoning_tokens: tokenCount }).nullish().catch(undefined),
});

const problemSchema = z.object({ code: z.unknown(), message: z.string().nullish() });

const responseSchema = z.object({
  status: z.string().nullish(),
  model: z.string().nullish(),
  usage: usageSchema.nullish().catch(undefined),
  incomplete_details: z.object({ reason: z.string().nullish() }).nullish(),
  error: problemSchema.nullish(),
});

const itemSchema = z.object({
  type: z.string(),
  call_id: z.string().nullish(),
  name: z.string().nullish(),
  arguments: z.string().nullish(),
});

const response = responseSchema;
const eventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('response.created'), response }),
  z.object({ type: z.literal('response.output_text.delta'), delta }),
  z.object({ type: z.literal('response.refusal.delta'), delta }),
  z.object({ type: z.literal('response.reasoning_summary_text.delta'), delta }),
  z.object({ type: z.literal('response.reasoning_text.delta'), delta }),
  z.object({
    type: z.literal('response.output_item.added'),
    output_index: z.number(),
    item: itemSchema,
  }),
  z.object({
    type: z.literal('response.function_call_arguments.delta'),
    output_index: z.number(),
    delta,
  }),
  z.object({ type: z.literal('response.completed'), response }),
  z.object({ type: z.literal('response.incomplete'), response }),
  z.object({ type: z.literal('response.failed'), response }),
  z.object({ type: z.literal('error'), ...problemSchema.shape }),
]);

type ResponsesEvent = z.infer<typeof eventSchema>;
const KNOWN_TYPES: ReadonlySet<unknown> = new Set(
  eventSchema.options.flatMap((option) => [...option.shape.type.values]),
);

/** The parts of one event. Throws PROVIDER_BAD_RESPONSE when it is none of this API, and
 *  PROVIDER_STREAM_BROKEN when it reports a failure. */
export function toResponsesParts(event: unknown, redact: (text: string) => string): Chunk {
  const type: unknown =
    typeof event === 'object' && event !== null ? Reflect.get(event, 'type') : 0;
  if (typeof type === 'string' && !KNOWN_TYPES.has(type)) return [];
  const parsed = eventSchema.safeParse(event);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
    throw createFailure('garbled', `the provider sent an event of an unknown shape (${where})`);
  }
  return toParts(parsed.data, redact);
}

function toParts(event: ResponsesEvent, redact: (text: string) => string): Chunk {
  switch (event.type) {
    case 'response.created':
      return event.response.model ? [{ kind: 'model', model: event.response.model }] : [];
    case 'response.output_text.delta':
    case 'response.refusal.delta':
      return [{ kind: 'text', text: event.delta }];
    case 'response.reasoning_summary_text.delta':
    case 'response.reasoning_text.delta':
      return [{ kind: 'reasoning', text: event.delta }];
    case 'response.output_item.added':
      return toCallStart(event.output_index, event.item);
    case 'response.function_call_arguments.delta':
      return [{ kind: 'tool_call', index: event.output_index, arguments: event.delta }];
    case 'response.completed':
      return toEnd(event.response, event.response.status === 'incomplete');
    case 'response.incomplete':
      return toEnd(event.response, true);
    case 'response.failed':
      throw toReported(event.response.error ?? {}, redact);
    case 'error':
      throw toReported(event, redact);
  }
}

function toCallStart(index: number, item: z.infer<typeof itemSchema>): Chunk {
  if (item.type !== 'function_call') return [];
  return [
    {
      kind: 'tool_call',
      index,
      ...(item.call_id ? { id: item.call_id } : {}),
      ...(item.name ? { name: item.name } : {}),
      arguments: item.arguments ?? '',
    },
  ];
}

function toEnd(ended: z.infer<typeof responseSchema>, incomplete: boolean): Chunk {
  const parts: Part[] = [];
  if (ended.model) parts.push({ kind: 'model', model: ended.model });
  if (ended.usage) parts.push({ kind: 'usage', usage: toUsage(ended.usage) });
  const reason = incomplete ? toIncompleteReason(ended.incomplete_details?.reason) : 'stop';
  parts.push({ kind: 'finish', reason });
  return parts;
}

function toIncompleteReason(reason: string | null | undefined): FinishReason {
  return reason === 'content_filter' ? 'content_filter' : 'length';
}

function toUsage(usage: z.infer<typeof usageSchema>): Usage {
  const cached = usage.input_tokens_details?.cached_tokens;
  const reasoning = usage.output_tokens_details?.reasoning_tokens;
  return {
    input_tokens: usage.input_tokens ?? 0,
    output_tokens: usage.output_tokens ?? 0,
    ...(cached ? { cached_input_tokens: cached } : {}),
    ...(reasoning ? { reasoning_tokens: reasoning } : {}),
  };
}

function toReported(
  problem: { readonly code?: unknown; readonly message?: string | null | undefined },
  redact: (text: string) => string,
): Error {
  const code = String(problem.code ?? 'unknown');
  const words = toQuote(redact(`${code}: ${problem.message ?? 'no message'}`));
  return createFailure('stream_broken', `the provider broke off its answer: ${words}`);
}
