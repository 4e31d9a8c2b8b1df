import { describe, expect, test } from '@jest/globals';
import { readConfinement } from '../../worker/confinement.ts';

const permission = (...allowed: string[]) => ({ has: (scope: string) => allowed.includes(scope) });

describe('confinement', () => {
  test.each([
    ['nothing', { argv: ['node', 'main.ts'] }, []],
    [
      'what the starter tells',
      { argv: ['node', '--confinement=pid-namespace,net-namespace', '--confinement=no-new-privs'] },
      ['net-namespace', 'no-new-privs', 'pid-namespace'],
    ],
    ['odd names', { argv: ['--confinement=,A B,<x>,ok,ok'] }, ['ok']],
    ['the runtime', { argv: [], permission: permission() }, ['permission-model']],
    [
      'a runtime that lets it read',
      { argv: [], permission: permission('fs.read') },
      ['permission-model'],
    ],
    ['a runtime that lets it write', { argv: [], permission: permission('fs.write') }, []],
    ['a runtime that lets it start processes', { argv: [], permission: permission('child') }, []],
    ['a runtime that lets it speak', { argv: [], permission: permission('net') }, []],
    ['a claim that only the runtime can make', { argv: ['--confinement=permission-model'] }, []],
  ])('of %s', (_, confined, expected) => {
    expect(readConfinement(confined)).toEqual(expected);
  });
});
