/** docs/dependencies.md names every package of package.json, once, and no other. */
import { expect, test } from '@jest/globals';
import { findCode, findRows, findSection, readText } from './markdown.ts';

const manifest: Readonly<Record<string, Readonly<Record<string, string>>>> = JSON.parse(
  readText('package.json'),
);
const document = readText('docs/dependencies.md');

test.each([
  ['dependencies', '## At run time'],
  ['optionalDependencies', '## Optional: the pinned Node'],
  ['devDependencies', '## For development'],
  ['overrides', '## Overrides'],
])('%s are the packages below "%s"', (key, heading) => {
  const rows = findRows(findSection(document, heading));
  const named = rows.map(([name = '']) => findCode(name));
  expect(named.toSorted()).toEqual(Object.keys(manifest[key] ?? {}).toSorted());
});

test('each has a reason', () => {
  for (const [name, ...cells] of findRows(document)) {
    expect([name, cells[0]]).not.toContain('');
  }
});
