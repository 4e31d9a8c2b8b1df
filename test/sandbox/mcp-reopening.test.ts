/** The stream of a server behind a URL that is cut as soon as it is open: real HTTP on loopback and
 *  a clock that moves when it is told to. */
import { afterEach, expect, test } from '@jest/globals';
import { Client } from '@modelcontextprotocol/client';
import type { McpReach } from '../../protocol/mcp-methods.ts';
import { createHttpTransport } from '../../sandbox/mcp/http.ts';
import { createSteppedClock, type SteppedClock } from '../supervisor/stepped-clock.ts';
import { startWebServer, type WebServer } from './mcp-web.ts';

let web: WebServer;
let client: Client;
let clock: SteppedClock;
let opened = 0;

async function connect(retry: string): Promise<void> {
  opened = 0;
  clock = createSteppedClock();
  web = await startWebServer({
    ...{ tools: [], answers: {} },
    stream(response) {
      opened += 1;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(`retry: ${retry}\n\n`);
    },
  });
  const reach: McpReach = { kind: 'url', url: web.url, within: [], headers: [] };
  const readSecrets = async () => ({ kind: 'values', values: {} }) as const;
  client = new Client({ name: 'test', version: '1' });
  await client.connect(createHttpTransport({ reach, clock, timeoutMs: 60_000, readSecrets }));
}

afterEach(async () => {
  await client.close();
  await web.close();
});

test('it is opened again as the server wishes, so often, and then seldom', async () => {
  await connect('0');
  for (let count = 1; count <= 10; count += 1) {
    await clock.armed(0);
    expect(opened).toBe(count);
    clock.advance(0);
  }
  await clock.armed(30_000);
  expect(opened).toBe(11);
  clock.advance(30_000);
  await clock.armed(0);
  expect(opened).toBe(12);
});

test('a pause longer than any timer is no pause of nothing', async () => {
  await connect('99999999999');
  await clock.armed(30_000);
  expect(opened).toBe(1);
});
