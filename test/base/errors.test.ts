import { describe, expect, test } from '@jest/globals';
import { assert, unreachable } from '../../base/assert.ts';
import {
  errorTable,
  isErrorCode,
  isPrxError,
  PrxError,
  systemCode,
  toPrxError,
} from '../../base/errors.ts';

describe('the error table', () => {
  test.each(Object.entries(errorTable))('%s can be shown at each door', (code, row) => {
    expect(code).toMatch(/^[A-Z][A-Z_]*[A-Z]$/);
    expect(row.http).toBeGreaterThanOrEqual(400);
    expect(row.http).toBeLessThan(600);
    expect(row.exit).toBeGreaterThan(0);
    expect(row.exit).toBeLessThan(256);
    expect(row.title).toMatch(/^[A-Z].*[^.]$/);
  });

  test('holds its own codes only', () => {
    expect(['NOT_FOUND', 'toString', '__proto__', 7, undefined].map(isErrorCode)).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
  });
});

describe('PrxError', () => {
  test('carries code, message, data and cause', () => {
    const cause = new Error('why');
    const error = new PrxError('QUEUE_FULL', 'no room', { data: { limit: 3 }, cause });
    expect([error.name, error.code, error.message, error.data, error.cause]).toEqual([
      'PrxError',
      'QUEUE_FULL',
      'no room',
      { limit: 3 },
      cause,
    ]);
    expect([isPrxError(error), isPrxError(error, 'QUEUE_FULL')]).toEqual([true, true]);
    expect([isPrxError(error, 'NOT_FOUND'), isPrxError(cause)]).toEqual([false, false]);
    expect('cause' in new PrxError('NOT_FOUND', '')).toBe(false);
  });

  test('is made of anything that is thrown, once', () => {
    const known = new PrxError('NOT_FOUND', 'nowhere');
    expect(toPrxError(known)).toBe(known);
    const bug = new TypeError('bad');
    expect(toPrxError(bug)).toMatchObject({ code: 'INTERNAL', message: 'bad', cause: bug });
    expect(toPrxError('text')).toMatchObject({ code: 'INTERNAL', message: 'text' });
    expect(toPrxError(undefined)).toMatchObject({ code: 'INTERNAL', message: 'undefined' });
  });
});

test('the system code is found where there is one', () => {
  const found = [{ code: 'ENOENT' }, { code: 7 }, new Error('x'), null, 'ENOENT'].map(systemCode);
  expect(found).toEqual(['ENOENT', undefined, undefined, undefined, undefined]);
});

test('assertions throw what must hold', () => {
  expect(() => assert(true, 'x')).not.toThrow();
  expect(() => assert(0, 'it must hold')).toThrow('it must hold');
  expect(() => unreachable('odd' as never)).toThrow('unreachable value: "odd"');
});
