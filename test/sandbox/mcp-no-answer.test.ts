/** A real MCP host before a server behind a URL whose answers are none: each costs its call at
 *  once, says what came, and leaves the server to the others. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { type McpTestHost, startMcpHost } from './mcp-harness.ts';
import { type Asked, reply, startWebServer, type WebServer } from './mcp-web.ts';

let host: McpTestHost | undefined;
let web: WebServer | undefined;

afterEach(async () => {
  await host?.close();
  await web?.close();
  host = undefined;
  web = undefined;
});

type Answer = (asked: Asked) => void;

const json =
  (toBody: (id: number | undefined) => unknown): Answer =>
  ({ response, id }) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(toBody(id)));
  };

const stream =
  (text: string): Answer =>
  ({ response }) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end(text);
  };

const sent =
  (status: number, headers: Readonly<Record<string, string>> = {}): Answer =>
  ({ response }) =>
    void response.writeHead(status, headers).end();

const NOT_KNOWN = 'whether it had its effect is not known';

const unclear: Readonly<Record<string, readonly [Answer, string]>> = {
  number: [json((id) => ({ jsonrpc: '2.0', id, result: 5 })), 'no JSON-RPC message'],
  unworded: [
    json((id) => ({ jsonrpc: '2.0', id, error: { code: -1 } })),
    'its answer is no JSON-RPC message',
  ],
  page: [({ response }) => void response.end('<html>'), 'Unexpected content type'],
  broken: [sent(502), 'HTTP 502'],
  elsewhere: [sent(303, { location: '/result' }), 'HTTP 303'],
  silent: [stream(': nothing\n\n'), 'the stream of its answer ended without one'],
  odd: [stream('data: {"jsonrpc":"2.0","id":1,"result":5}\n\n'), 'ended without one'],
  fat: [stream(`data: ${'x'.repeat(2 ** 24 + 1)}\n\n`), 'ended without one'],
};

const refused: Readonly<Record<string, readonly [Answer, string]>> = {
  unknown: [sent(401, { 'www-authenticate': 'Bearer' }), 'HTTP 401'],
  little: [sent(403, { 'www-authenticate': 'Bearer error="insufficient_scope"' }), 'scope'],
  away: [sent(307, { location: '/elsewhere' }), 'not followed'],
};

const all = { ...unclear, ...refused };

async function start(): Promise<McpTestHost> {
  const answers = Object.entries(all).map(([name, [answer]]) => [name, answer] as const);
  web = await startWebServer({
    tools: [...Object.keys(all), 'echo'].map((name) => ({ name, inputSchema: { type: 'object' } })),
    answers: {
      ...Object.fromEntries(answers),
      echo: (asked) => reply(asked, { content: [{ type: 'text', text: 'still here' }] }),
    },
  });
  host = await startMcpHost('', { reach: { kind: 'url', url: web.url, within: [], headers: [] } });
  await host.initialize();
  return host;
}

describe('a server behind a URL', () => {
  test('whose answer is none has cost the one call, at once, and stays', async () => {
    const own = await start();
    for (const [name, [, reason]] of Object.entries(unclear)) {
      const { status, output, duration_ms: took } = await own.call(name);
      expect([name, status]).toEqual([name, 'indeterminate']);
      expect(output).toContain(reason);
      expect(output).toContain(NOT_KNOWN);
      // The limit is 60 s.
      expect(took).toBeLessThan(20_000);
    }
    expect(await own.call('echo')).toMatchObject({ status: 'ok', output: 'still here' });
  });

  test('that refuses or sends us away has run nothing, and is quoted with its status', async () => {
    const own = await start();
    for (const [name, [, reason]] of Object.entries(refused)) {
      expect(await own.call(name)).toMatchObject({
        status: 'error',
        output: expect.stringContaining(reason),
      });
    }
    expect(await own.call('echo')).toMatchObject({ status: 'ok' });
  });
});
