/** From our transcript to what the two APIs are sent, and from their events to our parts. */
import { describe, expect, test } from '@jest/globals';
import { toChatParts, toChatRequest } from '../../../gateway/providers/openai-chat.ts';
import { isLoopback } from '../../../gateway/providers/openai-endpoint.ts';
import {
  toResponsesParts,
  toResponsesRequest,
} from '../../../gateway/providers/openai-responses.ts';
import type { ProviderMessage } from '../../../protocol/content.ts';
import { say, shellTool } from '../harness.ts';

const transcript: readonly ProviderMessage[] = [
  { role: 'system', text: 'Be brief.' },
  say('list'),
  {
    role: 'user',
    content: [
      { type: 'text', text: 'this' },
      { type: 'image_url', url: 'data:image/png;base64,AA' },
    ],
  },
  {
    role: 'assistant',
    message: {
      text: '',
      reasoning: 'not sent back',
      tool_calls: [{ id: 'c1', name: 'shell', arguments: '{"command":"ls"}' }],
    },
  },
  { role: 'tool', call_id: 'c1', name: 'shell', text: 'a' },
  { role: 'assistant', message: { text: 'One file.', tool_calls: [] } },
];

const request = { model: 'm', messages: transcript, tools: [shellTool], parallelToolCalls: false };

test('Chat Completions request', () => {
  expect(toChatRequest(request)).toEqual({
    model: 'm',
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'list' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'this' },
          { type: 'image_url', image_url: { url: 'data:image/png;base64,AA' } },
        ],
      },
      {
        role: 'assistant',
        content: null,
        tool_calls: [
          {
            id: 'c1',
            type: 'function',
            function: { name: 'shell', arguments: '{"command":"ls"}' },
          },
        ],
      },
      { role: 'tool', tool_call_id: 'c1', content: 'a' },
      { role: 'assistant', content: 'One file.' },
    ],
    stream: true,
    stream_options: { include_usage: true },
    tools: [{ type: 'function', function: shellTool }],
    parallel_tool_calls: false,
  });
});

test('Responses request', () => {
  expect(toResponsesRequest(request)).toEqual({
    model: 'm',
    input: [
      { type: 'message', role: 'system', content: 'Be brief.' },
      { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'list' }] },
      {
        type: 'message',
        role: 'user',
        content: [
          { type: 'input_text', text: 'this' },
          { type: 'input_image', image_url: 'data:image/png;base64,AA', detail: 'auto' },
        ],
      },
      { type: 'function_call', call_id: 'c1', name: 'shell', arguments: '{"command":"ls"}' },
      { type: 'function_call_output', call_id: 'c1', output: 'a' },
      { type: 'message', role: 'assistant', content: 'One file.' },
    ],
    stream: true,
    store: false,
    tools: [{ type: 'function', strict: false, ...shellTool }],
    parallel_tool_calls: false,
  });
});

test('what a model made up is sent back in a form that servers take', () => {
  const calls = [
    { id: '1', name: 'no such.tool', arguments: '{"cut' },
    { id: '2', name: '', arguments: '[1]' },
  ];
  const wire = [
    ['no_such_tool', '{"unparsed":"{\\"cut"}'],
    ['unknown', '{"unparsed":"[1]"}'],
  ];
  const odd: ProviderMessage = { role: 'assistant', message: { text: '', tool_calls: calls } };
  const empty: ProviderMessage = { role: 'assistant', message: { text: '', tool_calls: [] } };
  const asked = { ...request, messages: [odd, empty] };
  const [chat, ...rest] = toChatRequest(asked).messages;
  expect(rest).toEqual([]);
  expect(chat).toHaveProperty(
    'tool_calls',
    wire.map(([name, args], index) => ({
      id: String(index + 1),
      type: 'function',
      function: { name, arguments: args },
    })),
  );
  expect(toResponsesRequest(asked).input).toEqual(
    wire.map(([name, args], index) => ({
      type: 'function_call',
      call_id: String(index + 1),
      name,
      arguments: args,
    })),
  );
});

test('without tools nothing is said about them', () => {
  const bare = { ...request, tools: [] };
  for (const body of [toChatRequest(bare), toResponsesRequest(bare)]) {
    expect(body).not.toHaveProperty('tools');
    expect(body).not.toHaveProperty('parallel_tool_calls');
  }
});

const delta = (fields: unknown, reason: string | null = null): unknown => ({
  choices: [{ index: 0, delta: fields, finish_reason: reason }],
});

