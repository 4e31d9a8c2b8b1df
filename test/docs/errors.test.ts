/** docs/errors.md has the rows of the closed error table, in its order, and its exit codes. */
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { errorTable } from '../../base/errors.ts';
import { readTree } from '../architecture/source.ts';
import { findCode, findRows, findSection, readText } from './markdown.ts';

const document = readText('docs/errors.md');

test('the document has the code table, row by row', () => {
  const [table = ''] = document.split('## Exit codes');
  const written = findRows(table).map(([code = '', http, exit, title]) => ({
    code: findCode(code),
    http: Number(http),
    exit: Number(exit),
    title,
  }));
  const actual = Object.entries(errorTable).map(([code, row]) => ({ code, ...row }));
  expect(written).toEqual(actual);
});

test('every exit code of the table is explained', () => {
  const rows = findRows(findSection(document, '## Exit codes'));
  const explained = rows.map(([exit]) => Number(exit));
  const used = Object.values(errorTable).map((row) => row.exit);
  expect(explained).toEqual(expect.arrayContaining(used));
});

test('somebody gives each code (regression)', () => {
  const sources = readTree(join(import.meta.dirname, '..', '..')).filter(
    ({ path }) => path !== 'base/errors.ts' && !path.startsWith('test/'),
  );
  const unused = Object.keys(errorTable).filter(
    (code) => !sources.some(({ text }) => new RegExp(`\\b${code}\\b`).test(text)),
  );
  expect(unused).toEqual([]);
});
