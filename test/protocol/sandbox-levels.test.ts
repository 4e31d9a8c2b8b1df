/** The ladder as data: order, what is accepted, what is asked. */
import { describe, expect, test } from '@jest/globals';
import {
  guardsWorkspace,
  isConfining,
  isWeaker,
  sandboxLevels,
  toAcceptedLevels,
  toAskedLevels,
} from '../../protocol/sandbox-levels.ts';

test('each level is weaker than those before it, and none is weaker than itself', () => {
  const table = sandboxLevels.map((level) => sandboxLevels.map((other) => isWeaker(level, other)));
  expect(table).toEqual(sandboxLevels.map((_, row) => sandboxLevels.map((_, at) => row > at)));
});

test('what is not the name of a level confines nothing', () => {
  const names = [...sandboxLevels, '', 'something-new', 'toString'];
  expect(names.filter(isConfining)).toEqual(['bubblewrap', 'unshare', 'landlock']);
  expect(names.filter(guardsWorkspace)).toEqual(['bubblewrap', 'unshare']);
});

describe('[promise:deny-by-default] accepted levels', () => {
  test('unwritten, the minimum is the strongest, or what backend names', () => {
    expect(toAcceptedLevels('auto', undefined)).toEqual(['bubblewrap']);
    for (const level of sandboxLevels) expect(toAcceptedLevels(level, undefined)).toEqual([level]);
  });

  test('a written minimum opens the ladder down to it, and never to none', () => {
    expect(sandboxLevels.map((minimum) => toAcceptedLevels('auto', minimum))).toEqual([
      ['bubblewrap'],
      ['bubblewrap', 'unshare'],
      ['bubblewrap', 'unshare', 'landlock'],
      ['bubblewrap', 'unshare', 'landlock', 'limits-only'],
      ['bubblewrap', 'unshare', 'landlock', 'limits-only'],
    ]);
  });

  test('a backend below the written minimum leaves nothing', () => {
    for (const [row, backend] of sandboxLevels.entries()) {
      for (const [at, minimum] of sandboxLevels.entries()) {
        expect(toAcceptedLevels(backend, minimum)).toEqual(row > at ? [] : [backend]);
      }
    }
  });
});

test('a machine is asked about the levels that can be meant; about none never', () => {
  expect(toAskedLevels('auto')).toEqual(['bubblewrap', 'unshare', 'landlock', 'limits-only']);
  expect(toAskedLevels('landlock')).toEqual(['landlock']);
  expect(toAskedLevels('none')).toEqual([]);
});
