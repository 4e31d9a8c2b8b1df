/** Chat Completions and Responses against a mock server of others (aimock), on loopback. */

import { LLMock } from '@copilotkit/aimock';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { ProviderMessage } from '../../protocol/content.ts';
import type { AttemptOutcome } from '../../protocol/gateway-methods.ts';
import { KEY, type Linked, linkGateway, say, shellTool } from './harness.ts';

type Completed = Extract<AttemptOutcome, { kind: 'completed' }>;

function completed(outcome: AttemptOutcome): Completed {
  if (outcome.kind !== 'completed') throw new Error(`${outcome.code}: ${outcome.message}`);
  return outcome;
}

describe.each(['chat', 'responses'] as const)('the %s API', (api) => {
  let mock: LLMock;
  let linked: Linked;

  beforeEach(async () => {
    mock = await LLMock.create({ port: 0, chunkSize: 4 });
    const prices = { 'test-model': { input: 2, output: 10 } };
    linked = await linkGateway({ settings: { api, baseUrl: `${mock.url}/v1`, prices } });
  });

  afterEach(async () => {
    linked.close();
    await mock.stop();
  });

  test('streams text, and counts usage and cost', async () => {
    mock.onMessage('hello', {
      content: 'Hello from the other side.',
      usage: {
        prompt_tokens: 1000,
        completion_tokens: 100,
        input_tokens: 1000,
        output_tokens: 100,
      },
    });
    const outcome = completed(await linked.generate());
    expect(outcome).toEqual({
      kind: 'completed',
      message: { text: 'Hello from the other side.', tool_calls: [] },
      finish_reason: 'stop',
      usage: { input_tokens: 1000, output_tokens: 100 },
      cost_usd: 0.003,
      latency_ms: expect.any(Number),
      first_token_ms: expect.any(Number),
      model: 'test-model',
    });
    expect(linked.deltas.map(({ text }) => text).join('')).toBe(outcome.message.text);
    expect(linked.readSpool().at(-1)).toEqual({ kind: 'end', outcome });
    expect(mock.getRequests()).toHaveLength(1);
  });

  test('calls tools and goes on with their results', async () => {
    const args = JSON.stringify({ command: 'ls -la' });
    mock.on(
      { userMessage: 'list', hasToolResult: false },
      {
        toolCalls: [
          { id: 'call_a', name: 'shell', arguments: args },
          { id: 'call_b', name: 'shell', arguments: '{"command":"pwd"}' },
        ],
      },
    );
    mock.on({ userMessage: 'list', hasToolResult: true }, { content: 'Two files.' });
    const first = completed(await linked.generate({ messages: [say('list')], tools: [shellTool] }));
    expect(first.finish_reason).toBe('tool_calls');
    expect(first.message.tool_calls).toEqual([
      { id: 'call_a', name: 'shell', arguments: args },
      { id: 'call_b', name: 'shell', arguments: '{"command":"pwd"}' },
    ]);
    const kinds = new Set(linked.deltas.map(({ kind }) => kind));
    expect(kinds).toEqual(new Set(['tool_call']));

    const messages: ProviderMessage[] = [
      say('list'),
      { role: 'assistant', message: first.message },
      { role: 'tool', call_id: 'call_a', name: 'shell', text: 'a b' },
      { role: 'tool', call_id: 'call_b', name: 'shell', text: '/w' },
    ];
    const second = completed(await linked.generate({ messages, tools: [shellTool], attempt: 2 }));
    expect(second.message).toEqual({ text: 'Two files.', tool_calls: [] });
    expect(second.finish_reason).toBe('stop');
  });

  test('tells reasoning from text', async () => {
    mock.onMessage('hello', { content: 'Four.', reasoning: 'Two and two.' });
    const { message } = completed(await linked.generate());
    expect(message).toEqual({ text: 'Four.', reasoning: 'Two and two.', tool_calls: [] });
    const thoughts = linked.deltas.filter(({ kind }) => kind === 'reasoning');
    expect(thoughts.map(({ text }) => text).join('')).toBe('Two and two.');
  });

  test('reports a cut-off by length', async () => {
    mock.onMessage('hello', { content: 'Once upon', finishReason: 'length' });
    expect(completed(await linked.generate()).finish_reason).toBe('length');
  });

  test('a 429 is retried when the provider says so', async () => {
    mock.onMessage('hello', {
      error: { message: `slow down, ${KEY}` },
      status: 429,
      retryAfter: 7,
    });
    const outcome = await linked.generate();
    expect(outcome).toEqual({
      kind: 'failed',
      code: 'PROVIDER_RATE_LIMITED',
      message: expect.stringContaining('answered 429: slow down, [redacted]'),
      retry_in_ms: 7_050,
    });
    expect(linked.readSpool()).toEqual([{ kind: 'end', outcome }]);
    expect(mock.getRequests()).toHaveLength(1);
  });

  test.each([
    [500, 'PROVIDER_REFUSED', 75],
    [503, 'PROVIDER_REFUSED', 75],
    [409, 'PROVIDER_REFUSED', 75],
    [400, 'PROVIDER_REFUSED', null],
    [401, 'PROVIDER_REFUSED', null],
    [403, 'PROVIDER_REFUSED', null],
    [404, 'PROVIDER_REFUSED', null],
    [422, 'PROVIDER_REFUSED', null],
  ])('status %d is %s, retried in %p ms', async (status, code, retryInMs) => {
    mock.onMessage('hello', { error: { message: 'no' }, status });
    const outcome = await linked.generate();
    expect(outcome).toMatchObject({ kind: 'failed', code, retry_in_ms: retryInMs });
    expect(mock.getRequests()).toHaveLength(1);
  });

  test('a disconnect in mid-stream is a failure, whatever was said', async () => {
    mock.onMessage(
      'hello',
      { content: 'one two three four five six' },
      { truncateAfterChunks: 6, latency: 5 },
    );
    const outcome = await linked.generate();
    expect(outcome).toMatchObject({ code: 'PROVIDER_STREAM_BROKEN', retry_in_ms: 75 });
    expect(linked.deltas.length).toBeGreaterThan(0);
  });

  test('a malformed answer is a failure', async () => {
    mock.onMessage('hello', { content: 'x' }, { chaos: { malformedRate: 1 } });
    expect(await linked.generate()).toMatchObject({ code: 'PROVIDER_BAD_RESPONSE' });
  });

  test('lists the models', async () => {
    const { models } = await linked.connection.request('gateway/models', {}, { timeoutMs: 5_000 });
    expect(models.length).toBeGreaterThan(0);
  });
});
