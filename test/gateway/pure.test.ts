/** Small pure parts: prices, redaction, deadlines, the collector. */
import { describe, expect, test } from '@jest/globals';
import { createCollector } from '../../gateway/collector.ts';
import { toCostUsd } from '../../gateway/pricing.ts';
import { redact, toQuote } from '../../gateway/redact.ts';
import { startTimeouts } from '../../gateway/timeouts.ts';
import { createManualClock } from './harness.ts';

describe('toCostUsd', () => {
  const prices = {
    cheap: { input: 1, output: 2 },
    cached: { input: 10, output: 20, cached_input: 1 },
  };
  const usage = { input_tokens: 1_000, output_tokens: 100, cached_input_tokens: 400 };
  test.each([
    ['a price', ['cheap'], 0.0012],
    ['a price for cached input', ['cached'], 0.0084],
    ['the name asked for goes first', ['cheap', 'cached'], 0.0012],
    ['the name of the provider, when the asked one has none', ['x', 'cheap'], 0.0012],
    ['no price', ['x', 'toString'], 0],
  ])('%s', (_name, models, expected) => {
    expect(toCostUsd(usage, models, prices)).toBeCloseTo(expected, 10);
  });

  test('more cached than read counts as all', () => {
    const odd = { input_tokens: 10, output_tokens: 0, cached_input_tokens: 50 };
    expect(toCostUsd(odd, ['cached'], prices)).toBeCloseTo(0.00001, 10);
  });
});

describe('redact', () => {
  test.each([
    ['the key wherever it is', 'a KEY b KEY', 'a [redacted] b [redacted]'],
    ['forms of keys', 'sk-proj-abcdefgh12345678 rk-abcdefgh12345678', '[redacted] [redacted]'],
    ['bearer headers', 'authorization: Bearer abcd.efgh', 'authorization: [redacted]'],
    ['nothing else', 'ask-me task-force', 'ask-me task-force'],
  ])('takes out: %s', (_name, text, expected) => {
    expect(redact(text, ['KEY', ''])).toBe(expected);
  });

  test('quotes are one line of bounded length', () => {
    expect(toQuote(' a\n  b ')).toBe('a b');
    expect(toQuote('abcdef', 3)).toBe('abc …');
  });
});

describe('startTimeouts', () => {
  const settings = {
    connectTimeoutMs: 10,
    firstTokenTimeoutMs: 20,
    idleTimeoutMs: 5,
    totalTimeoutMs: 100,
  };

  function start(): {
    clock: ReturnType<typeof createManualClock>;
    of: ReturnType<typeof startTimeouts>;
    fired: () => number;
  } {
    const clock = createManualClock();
    let count = 0;
    const of = startTimeouts({ clock, settings, onExpire: () => (count += 1) });
    return { clock, of, fired: () => count };
  }

  test.each([
    ['connect', [], 10],
    ['first_token', [false], 20],
    ['first_token', [false, false], 20],
    ['idle', [false, true], 5],
    ['idle', [false, true, false], 5],
  ] as const)('%s after chunks %j', (name, chunks, limitMs) => {
    const { clock, of, fired } = start();
    for (const token of chunks) of.onChunk(token);
    clock.advance(limitMs - 1);
    expect(of.expired()).toBeUndefined();
    clock.advance(1);
    expect(of.expired()).toEqual({ name, limitMs });
    clock.advance(1_000);
    expect(fired()).toBe(1);
  });

  test('a chunk that is no token does not extend the wait for the first one', () => {
    const { clock, of } = start();
    of.onChunk(false);
    clock.advance(15);
    of.onChunk(false);
    clock.advance(5);
    expect(of.expired()?.name).toBe('first_token');
  });

  test('held, only the total counts', () => {
    const { clock, of } = start();
    of.onChunk(true);
    of.hold();
    clock.advance(99);
    expect(of.expired()).toBeUndefined();
    clock.advance(1);
    expect(of.expired()).toEqual({ name: 'total', limitMs: 100 });
  });

  test('stopped, nothing expires', () => {
    const { clock, of } = start();
    of.stop();
    clock.advance(1_000);
    expect(of.expired()).toBeUndefined();
  });
});

describe('createCollector', () => {
  test('puts fragments together, by index', () => {
    const collector = createCollector('call_1_1');
    collector.add({ kind: 'tool_call', index: 0, id: 'a', name: 'shell', arguments: '' });
    collector.add({ kind: 'tool_call', index: 1, name: 'search', arguments: '{"p' });
    collector.add({ kind: 'tool_call', index: 0, arguments: '{}' });
    collector.add({ kind: 'tool_call', index: 1, arguments: '":1}' });
    collector.add({ kind: 'text', text: 'I look.' });
    collector.add({ kind: 'finish', reason: 'stop' });
    expect(collector.finishReason()).toBe('tool_calls');
    expect(collector.toMessage(false)).toEqual({
      text: 'I look.',
      tool_calls: [
        { id: 'a', name: 'shell', arguments: '{}' },
        { id: 'call_1_1_1', name: 'search', arguments: '{"p":1}' },
      ],
    });
    expect(collector.toMessage(true).tool_calls).toEqual([]);
  });

  test('calls that share an index are told apart by their ids', () => {
    const collector = createCollector('c');
    for (const id of ['a', 'b']) {
      collector.add({ kind: 'tool_call', index: 0, id, name: 'shell', arguments: '{}' });
    }
    expect(collector.toMessage(false).tool_calls.map(({ id }) => id)).toEqual(['a', 'b']);
  });

  test('a call without arguments has none', () => {
    const collector = createCollector('c');
    collector.add({ kind: 'tool_call', index: 0, id: 'a', name: 'now', arguments: '' });
    expect(collector.toMessage(false).tool_calls[0]?.arguments).toBe('{}');
  });

  test('tool_calls without a call is a stop', () => {
    const collector = createCollector('c');
    collector.add({ kind: 'finish', reason: 'tool_calls' });
    expect(collector.finishReason()).toBe('stop');
  });

  test('at most 128 calls', () => {
    const collector = createCollector('c');
    const add = (index: number): void =>
      collector.add({ kind: 'tool_call', index, name: 'x', arguments: '' });
    for (let index = 0; index < 128; index += 1) add(index);
    expect(() => add(128)).toThrow('more than 128 tool calls');
  });

  test('at most 4 MiB of arguments a call', () => {
    const collector = createCollector('c');
    const args = 'x'.repeat(4 * 1024 * 1024);
    collector.add({ kind: 'tool_call', index: 0, name: 'x', arguments: args });
    const more = { kind: 'tool_call', index: 0, arguments: 'x' } as const;
    expect(() => collector.add(more)).toThrow('arguments of more than');
  });
});
