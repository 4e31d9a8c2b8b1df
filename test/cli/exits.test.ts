import { describe, expect, test } from '@jest/globals';
import { errorTable, PrxError } from '../../base/errors.ts';
import { toErrorExit, toTurnExit } from '../../cli/outcome.ts';

describe('exit codes of a turn', () => {
  test.each([
    ['completed', 0],
    ['failed', 1],
    ['refused', 1],
    ['interrupted', 130],
    ['max_turns', 6],
    ['budget', 6],
    ['timeout', 124],
  ] as const)('%s exits %d', (outcome, code) => {
    expect(toTurnExit({ outcome })).toBe(code);
  });

  test.each([
    ['completed with a denied call', { outcome: 'completed', deniedCount: 1 }, 5],
    ['refused with a denied call', { outcome: 'refused', deniedCount: 2 }, 5],
    ['interrupted is stronger than denied', { outcome: 'interrupted', deniedCount: 1 }, 130],
    ['failed for want of a key', { outcome: 'failed', errorCode: 'PROVIDER_KEY_MISSING' }, 78],
    ['failed with an unknown code', { outcome: 'failed', errorCode: 'NEWER' }, 1],
  ] as const)('%s', (_name, result, code) => {
    expect(toTurnExit(result)).toBe(code);
  });
});

test.each(Object.entries(errorTable))('error %s exits as the table says', (code, row) => {
  expect(toErrorExit(new PrxError(code as keyof typeof errorTable, 'x'))).toBe(row.exit);
});
