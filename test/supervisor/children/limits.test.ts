/** The memory ladder: marks, hysteresis, and how often one looks. */
import { describe, expect, test } from '@jest/globals';
import {
  GROUND,
  isNear,
  isPressed,
  type Ladder,
  type LadderAction,
  stepLadder,
  toIntervalMs,
} from '../../../supervisor/children/limits.ts';

const LIMIT = 1000;

function climb(samples: readonly number[]): { ladder: Ladder; actions: LadderAction[] } {
  let ladder = GROUND;
  const actions = samples.map((bytes) => {
    const step = stepLadder(ladder, bytes, LIMIT);
    ladder = step.ladder;
    return step.action;
  });
  return { ladder, actions };
}

describe('the ladder', () => {
  test.each([
    [849, 'none'],
    [850, 'collect'],
    [1000, 'collect'],
    [1001, 'kill'],
  ] as const)('%d of 1000 → %s (FAULTS 48)', (bytes, action) => {
    expect(climb([bytes]).actions).toEqual([action]);
  });

  test('one sample over the soft mark is a warning and no more (FAULTS 48)', () => {
    const { ladder, actions } = climb([850, 800, 700]);
    expect(actions).toEqual(['collect', 'none', 'none']);
    expect(isPressed(ladder)).toBe(false);
  });

  test('swaying around the mark is told once, until it was well below (FAULTS 48)', () => {
    expect(climb([850, 800, 860, 800, 870]).actions.filter((each) => each !== 'none')).toEqual([
      'collect',
    ]);
    expect(climb([850, 749, 850]).actions).toEqual(['collect', 'none', 'collect']);
  });

  test('what stays over it is pressed', () => {
    expect(isPressed(climb([850, 860]).ladder)).toBe(false);
    expect(isPressed(climb([850, 860, 870]).ladder)).toBe(true);
    expect(isPressed(climb([850, 860, 870, 840]).ladder)).toBe(false);
  });
});

test('the nearer to the limit, the more often', () => {
  const headrooms = [-1, 0, 100e6, 200e6, 500e6, 2e9, 8e9];
  expect(headrooms.map(toIntervalMs)).toEqual([50, 50, 50, 100, 250, 1000, 1000]);
});

test('the second source is asked from 70 % on', () => {
  expect([699, 700].map((bytes) => isNear(bytes, LIMIT))).toEqual([false, true]);
});
