/** An MCP server behind a URL on loopback, by hand, so that it can do what no SDK would. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Asked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly id: number | undefined;
}

export interface WebServer {
  readonly url: string;
  /** Ends what is open, too. */
  close(): Promise<void>;
}

export interface WebServerSpec {
  readonly tools: readonly object[];
  /** What each tool does with its call. */
  readonly answers: Readonly<Record<string, (asked: Asked) => void>>;
  /** True: it was answered already. */
  readonly before?: (asked: Asked, method: string) => boolean;
  /** What it does with the stream on which it may speak unasked; absent: it has none. */
  readonly stream?: (response: ServerResponse) => void;
  /** What comes back of requests that it made itself. */
  readonly onAnswer?: () => void;
}

type Message = { id?: number; method?: string; params?: { name?: string } };

export function reply({ response, id }: Asked, result: unknown): void {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ jsonrpc: '2.0', id, result }));
}

export async function startWebServer(spec: WebServerSpec): Promise<WebServer> {
  const web = createServer((request, response) => void serve(spec, request, response));
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(web.address() as AddressInfo).port}/mcp`,
    async close() {
      web.closeAllConnections();
      await new Promise((resolve) => web.close(resolve));
    },
  };
}

async function serve(
  { tools, answers, before, stream, onAnswer }: WebServerSpec,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method === 'GET' && stream !== undefined) return stream(response);
  if (request.method !== 'POST') return void response.writeHead(405).end();
  let body = '';
  for await (const chunk of request) body += String(chunk);
  const { id, method, params }: Message = JSON.parse(body);
  const asked = { request, response, id };
  if (method === undefined) {
    onAnswer?.();
    return void response.writeHead(202).end();
  }
  if (before?.(asked, method) === true) return;
  if (id === undefined) return void response.writeHead(202).end();
  if (method === 'initialize') {
    const serverInfo = { name: 'web', version: '1' };
    const capabilities = { tools: {} };
    return reply(asked, { protocolVersion: '2025-06-18', capabilities, serverInfo });
  }
  if (method === 'tools/list') return reply(asked, { tools });
  if (method === 'tools/call') return answers[params?.name ?? '']?.(asked);
  response.setHeader('content-type', 'application/json');
  const error = { code: -32601, message: `no ${method}` };
  response.end(JSON.stringify({ jsonrpc: '2.0', id, error }));
}
