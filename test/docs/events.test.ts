/** docs/events.md has every event type with its durability class and its fields. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { z } from 'zod';
import { eventTable } from '../../protocol/events.ts';
import { findCode, findRows, findSection, readText, root } from './markdown.ts';

const rows = findRows(findSection(readText('docs/events.md'), '## Types'));

/** `name`, `name?` where it may be absent; `any` for data without a fixed shape. */
function describeFields(schema: z.ZodType): string {
  const json = z.toJSONSchema(schema, { unrepresentable: 'any', io: 'input' });
  if (json.properties === undefined) return 'any';
  return Object.keys(json.properties)
    .map((name) => `\`${name}${json.required?.includes(name) ? '' : '?'}\``)
    .join(', ');
}

test('the document has the event table, row by row', () => {
  const written = rows.map(([type = '', durability, fields]) => [
    findCode(type),
    durability,
    fields,
  ]);
  const actual = Object.entries(eventTable).map(([type, [durability, schema]]) => [
    type,
    durability,
    describeFields(schema),
  ]);
  expect(written).toEqual(actual);
});

test('each type says when it is written', () => {
  for (const [type, , , when] of rows) expect([type, when]).not.toContain('');
});

test('what is marked as not written is what nothing writes', () => {
  const writers = ['supervisor', 'store'].flatMap(listSources).map(readText).join('\n');
  const marked = rows.filter(([type = '']) => type.includes('†'));
  const unwritten = Object.keys(eventTable).filter((type) => {
    const written = new RegExp(`(draft\\(\\s*|type: )'${type.replace('.', '\\.')}'`);
    return !written.test(writers);
  });
  expect(marked.map(([type = '']) => findCode(type))).toEqual(unwritten);
});

function listSources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));
}
