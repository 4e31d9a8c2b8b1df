import { describe, expect, test } from '@jest/globals';
import { isPrxError } from '../../base/errors.ts';
import { assertTransition, type SessionState, sessionStateSchema } from '../../protocol/states.ts';

/** One row a state, written out by hand: the design, not the code, is what is checked. */
const matrix: Readonly<Record<SessionState, string>> = {
  created: 'starting stopped',
  starting: 'running failed stopping',
  running: 'suspended awaiting stopping failed',
  suspended: 'running stopping failed',
  awaiting: 'running stopping failed',
  stopping: 'stopped failed',
  stopped: 'starting',
  failed: 'starting',
};

const states = sessionStateSchema.options;
const cells = states.flatMap((from) => states.map((to) => [from, to] as const));

describe('session states', () => {
  test('there are eight', () => {
    expect(cells).toHaveLength(64);
  });

  test.each(cells)('%s → %s', (from, to) => {
    const allowed = matrix[from].split(' ');
    if (allowed.includes(to)) {
      expect(() => assertTransition(from, to)).not.toThrow();
      return;
    }
    try {
      assertTransition(from, to);
      throw new Error('the transition was allowed');
    } catch (error) {
      if (!isPrxError(error)) throw error;
      expect(error.code).toBe('STATE_INVALID');
      expect([...(error.data.allowed as string[])].sort()).toEqual([...allowed].sort());
      for (const target of allowed) expect(error.message).toContain(target);
    }
  });
});
