/** What goes wrong on the way to a provider, on a server of our own: stalls, half streams, pages
 *  in place of streams, floods. Each must end as a failure that says what happened. */
import type { ServerResponse } from 'node:http';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { ProviderSettings } from '../../protocol/gateway-methods.ts';
import {
  chatFinish,
  chatText,
  KEY,
  type Linked,
  linkGateway,
  type ScriptedServer,
  sendEvents,
  startScriptedServer,
} from './harness.ts';

let server: ScriptedServer | undefined;
let linked: Linked | undefined;

afterEach(async () => {
  linked?.close();
  await server?.close();
  linked = undefined;
  server = undefined;
});

type Script = (response: ServerResponse) => void;

async function serve(script: Script, settings: Partial<ProviderSettings> = {}): Promise<Linked> {
  server = await startScriptedServer(script);
  linked = await linkGateway({ settings: { baseUrl: server.url, ...settings } });
  return linked;
}

describe('timeouts', () => {
  test.each([
    ['connect', () => undefined, { connectTimeoutMs: 40 }],
    ['first-token', (r: ServerResponse) => void r.write(': hi\n\n'), { firstTokenTimeoutMs: 40 }],
    ['idle', (r: ServerResponse) => sendEvents(r, chatText('on')), { idleTimeoutMs: 40 }],
  ])('%s: named with its limit, and retried', async (name, script, settings) => {
    const { generate } = await serve((response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      if (name !== 'connect') response.flushHeaders();
      script(response);
    }, settings);
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_TIMEOUT', retry_in_ms: 75 });
    expect(outcome).toHaveProperty('message', expect.stringMatching(`${name} timeout of 40 ms`));
  });

  test('total: named with its limit, and not retried', async () => {
    const { generate } = await serve((response) => sendEvents(response, chatText('on')), {
      totalTimeoutMs: 40,
    });
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_TIMEOUT', retry_in_ms: null });
    expect(outcome).toHaveProperty('message', expect.stringContaining('total timeout of 40 ms'));
  });

  test('after the finish reason nothing can be lost: the answer stands', async () => {
    const { generate } = await serve(
      (response) => sendEvents(response, chatText('whole'), chatFinish('stop')),
      { idleTimeoutMs: 40 },
    );
    expect(await generate()).toMatchObject({ kind: 'completed', message: { text: 'whole' } });
  });
});

describe('half streams', () => {
  test.each<[string, readonly unknown[], string]>([
    ['an end without finish reason', [chatText('a'), '[DONE]'], 'STREAM_BROKEN'],
    ['an empty stream', [], 'STREAM_BROKEN'],
    ['an error event', [chatText('a'), { error: { message: 'full' } }], 'STREAM_BROKEN'],
    ['a finish reason of error', [chatFinish('error')], 'STREAM_BROKEN'],
    ['an event that is no JSON', [chatText('a'), '{"choices":'], 'BAD_RESPONSE'],
    ['an event of another shape', [{ choices: 'none' }], 'BAD_RESPONSE'],
  ])('%s is retried', async (_name, events, code) => {
    const { generate } = await serve((response) => {
      sendEvents(response, ...events);
      response.end();
    });
    expect(await generate()).toMatchObject({ code: `PROVIDER_${code}`, retry_in_ms: 75 });
  });

  test('the words of an error event are told', async () => {
    const { generate } = await serve((response) => {
      sendEvents(response, { error: { message: `upstream of ${KEY} is down` } });
      response.end();
    });
    expect(await generate()).toHaveProperty(
      'message',
      expect.stringContaining('upstream of [redacted] is down'),
    );
  });
});

