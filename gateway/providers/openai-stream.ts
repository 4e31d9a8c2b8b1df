/** What both APIs share: one request, a stream of events, and every way it can go wrong as a
 *  failure of ours. */
import type { OpenAI } from 'openai';
import { z } from 'zod';
import type { ModelToolCall } from '../../protocol/content.ts';
import type { ToolSpec } from '../../protocol/tools.ts';
import { createFailure } from '../failures.ts';
import { toQuote } from '../redact.ts';
import type { OpenAiEndpoint } from './openai-endpoint.ts';
import { type RequestContext, toOpenAiFailure } from './openai-failures.ts';

/** Far beyond any context window. */
const TOKENS_MAX = 1e9;

/** Tokens of one request. What is no such number is taken as not told: it must not cost an answer
 *  that was paid for, take something from the bill, or be more than anybody can spend. */
export const tokenCount = z.number().min(0).max(TOKENS_MAX).nullish().catch(undefined);

export interface StreamSpec {
  readonly endpoint: OpenAiEndpoint;
  readonly path: string;
  readonly model: string;
  readonly signal: AbortSignal;
  /** Sends the request. */
  readonly send: (client: OpenAI) => {
    withResponse(): Promise<{ data: AsyncIterable<unknown>; response: Response }>;
  };
}

/** The events, after one `undefined` for the response headers. Throws the errors of failures.ts;
 *  ends silently when the signal aborts in mid-stream. */
export async function* streamEvents(spec: StreamSpec): AsyncIterable<unknown> {
  const { endpoint, path, model } = spec;
  const context: RequestContext = { endpoint, path, model, begun: false };
  let begun = false;
  let eventCount = 0;
  try {
    const client = await endpoint.open();
    const { data, response } = await spec.send(client).withResponse();
    begun = true;
    await refuseDocument(response, context);
    yield undefined;
    for await (const event of data) {
      eventCount += 1;
      yield event;
    }
  } catch (error) {
    throw toOpenAiFailure(error, { ...context, begun });
  }
  if (eventCount === 0 && !spec.signal.aborted) {
    const message = `${endpoint.target}${path} (model ${model}) answered with an empty stream`;
    throw createFailure('stream_broken', message);
  }
}

/** A page or a whole document in place of a stream: the SDK would see no event in it and end as
 *  if all were well. */
async function refuseDocument(response: Response, context: RequestContext): Promise<void> {
  const type = response.headers.get('content-type') ?? '';
  if (!/html|json/i.test(type) || response.body === null) return;
  const { value } = await response.body.getReader().read();
  const start = Buffer.from(value ?? []).toString('utf8', 0, 1000);
  const { endpoint, path, model = '' } = context;
  const message = `${endpoint.target}${path} (model ${model}) answered ${response.status} with \
${toQuote(type, 60)} in place of a stream: ${toQuote(endpoint.redact(start), 200)}; check \
provider.base_url (most end in /v1)`;
  throw createFailure('not_a_stream', message);
}

export async function listOpenAiModels(
  endpoint: OpenAiEndpoint,
  signal: AbortSignal,
): Promise<readonly string[]> {
  try {
    const client = await endpoint.open();
    const page: { readonly data: unknown } = await client.models.list({ signal });
    const models: readonly unknown[] = Array.isArray(page.data) ? page.data : [];
    return models.flatMap((model) => {
      const id: unknown =
        typeof model === 'object' && model !== null ? Reflect.get(model, 'id') : 0;
      return typeof id === 'string' ? [id] : [];
    });
  } catch (error) {
    throw toOpenAiFailure(error, { endpoint, path: '/models', begun: false });
  }
}

export function toFunction(tool: ToolSpec): {
  name: string;
  description: string;
  parameters: Record<string, unknown>;
} {
  return { name: tool.name, description: tool.description, parameters: tool.parameters };
}

/** A call as it may stand in a transcript that is sent back. What a model made up (a name with
 *  spaces, arguments cut off in the middle) many servers refuse, and would refuse for ever. */
export function toWireCall(call: ModelToolCall): ModelToolCall {
  const name = call.name.replace(/[^\w-]/g, '_').slice(0, 64);
  const args = isJsonObject(call.arguments)
    ? call.arguments
    : JSON.stringify({ unparsed: call.arguments });
  return { id: call.id, name: name === '' ? 'unknown' : name, arguments: args };
}

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    // No JSON: the question is answered.
    return false;
  }
}
