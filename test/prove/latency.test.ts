import { expect, test } from '@jest/globals';
import { type ReadToken, toTokenTimes } from '../../prove/latency.ts';

const token = (turn: number, fromMs: number, atMs: number): ReadToken => ({ turn, fromMs, atMs });

test('a gap is between two tokens that one client reads of one answer', () => {
  const times = toTokenTimes([
    [token(1, 0, 1), token(1, 25, 30), token(2, 500, 502), token(2, 525, 526)],
    [token(1, 0, 3)],
  ]);
  expect(times).toEqual({ latencies: [1, 5, 2, 1, 3], gaps: [29, 24] });
});
