/** The pattern languages of the rules: what is a pattern, and what it matches. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  expandBraces,
  matchesName,
  matchesPath,
} from '../../../../supervisor/effects/policy/glob.ts';
import {
  findPatternProblem,
  matchPath,
  matchTree,
} from '../../../../supervisor/effects/policy/pattern.ts';

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

  test.each([
    // What stands in the workspace's own folder says nothing of one below (regression).
    ['secret*', 'src', 'no'],
    ['*.key', 'src', 'no'],
    ['*/x', 'src', 'maybe'],
    ['*/x', 'src/deep', 'no'],
    ['{src,lib}/x', 'lib', 'maybe'],
    ['s*/a/b', 'src/a', 'maybe'],
    ['s*/a/b', 'lib/a', 'no'],
    ['**/.env', 'src', 'maybe'],
    ['src/**/x', 'src/deep', 'maybe'],
    ['/usr/*/x', '/usr', 'maybe'],
    ['/usr/*/x', '/etc', 'no'],
    ['/etc/**', '/', 'maybe'],
  ])('pattern %s for the tree %s: %s', (pattern, tree, match) => {
    expect(matchTree(pattern, tree, false)).toBe(match);
  });

  test('a tree is never free of what a path in it is not', () => {
    const name = fc.string({ unit: fc.constantFrom('a', 'b', '.'), minLength: 1, maxLength: 2 });
    const piece = fc.oneof(name, fc.constantFrom('*', '**', 'a*', '?', '{a,b/a}', '*b', 'a**'));
    const names = (one: fc.Arbitrary<string>) => fc.array(one, { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(names(name), names(name), names(piece), (folders, inner, pieces) => {
        const [tree, pattern] = [folders.join('/'), pieces.join('/')];
        const isMeant = matchPath(pattern, `${tree}/${inner.join('/')}`) === 'yes';
        return !isMeant || matchTree(pattern, tree, false) !== 'no';
      }),
      { numRuns: 20_000 },
    );
  });

  test('cost pattern × text, not more', () => {
    expect(matchesName('*a'.repeat(300), 'a'.repeat(3000).concat('b'))).toBe(false);
  });

  test('braces are written out', () => {
    expect(new Set(expandBraces('{a,b{c,d}}x'))).toEqual(new Set(['ax', 'bcx', 'bdx']));
    expect(expandBraces('}')).toBeUndefined();
  });
});