describe('no stream at all', () => {
  test.each([
    ['text/html; charset=utf-8', '<html><title>Sign in</title></html>', 'Sign in'],
    ['application/json', '{"id":"x","choices":[]}', 'choices'],
  ])('a document of type %s is named, and not retried', async (type, body, words) => {
    const { generate } = await serve((response) => {
      response.writeHead(200, { 'content-type': type }).end(body);
    });
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_BAD_RESPONSE', retry_in_ms: null });
    expect(outcome).toHaveProperty('message', expect.stringContaining(words));
  });

  test('an empty account is not helped by waiting', async () => {
    const { generate } = await serve((response) => {
      const error = { message: 'You exceeded your quota', code: 'insufficient_quota' };
      response.writeHead(429, { 'retry-after': '1' }).end(JSON.stringify({ error }));
    });
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_RATE_LIMITED', retry_in_ms: null });
    expect(outcome).toHaveProperty('message', expect.stringContaining('no credit'));
  });

  test('a redirect is not followed', async () => {
    const { generate } = await serve((response) => {
      response.writeHead(307, { location: '/elsewhere' }).end();
    });
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_REFUSED', retry_in_ms: null });
    expect(server?.seen).toHaveLength(1);
  });

  test('a refused connection names the target and the cause', async () => {
    server = await startScriptedServer(() => undefined);
    await server.close();
    linked = await linkGateway({ settings: { baseUrl: `${server.url}?token=hidden` } });
    const outcome = await linked.generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_UNREACHABLE', retry_in_ms: 75 });
    expect(outcome).toHaveProperty('message', expect.stringMatching(/127\.0\.0\.1.*ECONNREFUSED/));
    expect(JSON.stringify(outcome)).not.toContain('hidden');
  });

  test('the body of an error is read to its limit only', async () => {
    const { generate } = await serve((response) => {
      response.writeHead(400, { 'content-type': 'text/plain' });
      response.end(`${'no '.repeat(1_000_000)}`);
    });
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_REFUSED', retry_in_ms: null });
    expect(JSON.stringify(outcome).length).toBeLessThan(2_000);
  });
});

describe('floods', () => {
  test('too long an answer is given up', async () => {
    const { generate } = await serve((response) => {
      const event = chatText('x'.repeat(1024 * 1024));
      sendEvents(response, ...Array.from({ length: 17 }, () => event));
    });
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_BAD_RESPONSE', retry_in_ms: null });
  });

  test('an event without an end is given up', async () => {
    // On a starved machine the bound is reached later than most answers begin.
    const patient = { firstTokenTimeoutMs: 120_000, totalTimeoutMs: 120_000 };
    const { generate } = await serve((response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: ');
      const more = (error?: Error | null): void => {
        if (!error) response.write('x'.repeat(1024 * 1024), more);
      };
      more();
    }, patient);
    const outcome = await generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_BAD_RESPONSE', retry_in_ms: null });
  });
});

describe('keys', () => {
  test('none set: the variable is named and nothing is asked', async () => {
    linked = await linkGateway({ env: { OPENAI_API_KEY: ' ' } });
    const outcome = await linked.generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_KEY_MISSING', retry_in_ms: null });
    expect(outcome).toHaveProperty('message', expect.stringContaining('OPENAI_API_KEY'));
  });

  test('none set on loopback: none is needed', async () => {
    const seen: (string | undefined)[] = [];
    server = await startScriptedServer((response, request) => {
      seen.push(request.headers.authorization);
      sendEvents(response, chatText('hi'), chatFinish('stop'));
      response.end();
    });
    linked = await linkGateway({ env: {}, settings: { baseUrl: server.url } });
    expect(await linked.generate()).toMatchObject({ kind: 'completed' });
    expect(seen).toEqual(['Bearer no-key']);
  });

  test('a provider that repeats the key does not get it shown', async () => {
    const { generate } = await serve((response) => {
      response.writeHead(401).end(JSON.stringify({ error: { message: `wrong key: ${KEY}!` } }));
    });
    const outcome = await generate();
    expect(JSON.stringify(outcome)).not.toContain(KEY);
    expect(outcome).toHaveProperty('message', expect.stringContaining('wrong key: [redacted]!'));
  });

  test.each([401, 200])('nor its beginning, where a long message is cut (%i)', async (status) => {
    const json = JSON.stringify({ error: { message: `${'.'.repeat(490)}${KEY}` } });
    const text = status === 200 ? `data: ${json}\n\n` : json;
    const { generate } = await serve((response) => {
      response.writeHead(status, { 'content-type': 'text/event-stream' }).end(text);
    });
    const outcome = await generate();
    expect(outcome).toHaveProperty('message', expect.stringContaining('...'));
    expect(JSON.stringify(outcome)).not.toContain(KEY.slice(0, 6));
  });

  test('a base URL that is none is a configuration error', async () => {
    const wrong = linkGateway({ settings: { baseUrl: 'localhost:8080' } });
    await expect(wrong).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});
