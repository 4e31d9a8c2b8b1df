/** Arguments as headers: which schemas are refused, what is sent, and how it is written. */
import { describe, expect, test } from '@jest/globals';
import { findHeaderProblem, toParamHeaders } from '../../sandbox/mcp/param-headers.ts';

const header = (name: unknown, type: unknown = 'string') => ({ type, 'x-mcp-header': name });
const object = (properties: object, rest: object = {}) => ({ type: 'object', properties, ...rest });

describe('a schema whose arguments go into headers', () => {
  test.each<[string, object]>([
    ['has none', object({ a: { type: 'string' } })],
    [
      'has one of each type',
      object({ a: header('A'), b: header('B', 'integer'), c: header('C', 'boolean') }),
    ],
    ['has one further down', object({ a: object({ b: header('X-b.c') }) })],
    ['has an argument of that name', object({ 'x-mcp-header': { type: 'string' } })],
    ['has a name of 128 characters', object({ a: header('x'.repeat(128)) })],
  ])('that %s is taken', (_, schema) => {
    expect(findHeaderProblem(schema)).toBeUndefined();
  });

  const noName = /of 'a' is no name of a header/;
  test.each<[string, object, RegExp]>([
    ['is empty', object({ a: header('') }), noName],
    ['is no text', object({ a: header(1.5, 'object') }), noName],
    ['has a space', object({ a: header('a b') }), noName],
    ['has a colon', object({ a: header('a:b') }), noName],
    ['has a line end', object({ a: header('a\r\nb') }), noName],
    ['is not ASCII', object({ a: header('ä') }), noName],
    ['has 129 characters', object({ a: header('x'.repeat(129)) }), noName],
    ['is of a number', object({ a: header('A', 'number') }), noName],
    ['is of an object', object({ a: header('A', 'object') }), noName],
    ['is of two types', object({ a: header('A', ['string', 'null']) }), noName],
    ['is there twice', object({ a: header('A'), b: header('a') }), /same x-mcp-header/],
    ['is of the whole', object({}, header('A', 'object')), /where no argument is/],
    ['is of items', object({ a: { type: 'array', items: header('A') } }), /where no argument is/],
    ['is in a branch', object({}, { anyOf: [object({ a: header('A') })] }), /where no argument is/],
    ['is in a definition', object({}, { $defs: { a: header('A') } }), /where no argument is/],
  ])('that %s is refused', (_, schema, problem) => {
    expect(findHeaderProblem(schema)).toMatch(problem);
  });

  test.each<[unknown, string | undefined]>([
    ['eu west', 'eu west'],
    ['a\tb', 'a\tb'],
    ['', '=?base64??='],
    [' a', '=?base64?IGE=?='],
    ['a ', '=?base64?YSA=?='],
    ['a\r\nX-Evil: 1', '=?base64?YQ0KWC1FdmlsOiAx?='],
    ['ä', '=?base64?w6Q=?='],
    ['=?base64?YQ==?=', '=?base64?PT9iYXNlNjQ/WVE9PT89?='],
    [true, 'true'],
    [-5, '-5'],
    [2 ** 53, undefined],
    [0.5, undefined],
    [null, undefined],
    [undefined, undefined],
    [{ a: 1 }, undefined],
  ])('sends %j as %j', (value, expected) => {
    const schema = object({ in: object({ a: header('A') }), b: { type: 'string' } });
    const headers = toParamHeaders(schema, { in: { a: value }, b: 'not this' });
    expect(headers).toEqual(expected === undefined ? {} : { 'Mcp-Param-A': expected });
  });

  test('sends nothing of what only looks like an argument', () => {
    expect(toParamHeaders(object({ constructor: header('A') }), {})).toEqual({});
    expect(toParamHeaders(object({ a: header('A') }), 'text')).toEqual({});
  });
});
