import { describe, expect, test } from '@jest/globals';
import type { ProviderMessage } from '../../protocol/content.ts';
import { cutMiddle, shortenTranscript } from '../../worker/shorten.ts';
import { estimateRequest } from '../../worker/tokens.ts';
import { call } from './harness.ts';

const user = (text: string): ProviderMessage => ({
  role: 'user',
  content: [{ type: 'text', text }],
});
const tool = (text: string): ProviderMessage => ({ role: 'tool', call_id: 'a', name: 'x', text });

describe('the estimate', () => {
  test.each<[string, ProviderMessage, number]>([
    ['four characters of English a token', user('x'.repeat(400)), 104],
    ['a token a character in scripts of three bytes', user('語'.repeat(400)), 304],
    ['a flat cost for an image, whatever its size', image('A'.repeat(100_000)), 1_604],
    ['text, name and arguments of a call', asking('x'.repeat(40), '{"a":"bcdef"}'), 27],
    ['a tool result', tool('x'.repeat(400)), 112],
    ['a system message', { role: 'system', text: 'x'.repeat(40) }, 14],
  ])('counts %s', (_, message, tokens) => {
    expect(estimateRequest([message], [])).toBe(tokens);
  });

  test('counts the tools that are offered', () => {
    const spec = { name: 'shell', description: 'Run.', parameters: { type: 'object' } };
    expect(estimateRequest([], [spec, spec])).toBe(2 * estimateRequest([], [spec]));
    expect(estimateRequest([], [spec])).toBeGreaterThan(20);
  });
});

function image(data: string): ProviderMessage {
  return { role: 'user', content: [{ type: 'image_url', url: `data:image/png;base64,${data}` }] };
}

function asking(text: string, args: string): ProviderMessage {
  return { role: 'assistant', message: { text, tool_calls: [call('a', args, 'shel')] } };
}

describe('shortening', () => {
  test('leaves alone what fits', () => {
    const messages = [user('x'), tool('y'.repeat(100_000))];
    expect(shortenTranscript(messages, [], 30_000)).toBe(messages);
  });

  test('cuts the largest results first, and no more than it must', () => {
    const messages = [user('u'.repeat(3_000)), tool('a'.repeat(20_000)), tool('b'.repeat(7_000))];
    const shortened = shortenTranscript(messages, [], 5_000);
    expect(shortened[0]).toBe(messages[0]);
    expect(shortened[2]).toEqual(messages[2]);
    expect(estimateRequest(shortened, [])).toBeLessThanOrEqual(5_000);
    expect(JSON.stringify(shortened[1])).toContain('12000 characters left out');
  });

  test('gives what it can where that is not enough', () => {
    const messages = [user('u'.repeat(9_000)), tool('a'.repeat(20_000))];
    const shortened = shortenTranscript(messages, [], 100);
    expect(shortened[0]).toBe(messages[0]);
    expect(estimateRequest(shortened, [])).toBeLessThan(2_400);
  });

  test('never leaves half a character', () => {
    const text = '😀'.repeat(101);
    for (const max of [10, 11, 13, 200]) expect(cutMiddle(text, max).isWellFormed()).toBe(true);
    expect(cutMiddle(text, 202)).toBe(text);
    expect(cutMiddle('abcdef', 4)).toBe('ab\n[… 2 characters left out …]\nef');
  });
});
