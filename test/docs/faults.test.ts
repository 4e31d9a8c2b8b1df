/** docs/faults.md: a row for each fault, complete; each test that it cites exists and names the
 *  fault, and each test that names a fault is cited there. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { findRows, readText, root } from './markdown.ts';
import { findTestNames } from './test-names.ts';

const COUNT = 69;

interface Citation {
  readonly fault: number;
  readonly file: string;
  readonly name: string;
}

const rows = findRows(readText('docs/faults.md')).filter(([number = '']) => /^\d+$/.test(number));

/** The last cell: tests as `file` name, and a limit, with breaks between them. */
const parts = rows.flatMap(([number = '', , , cell = '']) =>
  cell.split('<br>').map((part) => ({ fault: Number(number), part: part.trim() })),
);

const cited: readonly Citation[] = parts.flatMap(({ fault, part }) => {
  const [, file, name] = /^`(test\/[^`]+\.test\.ts)` (.+)$/.exec(part) ?? [];
  return file === undefined || name === undefined ? [] : [{ fault, file, name }];
});

const files = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.test.ts') && !path.startsWith('docs/'))
  .map((path) => join('test', path));

/** Every test whose name says which faults it is about. */
const named: readonly Citation[] = files.flatMap((file) =>
  [...findTestNames(readText(file))].flatMap((name) => {
    const numbers = /\(FAULTS ([\d, ]+)\)/.exec(name)?.[1] ?? '';
    return numbers.split(',').flatMap((number) => {
      return number.trim() === '' ? [] : [{ fault: Number(number), file, name }];
    });
  }),
);

const toLine = ({ fault, file, name }: Citation): string => `${fault} ${file}: ${name}`;

describe('docs/faults.md', () => {
  test('has a complete row for each fault, in order', () => {
    expect(rows.map(([number]) => Number(number))).toEqual(
      Array.from({ length: COUNT }, (_, index) => index + 1),
    );
    expect(rows.filter((row) => row.length !== 4 || row.includes(''))).toEqual([]);
  });

  test('says of each fault how it is tested, or why it is not', () => {
    const isKnown = (part: string): boolean => /^(`test\/|Limit: .{20,})/.test(part);
    expect(parts.filter(({ part }) => !isKnown(part))).toEqual([]);
  });

  test('cites tests that exist and name their fault', () => {
    const known = new Set(named.map(toLine));
    expect(cited.map(toLine).filter((line) => !known.has(line))).toEqual([]);
  });

  test('cites every test that names a fault', () => {
    const known = new Set(cited.map(toLine));
    const missing = named.filter((each) => !known.has(toLine(each)));
    expect(missing.map(toLine)).toEqual([]);
  });
});