describe('Chat Completions events', () => {
  test.each<[string, unknown, unknown]>([
    ['text', delta({ content: 'a' }), [{ kind: 'text', text: 'a' }]],
    ['a refusal', delta({ refusal: 'no' }), [{ kind: 'text', text: 'no' }]],
    ['reasoning_content', delta({ reasoning_content: 'r' }), [{ kind: 'reasoning', text: 'r' }]],
    ['reasoning', delta({ reasoning: 'r', content: '' }), [{ kind: 'reasoning', text: 'r' }]],
    ['the role alone', delta({ role: 'assistant', content: null }), []],
    [
      'a call',
      delta({ tool_calls: [{ index: 1, id: 'i', function: { name: 'n', arguments: '{' } }] }),
      [{ kind: 'tool_call', index: 1, id: 'i', name: 'n', arguments: '{' }],
    ],
    [
      'a fragment of one',
      delta({ tool_calls: [{ index: 0, function: { arguments: '}' } }] }),
      [{ kind: 'tool_call', index: 0, arguments: '}' }],
    ],
    [
      'a call without index',
      delta({ tool_calls: [{ id: 'i', function: { name: 'n' } }] }),
      [{ kind: 'tool_call', index: 0, id: 'i', name: 'n', arguments: '' }],
    ],
    ['stop', delta({}, 'stop'), [{ kind: 'finish', reason: 'stop' }]],
    ['a word of its own', delta({}, 'eos'), [{ kind: 'finish', reason: 'stop' }]],
    ['length', delta({}, 'length'), [{ kind: 'finish', reason: 'length' }]],
    ['content_filter', delta({}, 'content_filter'), [{ kind: 'finish', reason: 'content_filter' }]],
    ['tool_calls', delta({}, 'tool_calls'), [{ kind: 'finish', reason: 'tool_calls' }]],
    ['nothing', {}, []],
    [
      'usage',
      {
        choices: [],
        usage: {
          prompt_tokens: 9,
          completion_tokens: 4,
          prompt_tokens_details: { cached_tokens: 3 },
          completion_tokens_details: { reasoning_tokens: 2 },
        },
      },
      [
        {
          kind: 'usage',
          usage: {
            input_tokens: 9,
            output_tokens: 4,
            cached_input_tokens: 3,
            reasoning_tokens: 2,
          },
        },
      ],
    ],
  ])('%s', (_name, event, parts) => {
    expect(toChatParts(event)).toEqual(parts);
  });

  test.each([[null], ['text'], [{ choices: 1 }], [delta({ content: 1 })]])('not: %j', (event) => {
    expect(() => toChatParts(event)).toThrow('unknown shape');
  });
});

describe('Responses events', () => {
  const plain = (text: string): string => text;
  test.each<[string, unknown, unknown]>([
    ['text', { type: 'response.output_text.delta', delta: 'a' }, [{ kind: 'text', text: 'a' }]],
    [
      'a summary of reasoning',
      { type: 'response.reasoning_summary_text.delta', delta: 'r' },
      [{ kind: 'reasoning', text: 'r' }],
    ],
    [
      'a call',
      {
        type: 'response.output_item.added',
        output_index: 2,
        item: { type: 'function_call', call_id: 'i', name: 'n', arguments: '' },
      },
      [{ kind: 'tool_call', index: 2, id: 'i', name: 'n', arguments: '' }],
    ],
    [
      'another item',
      { type: 'response.output_item.added', output_index: 0, item: { type: 'message' } },
      [],
    ],
    [
      'arguments',
      { type: 'response.function_call_arguments.delta', output_index: 2, delta: '{}' },
      [{ kind: 'tool_call', index: 2, arguments: '{}' }],
    ],
    [
      'completed',
      { type: 'response.completed', response: { model: 'm' } },
      [
        { kind: 'model', model: 'm' },
        { kind: 'finish', reason: 'stop' },
      ],
    ],
    [
      'incomplete',
      {
        type: 'response.incomplete',
        response: { incomplete_details: { reason: 'max_output_tokens' } },
      },
      [{ kind: 'finish', reason: 'length' }],
    ],
    [
      'filtered',
      {
        type: 'response.incomplete',
        response: { incomplete_details: { reason: 'content_filter' } },
      },
      [{ kind: 'finish', reason: 'content_filter' }],
    ],
    ['news', { type: 'response.something.new', x: 1 }, []],
  ])('%s', (_name, event, parts) => {
    expect(toResponsesParts(event, plain)).toEqual(parts);
  });

  test.each([
    [{ type: 'response.failed', response: { error: { code: 'server_error', message: 'KEY' } } }],
    [{ type: 'error', code: 'server_error', message: 'KEY' }],
  ])('a failure is thrown, redacted: %j', (event) => {
    expect(() => toResponsesParts(event, (text) => text.replace('KEY', '-'))).toThrow(
      'server_error: -',
    );
  });

  test.each([[null], [{}], [{ type: 'response.output_text.delta' }]])('not: %j', (event) => {
    expect(() => toResponsesParts(event, plain)).toThrow('unknown shape');
  });
});

describe('a count of tokens that is none', () => {
  const none = { input_tokens: 0, output_tokens: 0 };

  test.each([
    ['below zero', -100],
    ['not of this world', 1e300],
    ['beyond all numbers', Number.POSITIVE_INFINITY],
    ['a text', '10'],
  ])('%s: is not told, and costs no answer (regression)', (_name, count) => {
    const details = { cached_tokens: count };
    const chat = { prompt_tokens: count, completion_tokens: 5, prompt_tokens_details: details };
    expect(toChatParts({ choices: [], usage: chat })).toEqual([
      { kind: 'usage', usage: { ...none, output_tokens: 5 } },
    ]);
    const usage = { input_tokens: 5, output_tokens: count, input_tokens_details: details };
    const event = { type: 'response.completed', response: { usage } };
    expect(toResponsesParts(event, (text) => text)).toEqual([
      { kind: 'usage', usage: { ...none, input_tokens: 5 } },
      { kind: 'finish', reason: 'stop' },
    ]);
  });

  test.each([['a text'], [[]], [7]])('in place of all of them: %j (regression)', (usage) => {
    const finish = { delta: {}, finish_reason: 'stop' };
    expect(toChatParts({ choices: [finish], usage })).toContainEqual({
      kind: 'finish',
      reason: 'stop',
    });
    const event = { type: 'response.completed', response: { usage } };
    expect(toResponsesParts(event, (text) => text)).toContainEqual({
      kind: 'finish',
      reason: 'stop',
    });
  });
});

test.each([
  ['localhost', true],
  ['a.localhost', true],
  ['127.0.0.1', true],
  ['127.9.9.9', true],
  ['[::1]', true],
  ['localhost.example.com', false],
  ['127.0.0.1.example.com', false],
  ['10.0.0.1', false],
])('isLoopback(%s) is %p', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});
