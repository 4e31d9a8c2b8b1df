/** A real MCP host before a server that it reaches by a URL, on loopback: one that works, and the
 *  ways in which one may not. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type McpTestHost, startMcpHost } from './mcp-harness.ts';

let web: Server;
let url: string;
let elsewhere: string[];
let host: McpTestHost;

type Message = { id?: number; method: string; params: { name?: string; arguments?: unknown } };

const tools = ['echo', 'away', 'nearby', 'endless', 'drop', 'refuse', 'hang'].map((name) => ({
  name,
  inputSchema: { type: 'object' },
}));

function reply(response: ServerResponse, id: number | undefined, result: unknown): void {
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ jsonrpc: '2.0', id, result }));
}

const answers: Readonly<Record<string, (response: ServerResponse, id?: number) => void>> = {
  echo: (response, id) => reply(response, id, { content: [{ type: 'text', text: 'over HTTP' }] }),
  away: (response) =>
    void response.writeHead(307, { location: url.replace('127.0.0.1', 'localhost') }).end(),
  nearby: (response) => void response.writeHead(307, { location: `${url}/nearby` }).end(),
  drop: (response) => void response.destroy(),
  refuse: (response) => void response.writeHead(403).end('not you'),
  hang: () => undefined,
  endless(response) {
    response.writeHead(200, { 'content-type': 'application/json' });
    const more = (): void => {
      while (!response.destroyed && response.write(' '.repeat(1_000_000)));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  },
};

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.headers.host?.startsWith('localhost') === true) elsewhere.push(request.url ?? '');
  if (request.method !== 'POST') return void response.writeHead(405).end();
  let body = '';
  for await (const chunk of request) body += String(chunk);
  const { id, method, params }: Message = JSON.parse(body);
  if (request.url === '/mcp/nearby') return answers['echo']?.(response, id);
  if (id === undefined) return void response.writeHead(202).end();
  if (method === 'initialize') {
    const serverInfo = { name: 'web', version: '1' };
    return reply(response, id, {
      protocolVersion: '2025-06-18',
      capabilities: { tools: {} },
      serverInfo,
    });
  }
  if (method === 'tools/list') return reply(response, id, { tools });
  answers[params.name ?? '']?.(response, id);
}

beforeEach(async () => {
  elsewhere = [];
  web = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/mcp`;
  host = await startMcpHost('', { reach: { kind: 'url', url }, timeoutMs: 3000 });
});

afterEach(async () => {
  await host.close();
  web.closeAllConnections();
  await new Promise((resolve) => web.close(resolve));
});

describe('[config:mcp.servers.<name>.url] a server behind a URL', () => {
  test('has its tools, at level none, and every result says so', async () => {
    const report = await host.initialize();
    expect(report).toMatchObject({ level: 'none', problems: [] });
    expect(report.tools).toHaveLength(tools.length);
    expect(await host.call('echo')).toMatchObject({
      status: 'ok',
      output: 'over HTTP',
      level: 'none',
      notice: expect.stringContaining('nothing here confines'),
    });
  });

  test('may send us on within its origin, and nowhere else', async () => {
    await host.initialize();
    expect(await host.call('nearby')).toMatchObject({ status: 'ok', output: 'over HTTP' });
    expect(await host.call('away')).not.toMatchObject({ status: 'ok' });
    expect(elsewhere).toEqual([]);
  });

  test('that refuses has not run anything, and stays', async () => {
    await host.initialize();
    expect(await host.call('refuse')).toMatchObject({ status: 'error' });
    expect(await host.call('echo')).toMatchObject({ status: 'ok' });
  });

  test.each(['drop', 'endless'])('that answers with a %s is gone', async (tool) => {
    await host.initialize();
    expect(await host.call(tool)).toMatchObject({ status: 'indeterminate' });
    await host.ending;
    expect(await host.process.exited).toEqual({ code: 0, signal: undefined });
  });

  test('that does not answer is given up at the limit', async () => {
    await host.initialize();
    expect(await host.call('hang')).toMatchObject({ status: 'timeout' });
    expect(await host.call('echo')).toMatchObject({ status: 'ok' });
  });

  test('that is not there says so', async () => {
    web.closeAllConnections();
    await new Promise((resolve) => web.close(resolve));
    await expect(host.initialize()).rejects.toMatchObject({
      code: 'MCP_UNAVAILABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });
});
