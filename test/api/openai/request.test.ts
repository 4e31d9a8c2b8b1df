/** What OpenAI clients may send: what is taken, what is refused, what the agent is told. */
import { describe, expect, test } from '@jest/globals';
import {
  chatRequestSchema,
  type Message,
  responseRequestSchema,
  toContent,
  toMessage,
} from '../../../api/openai/request.ts';

const NEW = { isContinued: false, param: 'messages' } as const;
const CONTINUED = { ...NEW, isContinued: true };
const user = (content: string): Message => ({ role: 'user', content });
const chat = (rest: object): object => ({ model: 'a', messages: [user('x')], ...rest });

describe('a request', () => {
  test.each([
    ['nothing more', {}],
    ['sampling, which is the agent’s', { temperature: 0.2, max_tokens: 5, user: 'u', seed: 1 }],
    ['no tools', { tools: [], tool_choice: 'auto', functions: null }],
    ['a field of a message that is newer', { messages: [{ ...user('x'), name: 'n' }] }],
  ])('with %s is taken', (_name, rest) => {
    expect(chatRequestSchema.safeParse(chat(rest)).success).toBe(true);
  });

  test.each([
    ['tools of its own', { tools: [{ type: 'function' }] }, 'tools'],
    ['several answers', { n: 2 }, 'n'],
    ['a form of the answer', { response_format: { type: 'json_schema' } }, 'response_format'],
    ['a stop', { stop: ['x'] }, 'stop'],
    ['a stop that is a word', { stop: 'none' }, 'stop'],
  ])('with %s is refused by name', (_name, rest, param) => {
    const result = chatRequestSchema.safeParse(chat(rest));
    expect(result.error?.issues[0]?.path[0]).toBe(param);
  });

  test('with a key that nobody knows is refused', () => {
    expect(chatRequestSchema.safeParse(chat({ colour: 1 })).success).toBe(false);
    expect(responseRequestSchema.safeParse({ model: 'a', input: 'x', colour: 1 }).success).toBe(
      false,
    );
  });
});

describe('the input of a turn', () => {
  const history: Message[] = [user('one'), { role: 'assistant', content: 'two' }, user('three')];

  test('of a session that goes on: what came after the last answer', () => {
    expect(toContent(history, CONTINUED)).toEqual([{ type: 'text', text: 'three' }]);
  });

  test('of a new session: what was said before, as one text, then the new message', () => {
    expect(toContent(history, NEW)).toEqual([
      {
        type: 'text',
        text: 'The conversation so far:\n\nuser: one\n\nassistant: two\n\nNow:',
      },
      { type: 'text', text: 'three' },
    ]);
  });

  test('has images, and instructions under their name', () => {
    const messages: Message[] = [
      { role: 'system', content: 'be brief' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'see' },
          { type: 'image_url', image_url: { url: 'data:1' } },
          { type: 'input_image', image_url: 'data:2' },
        ],
      },
    ];
    expect(toContent(messages, NEW)).toEqual([
      { type: 'text', text: 'Instructions: be brief' },
      { type: 'text', text: 'see' },
      { type: 'image_url', url: 'data:1' },
      { type: 'image_url', url: 'data:2' },
    ]);
  });

  test('takes what the output of a response was as history, calls included', () => {
    const call = { type: 'mcp_call', server_label: 'prx', id: 'mcp_4_1.1.1', status: 'completed' };
    const items = [
      { role: 'user', content: 'list' },
      { ...call, name: 'shell', arguments: '{"command":"ls"}', output: 'a.txt', error: null },
      { ...call, name: 'shell', arguments: '{}', output: null, error: 'denied: no' },
      { type: 'mcp_approval_request', name: 'write_file', arguments: '{}', server_label: 'prx' },
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'one' }] },
      { role: 'user', content: 'which?' },
    ];
    const { input } = responseRequestSchema.parse({ model: 'default', input: items });
    const messages =
      typeof input === 'string' ? [] : input.flatMap((item) => toMessage(item) ?? []);
    expect(toContent(messages, NEW)).toEqual([
      {
        type: 'text',
        text:
          'The conversation so far:\n\nuser: list\n\ntool: shell {"command":"ls"}\na.txt\n\n' +
          'tool: shell {}\ndenied: no\n\ntool: write_file {}\n\nassistant: one\n\nNow:',
      },
      { type: 'text', text: 'which?' },
    ]);
  });

  test.each([
    ['an answer', [user('x'), { role: 'assistant', content: 'y' } as const]],
    ['instructions only', [{ role: 'system', content: 'y' } as const]],
  ])('that ends with %s asks nothing, and is refused', (_name, messages) => {
    expect(() => toContent(messages, NEW)).toThrow('the last message must be one of the role user');
  });

  test.each([
    ['nothing', null],
    ['no part', []],
    ['spaces', ' \n'],
    ['an empty part', [{ type: 'input_text' as const, text: '' }]],
  ])('that ends with a message of %s is refused, with its parameter (regression)', (_, content) => {
    const messages: Message[] = [
      { role: 'system', content: 'y' },
      { role: 'user', content },
    ];
    const refusal = { code: 'INVALID_REQUEST', data: { param: 'input' } };
    expect(() => toContent(messages, { isContinued: false, param: 'input' })).toThrow(
      expect.objectContaining(refusal),
    );
  });
});
