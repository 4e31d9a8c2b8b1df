/** docs/guarantees.md cites tests: each file and each test name there must exist. README.md sums it
 *  up: its table has the same twelve, with the same verdicts. Links lead somewhere. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { findLocalLinks, findRows, findSection, readText, root } from './markdown.ts';
import { findTestNames } from './test-names.ts';

const document = readText('docs/guarantees.md');
const citations = findRows(document)
  .filter(([file = '']) => file.startsWith('test/'))
  .map(([file = '', name = '']) => ({ file, name }));
const files = [...new Set(citations.map(({ file }) => file))];
const invariants = [...document.matchAll(/^## (\d+)\. (.+)\n\n\*(Proved|Partly)[^*]*\*$/gm)];

describe('docs/guarantees.md', () => {
  test.each(files)('cites tests of %s that exist', (file) => {
    const names = findTestNames(readText(file));
    const cited = citations.filter((citation) => citation.file === file);
    expect(cited.map(({ name }) => name).filter((name) => !names.has(name))).toEqual([]);
  });

  test('has twelve invariants, each with a verdict and a test', () => {
    expect(invariants.map(([, number]) => Number(number))).toEqual(range(1, 12));
    for (const [, number, title] of invariants) {
      const section = findSection(document, `## ${number}. ${title}`);
      expect([title, findRows(section).length]).not.toEqual([title, 0]);
    }
  });

  test('has the verdicts that README.md shows', () => {
    const rows = findRows(findSection(readText('README.md'), '## Guarantees'));
    const shown = rows.map(([number, , verdict]) => [
      number,
      /^\[(\w+)\]/.exec(verdict ?? '')?.[1],
    ]);
    expect(shown).toEqual(
      invariants.map(([, number, , verdict]) => [number, verdict === 'Proved' ? 'yes' : 'partly']),
    );
  });
});

describe('links', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', ...listPages()];
  test.each(pages)('of %s lead to files', (page) => {
    const targets = findLocalLinks(readText(page)).map((path) => join(dirname(page), path));
    expect(targets.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });
});

function listPages(): string[] {
  return findLocalLinks(readText('README.md')).filter((path) => /^docs\/.*\.md$/.test(path));
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
