/** A real MCP host before a server that speaks without being asked, over a pipe and behind a URL:
 *  what it costs us has a bound. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { hasBubblewrap } from './harness.ts';
import { type McpTestHost, startMcpHost } from './mcp-harness.ts';
import { type Asked, startWebServer, type WebServer } from './mcp-web.ts';

const TOO_MANY = 'more than 2000 messages in 10 s unasked';
const withBubblewrap = hasBubblewrap ? describe : describe.skip;
let host: McpTestHost | undefined;
let web: WebServer | undefined;

afterEach(async () => {
  await host?.close();
  await web?.close();
  host = undefined;
  web = undefined;
});

const toEvent = (message: object): string =>
  `data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`;

function storm(toMessage: (index: number) => object) {
  return ({ response }: Asked): void => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const events = Array.from({ length: 20_000 }, (_, index) => toEvent(toMessage(index)));
    response.write(events.join(''));
  };
}

const storms: Readonly<Record<string, (asked: Asked) => void>> = {
  requests: storm((index) => ({ id: `p${index}`, method: 'ping' })),
  notifications: storm(() => ({ method: 'notifications/tools/list_changed' })),
  answers: storm((index) => ({ id: 1e6 + index, result: {} })),
};

describe('a server behind a URL that talks unasked', () => {
  test.each(Object.keys(storms))('with %s is ended, and with it its host', async (name) => {
    let answered = 0;
    let asked = 0;
    web = await startWebServer({
      tools: Object.keys(storms).map((each) => ({ name: each, inputSchema: { type: 'object' } })),
      answers: storms,
      onAnswer: () => {
        answered += 1;
      },
    });
    const headers = [{ header: 'X-Key', secret: 'KEY', format: '{value}' }];
    host = await startMcpHost('', {
      reach: { kind: 'url', url: web.url, within: [], headers },
      readSecrets: () => {
        asked += 1;
        return { kind: 'values', values: { KEY: 'canary-5e1f-swordfish' } };
      },
    });
    await host.initialize();
    expect(await host.call(name)).toMatchObject({
      status: 'indeterminate',
      output: expect.stringContaining(TOO_MANY),
    });
    expect(await host.ending).toContain(TOO_MANY);
    expect(await host.process.exited).toEqual({ code: 0, signal: undefined });
    expect([answered, asked].map((count) => count <= 2100)).toEqual([true, true]);
  });
});

withBubblewrap('a server over a pipe that talks unasked', () => {
  test.each([
    ['answers to nothing', 'answers'],
    ['empty lines', 'blank'],
  ])('with %s is ended, and with it its host', async (_, behaviour) => {
    host = await startMcpHost(behaviour);
    await host.initialize();
    expect(await host.call('never')).toMatchObject({ status: 'indeterminate' });
    expect(await host.ending).toContain(TOO_MANY);
    expect(await host.process.exited).toEqual({ code: 0, signal: undefined });
  });
});
