/** What OpenAI clients send. Three kinds of parameters: those that mean something here; those that
 *  belong to the agent (sampling, limits), which are taken and have no effect, as clients send
 *  them unasked; and those that would change the meaning of the answer, which are refused by name.
 *  Anything else is unknown, and refused as OpenAI itself does. */
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import { type ContentPart, isBlank } from '../../protocol/content.ts';

const model = z.string().min(1).max(64).describe('Name of an agent; see /v1/models.');
const unused = z.unknown().optional();

/** Set by the agent and its provider, not by the client. */
const agentOwned = {
  temperature: unused,
  top_p: unused,
  seed: unused,
  user: unused,
  safety_identifier: unused,
  prompt_cache_key: unused,
  prompt_cache_retention: unused,
  service_tier: unused,
  parallel_tool_calls: unused,
  store: unused,
  verbosity: unused,
};

/** Tools are the agent's: what a client would run itself cannot be asked for. An empty list, or
 *  one of the words that mean "no such thing" there, passes. */
function absent(
  name: string,
  hint: string,
  words: readonly unknown[] = [],
): z.ZodOptional<z.ZodUnknown> {
  const message = `'${name}' is not supported: ${hint}`;
  const isNothing = (value: unknown): boolean =>
    value == null || words.includes(value) || (Array.isArray(value) && value.length === 0);
  return z.unknown().refine(isNothing, { message }).optional();
}

const tools = absent('tools', 'the tools of an agent are set in its configuration');
const toolChoice = absent('tool_choice', 'the agent decides', ['none', 'auto']);

const textPartSchema = z.looseObject({
  type: z.enum(['text', 'input_text', 'output_text']),
  text: z.string(),
});
const chatImageSchema = z.looseObject({
  type: z.literal('image_url'),
  image_url: z.looseObject({ url: z.string() }),
});
const inputImageSchema = z.looseObject({ type: z.literal('input_image'), image_url: z.string() });
const refusalSchema = z.looseObject({ type: z.literal('refusal'), refusal: z.string() });

const partSchema = z.union([textPartSchema, chatImageSchema, inputImageSchema, refusalSchema]);
const contentSchema = z.union([z.string().max(8_000_000), z.array(partSchema).max(64)]).nullish();

const roleSchema = z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']);

export interface Message {
  readonly role: z.infer<typeof roleSchema>;
  readonly content?: z.infer<typeof contentSchema>;
}

const MESSAGES_MAX = 10_000;

export const chatRequestSchema = z.strictObject({
  model,
  messages: z
    .array(z.looseObject({ role: roleSchema, content: contentSchema }))
    .min(1)
    .max(MESSAGES_MAX),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().optional() }).nullish(),
  metadata: unused,
  n: z.literal(1).nullish(),
  tools,
  tool_choice: toolChoice,
  functions: absent('functions', 'the tools of an agent are set in its configuration'),
  function_call: toolChoice,
  stop: absent('stop', 'an agent runs to the end of its turn'),
  logprobs: z.literal(false).nullish(),
  top_logprobs: z.literal(0).nullish(),
  logit_bias: unused,
  response_format: z.looseObject({ type: z.literal('text') }).nullish(),
  modalities: z.array(z.literal('text')).nullish(),
  max_tokens: unused,
  max_completion_tokens: unused,
  presence_penalty: unused,
  frequency_penalty: unused,
  reasoning_effort: unused,
  ...agentOwned,
});

const messageItemSchema = z.looseObject({
  type: z.literal('message').optional(),
  role: roleSchema,
  content: contentSchema,
});
const approvalItemSchema = z.looseObject({
  type: z.literal('mcp_approval_response'),
  approval_request_id: z.string().min(1).max(128),
  approve: z.boolean(),
  reason: z.string().max(2000).nullish(),
});
export type ApprovalItem = z.infer<typeof approvalItemSchema>;
/** What a response of this door had among its output, handed back as history. */
const callItemSchema = z.looseObject({
  type: z.enum(['mcp_call', 'mcp_approval_request']),
  name: z.string(),
  arguments: z.string(),
  output: z.string().nullish(),
  error: z.string().nullish(),
});

