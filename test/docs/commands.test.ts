/** The README's table of commands is the whole of them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { commandTable } from '../../cli/commands/index.ts';

test('the README names every command, and none else', () => {
  const text = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');
  const [, section = ''] = text.split('## Commands\n');
  const table = section.split('\n').filter((line) => line.startsWith('| '));
  const words = table.flatMap((line) => [...line.matchAll(/`([a-z]+)[^`]*`/g)]);
  const named = new Set(words.map(([, name]) => name));
  const known = commandTable.flatMap(({ name, aliases }) => [name, ...aliases]);
  expect([...named].sort()).toEqual(known.sort());
});
