import { expect, test } from '@jest/globals';
import { type ReadToken, splitSpan, toTokenTimes, toUsual } from '../../prove/latency.ts';

const token = (turn: number, fromMs: number, atMs: number): ReadToken => ({ turn, fromMs, atMs });

test('a gap is between two tokens that one client reads of one answer', () => {
  const times = toTokenTimes([
    [token(1, 0, 1), token(1, 25, 30), token(2, 500, 502), token(2, 525, 526)],
    [token(1, 0, 3)],
  ]);
  expect(times).toEqual({ latencies: [1, 5, 2, 1, 3], gaps: [29, 24] });
});

test.each([
  ['a short one as often as it fits', 3000, [0, 1000, 2000]],
  ['a rest is left out', 2500, [0, 1000]],
  ['a shorter one is taken whole', 700, [0]],
])('spans as long as a bomb of a second: %s', (_, toMs, starts) => {
  const spans = splitSpan(0, toMs, 1000);
  expect(spans).toEqual(starts.map((ms) => [ms, Math.min(toMs, ms + 1000)]));
});

test('what is usual is the middle of the spans, so that one pause of the machine is not', () => {
  expect(toUsual([[1, 2], [1, 90], [3]])).toBe(3);
});
