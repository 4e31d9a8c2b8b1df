import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type FailureKind, failureTable } from '../../gateway/failures.ts';
import { decideRetry, parseRetryAfter } from '../../gateway/retry.ts';

const settings = { maxRetries: 2, retryBaseMs: 100, retryMaxMs: 1_000, fallbacks: ['b', 'c'] };
const half = { next: () => 0.5 };

describe('decideRetry', () => {
  test.each<
    [string, FailureKind, number, string, number | undefined, number | null, string | undefined]
  >([
    ['first retry', 'unreachable', 1, 'a', undefined, 75, undefined],
    ['second retry waits longer', 'unreachable', 2, 'a', undefined, 150, undefined],
    ['then the first fallback', 'unreachable', 3, 'a', undefined, 75, 'b'],
    ['a fallback has its own retries', 'timeout', 4, 'b', undefined, 75, undefined],
    ['then the next fallback', 'stream_broken', 6, 'b', undefined, 75, 'c'],
    ['after the last there is nothing', 'overloaded', 9, 'c', undefined, null, undefined],
    ['Retry-After is waited for in full', 'rate_limited', 1, 'a', 700, 750, undefined],
    ['a short one does not shorten the back-off', 'rate_limited', 2, 'a', 10, 150, undefined],
    ['at the longest wait', 'rate_limited', 1, 'a', 1_000, 1_050, undefined],
    ['over it the model is given up', 'rate_limited', 1, 'a', 1_001, 75, 'b'],
    ['and with it the last', 'rate_limited', 7, 'c', 1_001, null, undefined],
    ['a refusal stands', 'refused', 1, 'a', undefined, null, undefined],
    ['so does the total timeout', 'total_timeout', 1, 'a', undefined, null, undefined],
    ['a lost attempt is asked anew at once', 'lost', 9, 'c', undefined, 0, undefined],
  ])('%s', (_name, kind, attempt, model, retryAfterMs, retryInMs, nextModel) => {
    const failure = { kind, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
    expect(decideRetry({ failure, attempt, model, settings }, half)).toEqual({
      retry_in_ms: retryInMs,
      ...(nextModel === undefined ? {} : { next_model: nextModel }),
    });
  });

  test('no retries and no fallbacks: one attempt', () => {
    const none = { ...settings, maxRetries: 0, fallbacks: [] };
    const failure = { kind: 'unreachable' as const };
    const verdict = decideRetry({ failure, attempt: 1, model: 'a', settings: none }, half);
    expect(verdict).toEqual({ retry_in_ms: null });
  });

  test('ends for every failure that goes on, within (1 + retries) × models attempts', () => {
    const kinds = (Object.keys(failureTable) as FailureKind[]).filter((kind) => kind !== 'lost');
    const shape = {
      kind: fc.constantFrom(...kinds),
      maxRetries: fc.integer({ min: 0, max: 5 }),
      fallbacks: fc.uniqueArray(fc.constantFrom('b', 'c', 'd')),
      retryAfterMs: fc.integer({ min: 0, max: 3_000 }),
      random: fc.double({ min: 0, max: 0.999, noNaN: true }),
    };
    fc.assert(
      fc.property(fc.record(shape), ({ kind, maxRetries, fallbacks, retryAfterMs, random }) => {
        const mine = { ...settings, maxRetries, fallbacks };
        let model = 'a';
        let attempt = 1;
        for (; ; attempt += 1) {
          const question = { failure: { kind, retryAfterMs }, attempt, model, settings: mine };
          const verdict = decideRetry(question, { next: () => random });
          if (verdict.retry_in_ms === null) break;
          expect(verdict.retry_in_ms).toBeLessThanOrEqual(mine.retryMaxMs + mine.retryBaseMs);
          if (verdict.next_model === undefined) {
            expect(verdict.retry_in_ms).toBeGreaterThanOrEqual(retryAfterMs);
          }
          model = verdict.next_model ?? model;
        }
        expect(attempt).toBeLessThanOrEqual((1 + maxRetries) * (1 + fallbacks.length));
      }),
    );
  });
});

describe('parseRetryAfter', () => {
  const wallMs = Date.parse('2026-01-02T03:04:05Z');
  test.each([
    [{}, undefined],
    [{ 'retry-after': '7' }, 7_000],
    [{ 'retry-after': '0.5' }, 500],
    [{ 'retry-after-ms': '250', 'retry-after': '9' }, 250],
    [{ 'retry-after': 'Fri, 02 Jan 2026 03:04:15 GMT' }, 10_000],
    [{ 'retry-after': 'Fri, 02 Jan 2026 03:00:00 GMT' }, 0],
    [{ 'retry-after': 'soon' }, undefined],
    [{ 'retry-after': '-3' }, undefined],
    [{ 'retry-after': '' }, undefined],
  ])('%j', (headers, expected) => {
    expect(parseRetryAfter(new Headers(headers), wallMs)).toBe(expected);
  });
});
