/** A Chat Completions server inside the measuring process, so that what it sees and what a client
 *  of ours sees are stamped by one clock. What it answers, the measurement decides per request. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ModelRequest {
  /** When its head was read. */
  readonly atMs: number;
  /** Text of the newest user message. */
  readonly prompt: string;
  /** Model calls of this turn before this one. */
  readonly step: number;
}

export interface Reply {
  say(text: string): void;
  callTool(name: string, args: unknown): void;
  /** Ends the answer; the time right before its last bytes are written. */
  end(): number;
}

export type Answer = (request: ModelRequest, reply: Reply) => void | Promise<void>;

export interface Provider {
  readonly port: number;
  readonly url: string;
  /** How to answer from now on; at first with one word. */
  answer: Answer;
  close(): Promise<void>;
}

export async function startProvider(): Promise<Provider> {
  const server = createServer((request, response) => {
    const atMs = performance.now();
    serve(provider.answer, { request, response, atMs }).catch((error: unknown) => {
      process.stderr.write(`bench: the provider failed: ${String(error)}\n`);
      response.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const provider: Provider = {
    port,
    url: `http://127.0.0.1:${port}/v1`,
    answer(_request, reply) {
      reply.say('done');
      reply.end();
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return provider;
}

interface Served {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly atMs: number;
}

async function serve(answer: Answer, { request, response, atMs }: Served): Promise<void> {
  let body = '';
  for await (const chunk of request) body += String(chunk);
  if (request.method !== 'POST') {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ object: 'list', data: [{ id: 'bench', object: 'model' }] }));
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.socket?.setNoDelay(true);
  const { prompt, step } = readMessages(body);
  await answer({ atMs, prompt, step }, createReply(response, step));
}

interface Message {
  readonly role: string;
  readonly content?: string | readonly { readonly text?: string }[] | null;
}

function readMessages(body: string): { prompt: string; step: number } {
  const { messages } = JSON.parse(body) as { messages: readonly Message[] };
  const lastUser = messages.findLastIndex(({ role }) => role === 'user');
  const content = messages[lastUser]?.content ?? '';
  const prompt = typeof content === 'string' ? content : content.map(({ text }) => text).join('');
  const step = messages.slice(lastUser).filter(({ role }) => role === 'assistant').length;
  return { prompt, step };
}

const CHUNK = { id: 'c', object: 'chat.completion.chunk', created: 0, model: 'bench' };

function createReply(response: ServerResponse, step: number): Reply {
  let finish = 'stop';
  const toFrame = (fields: object): string =>
    `data: ${JSON.stringify({ ...CHUNK, ...fields })}\n\n`;
  const toDelta = (delta: object, reason: string | null): string =>
    toFrame({ choices: [{ index: 0, delta, finish_reason: reason }] });
  return {
    say: (content) => void response.write(toDelta({ content }, null)),
    callTool(name, args) {
      finish = 'tool_calls';
      const called = { name, arguments: JSON.stringify(args) };
      const call = { index: 0, id: `call_${step}`, type: 'function', function: called };
      response.write(toDelta({ tool_calls: [call] }, null));
    },
    end() {
      const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };
      const last = toDelta({}, finish) + toFrame({ choices: [], usage });
      const endMs = performance.now();
      response.end(`${last}data: [DONE]\n\n`);
      return endMs;
    },
  };
}
