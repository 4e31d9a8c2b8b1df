import { describe, expect, test } from '@jest/globals';
import { createOfflineProvider } from '../../../gateway/providers/offline.ts';
import { decideOffline, parseCalls } from '../../../gateway/providers/offline-script.ts';
import type { Chunk, GenerateRequest } from '../../../gateway/providers/provider.ts';
import type { ProviderMessage } from '../../../protocol/content.ts';
import { createManualClock, linkGateway, say, shellTool } from '../harness.ts';

function ask(messages: readonly ProviderMessage[], changes: Partial<GenerateRequest> = {}) {
  const request = { model: 'offline', messages, tools: [shellTool], parallelToolCalls: true };
  return decideOffline({ ...request, ...changes });
}

function called(...calls: readonly (readonly [string, string, string])[]): ProviderMessage {
  const toolCalls = calls.map(([id, name, args]) => ({ id, name, arguments: args }));
  return { role: 'assistant', message: { text: '', tool_calls: toolCalls } };
}

function result(callId: string, text: string): ProviderMessage {
  return { role: 'tool', call_id: callId, name: 'shell', text };
}

describe('parseCalls', () => {
  test.each<[string, string, readonly (readonly [string, string])[]]>([
    ['a command', '!ls -la', [['shell', '{"command":"ls -la"}']]],
    [
      'two of them',
      '!a\n! b ',
      [
        ['shell', '{"command":"a"}'],
        ['shell', '{"command":"b"}'],
      ],
    ],
    ['quotes', '!echo "x"', [['shell', '{"command":"echo \\"x\\""}']]],
    ['any tool', '@write_file {"path":"a"}', [['write_file', '{"path":"a"}']]],
    ['arguments that are no JSON', '@x {"a"', [['x', '{"a"']]],
    ['in the midst of text', 'please\n!ls\nthanks', [['shell', '{"command":"ls"}']]],
    ['no command', '!\n! \nwow!', []],
    ['a mention', '@bob hello', []],
  ])('%s', (_name, prompt, expected) => {
    expect(parseCalls(prompt).map(({ name, args }) => [name, args])).toEqual(expected);
  });

  test('at most 128', () => {
    expect(parseCalls('!x\n'.repeat(200))).toHaveLength(128);
  });
});

describe('decideOffline', () => {
  test('says what it is, what it was told, and how to get a real one', () => {
    const { text, calls } = ask([say('What is love?')]);
    expect(calls).toEqual([]);
    expect(text).toContain('built-in stand-in');
    expect(text).toContain('not a language model');
    expect(text).toContain('"What is love?"');
    expect(text).toContain('OPENAI_API_KEY');
  });

  test('calls tools at once, or one a step', () => {
    const prompt = say('!a\n!b');
    const [a, b] = ['{"command":"a"}', '{"command":"b"}'];
    expect(ask([prompt]).calls.map(({ args }) => args)).toEqual([a, b]);
    const one = { parallelToolCalls: false };
    expect(ask([prompt], one).calls.map(({ args }) => args)).toEqual([a]);
    const after = [prompt, called(['1', 'shell', a]), result('1', 'A')];
    expect(ask(after, one).calls.map(({ args }) => args)).toEqual([b]);
  });

  test('tells what the tools said', () => {
    const calls = called(['1', 'shell', '{"command":"ls -la"}'], ['2', 'x', '{"a":1}']);
    const { text } = ask([say('!ls -la'), calls, result('1', 'total 0\n'), result('2', '')]);
    expect(text).toBe('shell: ls -la gave:\ntotal 0\n\nx: {"a":1} gave no output.');
  });

  test('a later prompt is a new one', () => {
    const before = [say('!a'), called(['1', 'shell', '{"command":"a"}']), result('1', 'A')];
    expect(ask([...before, say('!b')]).calls.map(({ args }) => args)).toEqual(['{"command":"b"}']);
  });

  test('without tools it calls none', () => {
    const { text, calls } = ask([say('!ls')], { tools: [] });
    expect(calls).toEqual([]);
    expect(text).toContain('no tools');
  });

  test('a summary is a plain one', () => {
    const { text, calls } = ask([say('!ls'), say('Please summarize the above.')], { tools: [] });
    expect(calls).toEqual([]);
    expect(text).toBe('Summary by the offline stand-in: 1 user messages, 0 tool results.\n- !ls');
  });

  test('is deterministic', () => {
    expect(ask([say('x')])).toEqual(ask([say('x')]));
  });
});

describe('createOfflineProvider', () => {
  test('~slow N: N words, 50 ms apart, until it is stopped', async () => {
    const clock = createManualClock();
    const provider = createOfflineProvider({ clock });
    const request = { model: 'offline', messages: [say('~slow 3')], tools: [] };
    const abort = new AbortController();
    const said: string[] = [];
    const chunks = provider.generate({ ...request, parallelToolCalls: true }, abort.signal);
    const heard = hear(chunks, (text) => {
      said.push(text);
      queueMicrotask(() => clock.advance(50));
    });
    await heard;
    expect(said).toEqual(['word1', ' word2', ' word3']);
    expect(clock.nowMs()).toBe(150);
  });

  test('through the gateway: words become deltas, calls get ids', async () => {
    const linked = await linkGateway({ settings: { kind: 'offline' }, env: {} });
    const outcome = await linked.generate({ messages: [say('!ls')], tools: [shellTool] });
    expect(outcome).toMatchObject({
      kind: 'completed',
      finish_reason: 'tool_calls',
      message: { tool_calls: [{ id: 'call_3_1_0', name: 'shell' }] },
      cost_usd: 0,
      model: 'offline',
    });
    const models = await linked.connection.request('gateway/models', {}, { timeoutMs: 1_000 });
    expect(models).toEqual({ models: ['offline'] });
    linked.close();
  });
});

async function hear(chunks: AsyncIterable<Chunk>, onText: (text: string) => void): Promise<void> {
  for await (const chunk of chunks) {
    for (const part of chunk) if (part.kind === 'text') onText(part.text);
  }
}
