/** A real MCP host before a server of revision 2026-07-28 behind a URL: the SDK's own server, which
 *  has no connection to set up and refuses a request that does not say what it is. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { type McpTestHost, startMcpHost } from './mcp-harness.ts';

let web: Server;
let host: McpTestHost;
let seen: IncomingMessage[];

function createTestServer(): McpServer {
  const server = new McpServer({ name: 'newest', version: '1' });
  const region = z.string().meta({ 'x-mcp-header': 'Region' });
  server.registerTool('route', { inputSchema: z.object({ region }) }, ({ region: to }) => ({
    content: [{ type: 'text', text: `to ${to}` }],
  }));
  return server;
}

const unfit = { type: 'object', properties: { a: { type: 'string', 'x-mcp-header': 'no name' } } };
const question = { method: 'elicitation/create', params: { message: 'Your password?' } };

/** What the SDK's server would not say. */
function meddle(asked: string, answer: string): string {
  const { jsonrpc, id, result } = JSON.parse(answer);
  if (asked.includes('"tools/list"')) {
    const more = ['unfit', 'asks'].map((name) => ({ name, inputSchema: { type: 'object' } }));
    result.tools.push({ ...more[0], inputSchema: unfit }, more[1]);
    return JSON.stringify({ jsonrpc, id, result });
  }
  if (!asked.includes('"asks"')) return answer;
  const inputRequests = { confirm: question };
  return JSON.stringify({ jsonrpc, id, result: { resultType: 'input_required', inputRequests } });
}

beforeEach(async () => {
  seen = [];
  // The old revisions are refused: nothing here may be owed to them.
  const handler = createMcpHandler(createTestServer, { legacy: 'reject' });
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const headers = new Headers();
    for (const [name, value] of Object.entries(request.headers)) headers.set(name, String(value));
    const asked = new Request('http://localhost/mcp', { method: 'POST', headers, body });
    const answer = await handler.fetch(asked);
    response.writeHead(answer.status, { 'content-type': 'application/json' });
    response.end(meddle(body, await answer.text()));
  };
  web = createServer((request, response) => {
    seen.push(request);
    if (request.method === 'POST') void serve(request, response);
    else response.writeHead(405).end();
  });
  web.listen(0, '127.0.0.1');
  await once(web, 'listening');
  const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/mcp`;
  host = await startMcpHost('', { reach: { kind: 'url', url, within: [], headers: [] } });
});

afterEach(async () => {
  await host.close();
  web.closeAllConnections();
  await new Promise((resolve) => web.close(resolve));
});

describe('a server of the newest revision', () => {
  test('is asked what it is, and called with the headers that it wants', async () => {
    const { tools, problems } = await host.initialize();
    expect(tools.map(({ name }) => name)).toEqual(['asks', 'route']);
    expect(problems).toEqual([expect.stringMatching(/^"unfit": x-mcp-header of 'a' is no name/)]);
    const outcome = await host.call('route', { region: 'eu west ' });
    expect(outcome).toMatchObject({ status: 'ok', output: 'to eu west ' });
    expect(seen.at(-1)?.headers).toMatchObject({
      'mcp-method': 'tools/call',
      'mcp-name': 'route',
      'mcp-param-region': '=?base64?ZXUgd2VzdCA=?=',
      'mcp-protocol-version': '2026-07-28',
    });
  });

  test('that asks for input gets none, and stays', async () => {
    await host.initialize();
    expect(await host.call('asks')).toMatchObject({
      status: 'error',
      output: expect.stringContaining('it asked for input, which nobody gives'),
    });
    expect(await host.call('route', { region: 'eu' })).toMatchObject({ status: 'ok' });
  });
});
