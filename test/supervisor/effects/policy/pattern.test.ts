/** The pattern languages of the rules: what is a pattern, and what it matches. */
import { describe, expect, test } from '@jest/globals';
import {
  expandBraces,
  matchesName,
  matchesPath,
} from '../../../../supervisor/effects/policy/glob.ts';
import { findPatternProblem } from '../../../../supervisor/effects/policy/pattern.ts';

describe('patterns', () => {
  test.each([
    ['command', 'git status; rm', /one simple command/],
    ['command', 'git "x"', /without quotes/],
    ['command', ' git', /single blanks/],
    ['path', '../x', /no \. or \.\. folder/],
    ['path', 'a//b', /no \/\//],
    ['path', 'dir/', /dir\/\*\*/],
    ['path', '{a,b', /brace/],
    ['domain', '*.org', /a host \(example\.org\)/],
    ['domain', 'https://example.org', /a host/],
    ['tool', '', /1 to 1000/],
    ['tool', '{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}', /too many/],
  ] as const)('%s %j is refused', (kind, pattern, problem) => {
    expect(findPatternProblem(kind, pattern)).toMatch(problem);
  });

  test.each([
    ['**', '.a/.b', true],
    ['*', '.a', true],
    ['*', 'a/b', false],
    ['a/*/c', 'a/b/c', true],
    ['a/*/c', 'a/b/d/c', false],
    ['a/**/c', 'a/c', true],
    ['a/**/c', 'a/b/d/c', true],
    ['a/**/c', 'a/bc', false],
    ['**/c', 'c', true],
    ['*.{ts,js}', 'a.js', true],
    ['*.{ts,js}', 'a.{ts,js}', false],
    ['a[b]', 'a[b]', true],
    ['a.c', 'abc', false],
    ['?', '😀', true],
  ])('path %s on %s: %s', (pattern, path, expected) => {
    expect(matchesPath(pattern, path)).toBe(expected);
  });

  test('cost pattern × text, not more', () => {
    expect(matchesName('*a'.repeat(300), 'a'.repeat(3000).concat('b'))).toBe(false);
  });

  test('braces are written out', () => {
    expect(new Set(expandBraces('{a,b{c,d}}x'))).toEqual(new Set(['ax', 'bcx', 'bdx']));
    expect(expandBraces('}')).toBeUndefined();
  });
});
