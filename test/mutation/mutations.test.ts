/** The list of mutations cannot rot: each line stands where it is said to stand, each finder is a
 *  test that exists, and docs/guarantees.md shows all of them. Whether they are found is seen by
 *  `npm run mutate`, which takes minutes. */
import { describe, expect, test } from '@jest/globals';
import ts from 'typescript';
import { findRows, findSection, readText } from '../docs/markdown.ts';
import { findTestNames } from '../docs/test-names.ts';
import { mutations } from './all.ts';
import { countOriginals, describeFinder, invariantOf, type Mutation, mutate } from './mutation.ts';

const INVARIANTS = 12;

describe('the mutations', () => {
  test('are at least two for each invariant, each with a name of its own', () => {
    const counts = Array.from(
      { length: INVARIANTS },
      (_, index) => mutations.filter((each) => invariantOf(each) === index + 1).length,
    );
    expect(counts.filter((count) => count < 2)).toEqual([]);
    expect(new Set(mutations.map(({ id }) => id)).size).toBe(mutations.length);
  });

  test.each(mutations.map((each) => [each.id, each] as const))(
    '%s: its line stands in its file once, and what replaces it is a program',
    (_, mutation) => {
      const text = readText(mutation.file);
      expect(countOriginals(text, mutation)).toBe(1);
      const { diagnostics } = ts.transpileModule(mutate(text, mutation), {
        reportDiagnostics: true,
        compilerOptions: { target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext },
      });
      expect(diagnostics).toEqual([]);
    },
  );

  test('are looked for by tests that exist', () => {
    const missing = mutations.flatMap(({ id, finder }) =>
      finder.kind === 'test' && !findTestNames(readText(finder.file)).has(finder.name) ? [id] : [],
    );
    expect(missing).toEqual([]);
  });

  test('stand in docs/guarantees.md as they are here', () => {
    const section = findSection(readText('docs/guarantees.md'), '## Taken away, and found');
    expect(findRows(section)).toEqual(mutations.map(toRow));
  });
});

function toRow(mutation: Mutation): string[] {
  const { line, file, finder } = mutation;
  return [String(invariantOf(mutation)), line, file, describeFinder(finder)];
}
