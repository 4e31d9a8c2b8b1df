/** A Chat Completions server on loopback that does what the last user message says, token by
 *  token, and counts what it was asked. It exists beside the mock we did not write because these
 *  tests hold a stream open at an exact token.
 *
 *  The user message is JSON: a list of steps, one for each model call of the turn:
 *    {"say": "a b c", "holdAfter": 2}   streams the words; after two of them it waits for release()
 *                                       ("everyMs": 5 waits between two words)
 *    {"refuse": "why"}                  answers 400
 *    {"tool": "shell", "arguments": {…}}  one tool call ({"tools": […]} for several)  */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

const toolSchema = z.object({ tool: z.string(), arguments: z.unknown() });
const stepSchema = z.union([
  z.object({
    say: z.string(),
    holdAfter: z.number().optional(),
    everyMs: z.number().optional(),
  }),
  toolSchema,
  z.object({ refuse: z.string() }),
  z.object({ tools: z.array(toolSchema) }),
]);
type Step = z.infer<typeof stepSchema>;

const requestSchema = z.object({
  tools: z.array(z.object({ function: z.object({ name: z.string() }) })).default([]),
  messages: z.array(
    z.object({
      role: z.string(),
      content: z.union([z.string(), z.array(z.object({ text: z.string() })), z.null()]).optional(),
    }),
  ),
});

export interface ScriptedProvider {
  readonly url: string;
  /** Requests seen, oldest first: the index of the step each one asked for. */
  readonly requests: readonly number[];
  /** The Authorization header of each of them. */
  readonly authorizations: readonly (string | undefined)[];
  /** Names of the tools that the newest request offered. */
  offered(): readonly string[];
  /** The newest request, as it came. */
  body(): string;
  /** Streams whose client went away before their end. */
  readonly abandoned: () => number;
  /** Resolves when the stream of the n-th request (from 1) is held. */
  held(request: number): Promise<void>;
  /** Lets every stream that is held, or will be, go on. */
  release(): void;
  close(): Promise<void>;
}

/** The config of a supervisor whose model it is.
 *  @param level  of its log. @param more  further tables. */
export const toScriptedConfig = (
  { url }: ScriptedProvider,
  { level = 'error', more = '' }: { level?: 'error' | 'warn'; more?: string } = {},
): string => `
  [agent]
  model = "scripted"
  [provider]
  base_url = "${url}"
  [log]
  level = "${level}"
  ${more}
`;

export async function startScriptedProvider(): Promise<ScriptedProvider> {
  const requests: number[] = [];
  const authorizations: (string | undefined)[] = [];
  let abandoned = 0;
  let offered: readonly string[] = [];
  let newest = '';
  const heldRequests = new Set<number>();
  const heldWaiters = new Map<number, () => void>();
  let open: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url?.endsWith('/models')) {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ object: 'list', data: [{ id: 'scripted', object: 'model' }] }));
      return;
    }
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const { step, index, tools } = chooseStep(body);
    offered = tools;
    newest = body;
    requests.push(index);
    authorizations.push(request.headers.authorization);
    const number = requests.length;
    response.once('close', () => {
      if (!response.writableEnded) abandoned += 1;
    });
    if ('refuse' in step) {
      response.writeHead(400, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { message: step.refuse } }));
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (delta: unknown, finish: string | null): void => {
      const choice = { index: 0, delta, finish_reason: finish };
      response.write(`data: ${JSON.stringify({ ...chunkHead, choices: [choice] })}\n\n`);
    };
    if ('say' in step) {
      const words = step.say.split(' ');
      for (const [at, word] of words.entries()) {
        if (at === step.holdAfter) {
          heldRequests.add(number);
          heldWaiters.get(number)?.();
          await gate;
        }
        send({ content: at === 0 ? word : ` ${word}` }, null);
        // One word a loop turn: each is a chunk of its own on the wire.
        const { everyMs } = step;
        if (everyMs === undefined) await new Promise((resolve) => setImmediate(resolve));
        else await new Promise((resolve) => setTimeout(resolve, everyMs));
      }
      send({}, 'stop');
    } else {
      const calls = 'tools' in step ? step.tools : [step];
      const tool_calls = calls.map((call, at) => ({
        index: at,
        id: `call_${index}_${at}`,
        type: 'function',
        function: { name: call.tool, arguments: JSON.stringify(call.arguments) },
      }));
      send({ tool_calls }, null);
      send({}, 'tool_calls');
    }
    const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };
    response.write(`data: ${JSON.stringify({ ...chunkHead, choices: [], usage })}\n\n`);
    response.end('data: [DONE]\n\n');
  }

  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    requests,
    authorizations,
    offered: () => offered,
    body: () => newest,
    abandoned: () => abandoned,
    held: (request) =>
      heldRequests.has(request)
        ? Promise.resolve()
        : new Promise((resolve) => heldWaiters.set(request, resolve)),
    release: () => open(),
    async close() {
      open();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const chunkHead = { id: 'c', object: 'chat.completion.chunk', created: 0, model: 'scripted' };

function chooseStep(body: string): { step: Step; index: number; tools: readonly string[] } {
  const { messages, tools } = requestSchema.parse(JSON.parse(body));
  const lastUser = messages.findLastIndex((message) => message.role === 'user');
  const index = messages.slice(lastUser).filter((message) => message.role === 'assistant').length;
  const content = messages[lastUser]?.content ?? '';
  const text = typeof content === 'string' ? content : content.map((part) => part.text).join('');
  const script = z.array(stepSchema).parse(JSON.parse(text));
  const step = script[index];
  if (step === undefined) throw new RangeError(`the script has no step ${index}`);
  return { step, index, tools: tools.map((tool) => tool.function.name) };
}