export const responseRequestSchema = z.strictObject({
  model: model.optional(),
  input: z.union([
    z.string().min(1).max(8_000_000),
    z
      .array(z.union([approvalItemSchema, callItemSchema, messageItemSchema]))
      .min(1)
      .max(MESSAGES_MAX),
  ]),
  instructions: z.string().max(1_000_000).nullish(),
  previous_response_id: z.string().max(128).nullish(),
  stream: z.boolean().nullish(),
  stream_options: unused,
  background: z.boolean().nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  tools,
  tool_choice: toolChoice,
  text: z.looseObject({ format: z.looseObject({ type: z.literal('text') }).optional() }).nullish(),
  conversation: absent('conversation', 'continue with previous_response_id or X-Prx-Session'),
  prompt: absent('prompt', 'the prompt of an agent is set in its configuration'),
  include: unused,
  reasoning: unused,
  truncation: unused,
  max_output_tokens: unused,
  max_tool_calls: unused,
  top_logprobs: unused,
  ...agentOwned,
});
export type ResponseRequest = z.infer<typeof responseRequestSchema>;

/** An item as somebody's words; undefined for an answer to an approval. */
export function toMessage(
  item: Message | z.infer<typeof callItemSchema> | ApprovalItem,
): Message | undefined {
  if (isMessage(item)) return item;
  if ('approve' in item) return undefined;
  const { name, arguments: args, output, error } = item;
  const outcome = output ?? error;
  return { role: 'tool', content: `${name} ${args}${outcome == null ? '' : `\n${outcome}`}` };
}

function isMessage(item: object): item is Message {
  return 'role' in item;
}

export interface Saying {
  /** The session holds the conversation so far. */
  readonly isContinued: boolean;
  /** The parameter that has the messages. */
  readonly param: 'messages' | 'input';
}

/** The input of a turn: what the client says now, behind what it says was said before. A session
 *  that already holds the conversation needs only the messages after the last answer; a new one
 *  gets the earlier ones too, as one text, because only an agent itself can have said something.
 *  @throws INVALID_REQUEST when nothing is said. */
export function toContent(
  messages: readonly Message[],
  { isContinued, param }: Saying,
): ContentPart[] {
  const lastAnswer = messages.findLastIndex(({ role }) => !isAsking(role));
  const now = messages.slice(lastAnswer + 1);
  const said = now.filter(({ role }) => role === 'user');
  if (said.length === 0) throw refuse('the last message must be one of the role user', param);
  if (isBlank(said.flatMap(toParts))) throw refuse('the message is empty; say something', param);
  const before = isContinued ? [] : messages.slice(0, lastAnswer + 1);
  const told = before.map((message) => `${message.role}: ${toText(message)}`);
  const preface: ContentPart[] =
    told.length === 0
      ? []
      : [{ type: 'text', text: `The conversation so far:\n\n${told.join('\n\n')}\n\nNow:` }];
  return [...preface, ...now.flatMap(toParts)];
}

function refuse(message: string, param: Saying['param']): PrxError {
  return new PrxError('INVALID_REQUEST', message, { data: { param } });
}

function isAsking(role: Message['role']): boolean {
  return role === 'user' || role === 'system' || role === 'developer';
}

function toParts({ content, role }: Message): ContentPart[] {
  const parts = typeof content === 'string' ? [{ type: 'text' as const, text: content }] : content;
  return (parts ?? []).flatMap((part): ContentPart[] => {
    if (part.type === 'refusal') return [];
    if (part.type === 'image_url') return [{ type: 'image_url', url: part.image_url.url }];
    if (part.type === 'input_image') return [{ type: 'image_url', url: part.image_url }];
    const text = role === 'user' ? part.text : `Instructions: ${part.text}`;
    return text === '' ? [] : [{ type: 'text', text }];
  });
}

function toText(message: Message): string {
  const parts = toParts({ ...message, role: 'user' });
  return parts.map((part) => (part.type === 'text' ? part.text : '(an image)')).join('\n');
}
