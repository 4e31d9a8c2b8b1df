/** docs/operations.md: what it names exists. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { commandNames } from '../../cli/commands/index.ts';
import { configSchema } from '../../supervisor/config-schema.ts';
import { configKeys } from '../requirements.ts';
import { readText, root } from './markdown.ts';

const document = readText('docs/operations.md');

const found = (pattern: RegExp): string[] => [
  ...new Set(Array.from(document.matchAll(pattern), ([, name = '']) => name)),
];

describe('docs/operations.md names', () => {
  test('commands that exist', () => {
    const named = found(/`?prx-supervisor ([a-z]+)/g);
    expect(named).toEqual(expect.arrayContaining(['why', 'service', 'fork']));
    expect(named.filter((name) => !commandNames.includes(name))).toEqual([]);
  });

  test('metrics that exist', () => {
    const named = found(/`(prx_\w+)`/g);
    const source = readText('supervisor/metrics.ts');
    expect(named.length).toBeGreaterThan(4);
    expect(named.filter((name) => !source.includes(`'${name}'`))).toEqual([]);
  });

  test('configuration keys that exist', () => {
    const keys = configKeys(configSchema);
    const sections = new Set(keys.map((key) => key.split('.')[0] ?? ''));
    const named = found(/`([a-z]+\.[a-z_.]+)`/g);
    const ours = named.filter((name) => sections.has(name.split('.')[0] ?? ''));
    expect(ours.length).toBeGreaterThan(5);
    expect(ours.filter((name) => !keys.includes(name))).toEqual([]);
  });

  test('files that exist', () => {
    const named = [...found(/\]\(\.\.\/([\w./-]+)\)/g), ...found(/`(test\/[\w./-]+)`/g)];
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });
});
