/** The scripted model: a Chat Completions server on loopback that answers each request with the
 *  step its prompt asks for, fails where the script says so, judges every transcript, and counts.
 *  What it saw is the outside truth that the journal is compared with. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { ProviderFault, StepScript } from './script.ts';
import { judgeRequest, type StepQuestion } from './transcript.ts';

export interface ServedRequest {
  /** Of the script; '' where the request asks for none. */
  readonly key: string;
  readonly index: number;
  readonly wallMs: number;
  readonly fault: ProviderFault | undefined;
  readonly problems: readonly string[];
}

export interface ModelServer {
  readonly url: string;
  readonly requests: readonly ServedRequest[];
  close(): Promise<void>;
}

/** A stall is silence beyond every timeout in our config; the server ends it at last. */
const STALL_MS = 8000;
const BODY_BYTES_MAX = 32 * 2 ** 20;

export async function startModelServer(clock: Clock): Promise<ModelServer> {
  const requests: ServedRequest[] = [];
  const seen = new Map<string, number>();

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url?.endsWith('/models')) {
      sendJson(response, 200, { object: 'list', data: [{ id: 'chaos', object: 'model' }] });
      return;
    }
    const { question, problems } = judgeRequest(await readBody(request));
    const key = question?.script.chaos ?? '';
    const index = question?.index ?? -1;
    const place = `${key}/${index}`;
    const before = seen.get(place) ?? 0;
    seen.set(place, before + 1);
    const fault = question?.step.faults[before];
    requests.push({ key, index, wallMs: clock.wallMs(), fault, problems });
    if (question === undefined) sendJson(response, 400, toError('not a script of ours'));
    else await perform({ clock, response, question, fault });
  }

  const server = createServer((request, response) => {
    response.on('error', () => undefined);
    // A client that is killed while it asks: there is nobody left to answer.
    answer(request, response).catch(() => response.destroy());
  });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}/v1`,
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Performance {
  readonly clock: Clock;
  readonly response: ServerResponse;
  readonly question: StepQuestion;
  readonly fault: ProviderFault | undefined;
}

async function perform({ clock, response, question, fault }: Performance): Promise<void> {
  if (fault === 'rate_limit') {
    response.setHeader('retry-after-ms', '150');
    sendJson(response, 429, toError('slow down'));
    return;
  }
  if (fault === 'overload') {
    sendJson(response, 500, toError('overloaded'));
    return;
  }
  const { step, script, index } = question;
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const words = step.say === '' ? [] : step.say.split(' ');
  const whole = fault === undefined ? words.length : Math.floor(words.length / 2);
  for (const [at, word] of words.slice(0, whole).entries()) {
    sendChunk(response, { content: at === 0 ? word : ` ${word}` }, null);
    if (step.pauseMs > 0) await clock.sleep(step.pauseMs);
  }
  if (fault === 'stall') await clock.sleep(STALL_MS);
  if (fault !== undefined) {
    response.destroy();
    return;
  }
  if (step.calls.length > 0) sendChunk(response, toCalls(step, `${script.chaos}.${index}`), null);
  sendChunk(response, {}, step.calls.length > 0 ? 'tool_calls' : 'stop');
  const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };
  response.write(`data: ${JSON.stringify({ ...chunkHead, choices: [], usage })}\n\n`);
  response.end('data: [DONE]\n\n');
}

const chunkHead = { id: 'c', object: 'chat.completion.chunk', created: 0, model: 'chaos' };

function sendChunk(response: ServerResponse, delta: unknown, finish: string | null): void {
  if (response.destroyed) return;
  const choice = { index: 0, delta, finish_reason: finish };
  response.write(`data: ${JSON.stringify({ ...chunkHead, choices: [choice] })}\n\n`);
}

function toCalls(step: StepScript, name: string): { tool_calls: unknown[] } {
  const tool_calls = step.calls.map((call, at) => ({
    index: at,
    id: `call_${name}_${at}`.replaceAll('.', '_'),
    type: 'function',
    function: { name: call.tool, arguments: JSON.stringify(call.arguments) },
  }));
  return { tool_calls };
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

function toError(message: string): unknown {
  return { error: { message, type: 'server_error', code: null } };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let byteCount = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    byteCount += chunk.length;
    if (byteCount > BODY_BYTES_MAX) throw new RangeError('a scripted transcript is small');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  // A server that listens on TCP has an address of this shape.
  return (server.address() as AddressInfo).port;
}
