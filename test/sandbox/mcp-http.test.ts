/** A real MCP host before a server that it reaches by a URL, on loopback: one that works, and the
 *  ways in which one may not. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { McpHeader, McpReach, McpSecrets } from '../../protocol/mcp-methods.ts';
import { type HostOptions, type McpTestHost, startMcpHost } from './mcp-harness.ts';
import { type Asked, reply, startWebServer, type WebServer } from './mcp-web.ts';

const VALUE = 'canary-5e1f-swordfish';
let web: WebServer;
let url: string;
let elsewhere: string[];
/** It gives its clients sessions, forgets them, and says so with this status; 0: it gives none. */
let forgetsWith: number;
/** It has forgotten what it is asked for, not who asks. */
let knowsPing: boolean;
/** What came in the header of each request. */
let carried: (string | undefined)[];
let host: McpTestHost;

const text = (asked: Asked, words: string): void =>
  reply(asked, { content: [{ type: 'text', text: words }] });

const answers: Readonly<Record<string, (asked: Asked) => void>> = {
  echo: (asked) => text(asked, 'over HTTP'),
  away: ({ response }) =>
    void response.writeHead(307, { location: url.replace('127.0.0.1', 'localhost') }).end(),
  nearby: ({ response }) => void response.writeHead(307, { location: `${url}/nearby` }).end(),
  beside: ({ response }) => void response.writeHead(307, { location: `${url}2` }).end(),
  drop: ({ response }) => void response.destroy(),
  refuse: ({ response }) => void response.writeHead(403).end('not you'),
  missing: ({ response }) => void response.writeHead(404).end('not here'),
  hang: () => undefined,
  endless({ response }) {
    response.writeHead(200, { 'content-type': 'application/json' });
    const more = (): void => {
      while (!response.destroyed && response.write(' '.repeat(1_000_000)));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  },
  /** In an event, whose end comes before the end of the answer does. */
  tell({ request, response, id }) {
    const told = `you sent ${request.headers['x-key']}`;
    const result = { content: [{ type: 'text', text: told }] };
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(`data: ${JSON.stringify({ jsonrpc: '2.0', id, result })}\n\n`);
  },
  blame: ({ request, response }) =>
    void response.writeHead(403).end(`${request.headers['x-key']} is wrong`),
};

type UrlReach = Extract<McpReach, { kind: 'url' }>;
const reachOf = (own: Partial<UrlReach> = {}): UrlReach => ({
  ...{ kind: 'url', url, within: [], headers: [] },
  ...own,
});

async function start(options: HostOptions = {}): Promise<McpTestHost> {
  host = await startMcpHost('', { reach: reachOf(), ...options });
  return host;
}

beforeEach(async () => {
  elsewhere = [];
  carried = [];
  const tools = Object.keys(answers).map((name) => ({
    name,
    description: `called with ${VALUE}`,
    inputSchema: { type: 'object' },
  }));
  forgetsWith = 0;
  knowsPing = false;
  web = await startWebServer({
    ...{ tools, answers },
    before(asked, method) {
      const { request, response } = asked;
      if (forgetsWith > 0 && method === 'initialize') response.setHeader('mcp-session-id', 'one');
      const isForgotten = method === 'tools/call' || (method === 'ping' && !knowsPing);
      if (forgetsWith > 0 && isForgotten) {
        response.writeHead(forgetsWith).end('no such session');
        return true;
      }
      carried.push(request.headers['x-key']?.toString());
      if (request.headers.host?.startsWith('localhost') === true || request.url === '/mcp2') {
        elsewhere.push(request.url ?? '');
      }
      if (request.url !== '/mcp/nearby') return false;
      if (method === 'tools/call') text(asked, 'over HTTP');
      return true;
    },
  });
  url = web.url;
});

afterEach(async () => {
  await host.close();
  await web.close();
});

describe('[config:mcp.servers.<name>.url] a server behind a URL', () => {
  test('has its tools, at level none, and every result says so', async () => {
    const report = await (await start()).initialize();
    expect(report).toMatchObject({ level: 'none', problems: [] });
    expect(report.tools).toHaveLength(Object.keys(answers).length);
    expect(await host.call('echo')).toMatchObject({
      status: 'ok',
      output: 'over HTTP',
      level: 'none',
      notice: expect.stringContaining('nothing here confines'),
    });
  });

  test('may send us on within its origin, and nowhere else', async () => {
    await start();
    await host.initialize();
    expect(await host.call('nearby')).toMatchObject({ status: 'ok', output: 'over HTTP' });
    expect(await host.call('away')).not.toMatchObject({ status: 'ok' });
    expect(elsewhere).toEqual([]);
  });

  test('that refuses has not run anything, and stays', async () => {
    await start();
    await host.initialize();
    expect(await host.call('refuse')).toMatchObject({ status: 'error' });
    expect(await host.call('missing')).toMatchObject({ status: 'error' });
    expect(await host.call('echo')).toMatchObject({ status: 'ok' });
  });

  test.each([404, 400])(
    'that has forgotten us (%i) has not run anything, and is asked anew by the next host',
    async (status) => {
      forgetsWith = status;
      await start();
      await host.initialize();
      expect(await host.call('echo')).toMatchObject({
        status: 'error',
        output: expect.stringContaining('nothing ran; call again'),
      });
      expect(await host.ending).toContain('does not know our connection any more');
      expect(await host.process.exited).toEqual({ code: 0, signal: undefined });
    },
  );

  test('that refuses one request with 400, and knows us, stays', async () => {
    forgetsWith = 400;
    knowsPing = true;
    await start();
    await host.initialize();
    const again = [await host.call('echo'), await host.call('echo')];
    expect(again.map(({ status }) => status)).toEqual(['error', 'error']);
    expect(again[1]?.output).toContain('HTTP 400');
  });

  test('that answers without an end has cost its call, and stays', async () => {
    await start();
    await host.initialize();
    expect(await host.call('endless')).toMatchObject({ status: 'indeterminate' });
    expect(await host.call('echo')).toMatchObject({ status: 'ok' });
  });

  test('that drops its connection is gone', async () => {
    await start();
    await host.initialize();
    expect(await host.call('drop')).toMatchObject({ status: 'indeterminate' });
    await host.ending;
    expect(await host.process.exited).toEqual({ code: 0, signal: undefined });
  });

  test('that does not answer is given up at the limit', async () => {
    await start({ timeoutMs: 3000 });
    await host.initialize();
    expect(await host.call('hang')).toMatchObject({ status: 'timeout' });
    expect(await host.call('echo')).toMatchObject({ status: 'ok' });
  });

  test('that is not there says so', async () => {
    await start();
    await web.close();
    await expect(host.initialize()).rejects.toMatchObject({
      code: 'MCP_UNAVAILABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });
});

describe('[config:mcp.allowed_urls] a redirect', () => {
  test('leads to nothing that may not be spoken to, and the server stays', async () => {
    await start({ reach: reachOf({ within: [url] }) });
    await host.initialize();
    expect(await host.call('nearby')).toMatchObject({ status: 'ok', output: 'over HTTP' });
    expect(await host.call('beside')).toMatchObject({
      status: 'error',
      output: expect.stringMatching(
        /\/mcp2 is not below one of mcp\.allowed_urls; nothing was sent/,
      ),
    });
    expect(elsewhere).toEqual([]);
    expect(await host.call('echo')).toMatchObject({ status: 'ok' });
  });
});

describe('[config:mcp.servers.<name>.headers.<name>.secret] [config:mcp.servers.<name>.headers.<name>.format] a header from the vault', () => {
  const headers: McpHeader[] = [{ header: 'X-Key', secret: 'KEY', format: 'k {value}' }];
  const given = (value: string): McpSecrets => ({ kind: 'values', values: { KEY: value } });
  const startWith = (readSecrets: () => McpSecrets) =>
    start({ reach: reachOf({ headers }), readSecrets });

  test('[promise:no-secret-leaves] goes with each request, and comes back in nothing', async () => {
    await startWith(() => given(VALUE));
    const { tools } = await host.initialize();
    expect(tools[0]?.spec.description).toContain('called with [secret KEY]');
    expect(await host.call('tell')).toMatchObject({
      status: 'ok',
      output: 'you sent k [secret KEY]',
    });
    expect(await host.call('blame')).toMatchObject({
      status: 'error',
      output: expect.stringContaining('k [secret KEY] is wrong'),
    });
    expect(JSON.stringify([tools, host.readSpool('1.1.1'), host.readSpool('1.1.2')])).not.toContain(
      VALUE,
    );
    expect(carried.length).toBeGreaterThanOrEqual(5);
    expect(new Set(carried)).toEqual(new Set([`k ${VALUE}`]));
  });

  test('is asked for with each request: a new value counts from the next one on', async () => {
    let value = 'the-first-value';
    await startWith(() => given(value));
    await host.initialize();
    value = 'the-second-value';
    await host.call('echo');
    expect([carried[0], carried.at(-1)]).toEqual(['k the-first-value', 'k the-second-value']);
  });

  test.each<[string, McpSecrets, string]>([
    ['is refused', { kind: 'refused', reason: 'KEY expired' }, 'KEY expired; nothing was sent'],
    ['is not given', { kind: 'values', values: {} }, 'the secret KEY was not given'],
    ['is no line', given(`${VALUE}\r\nX-Evil: 1`), 'it is not one line of ASCII'],
  ])('that %s refuses the request before it is sent', async (_, answer, reason) => {
    let isBad = false;
    await startWith(() => (isBad ? answer : given(VALUE)));
    await host.initialize();
    const before = carried.length;
    isBad = true;
    const outcome = await host.call('echo');
    expect(outcome).toMatchObject({ status: 'error', output: expect.stringContaining(reason) });
    expect(outcome.output).not.toContain(VALUE);
    expect(carried).toHaveLength(before);
    isBad = false;
    expect(await host.call('echo')).toMatchObject({ status: 'ok' });
  });

  test('that cannot be had at the start is the reason why there are no tools', async () => {
    await startWith(() => ({ kind: 'refused', reason: 'there is no secret KEY' }));
    await expect(host.initialize()).rejects.toMatchObject({
      code: 'MCP_UNAVAILABLE',
      message: expect.stringContaining('there is no secret KEY'),
    });
    expect(carried).toEqual([]);
  });
});
