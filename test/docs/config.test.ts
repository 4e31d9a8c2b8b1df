/** config.toml is the reference of the configuration: it names every key of the schema, commented
 *  out where there is no default, with the default where there is one, and it loads. */
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parse } from 'smol-toml';
import { loadConfig } from '../../supervisor/config.ts';
import { configSchema } from '../../supervisor/config-schema.ts';
import { configKeys } from '../requirements.ts';
import { readText, root } from './markdown.ts';

const text = readText('config.toml');

/** The file as if nobody had commented anything out: `# key = value` and `# [table]`. */
function uncomment(source: string): string {
  const line = /^# (?=\[{1,2}[\w.]+\]{1,2}|[\w."-]+ = )/;
  return source
    .split('\n')
    .map((each) => each.replace(line, ''))
    .join('\n');
}

/** Dotted paths of all leaves; the items of a list of tables are `[]`. */
function leaves(node: unknown, path = ''): string[] {
  const under = (key: string): string => (path === '' ? key : `${path}.${key}`);
  if (Array.isArray(node) && node.some((item) => typeof item === 'object')) {
    return [...new Set(node.flatMap((item) => leaves(item, `${path}[]`)))];
  }
  if (typeof node !== 'object' || node === null || Array.isArray(node)) return [path];
  return Object.entries(node).flatMap(([key, child]) => leaves(child, under(key)));
}

/** Does `key` of the schema stand for this path? `<name>` is any name; `agents` all below it. */
function isKeyOf(key: string, path: string): boolean {
  const names = key.split('.');
  const parts = path.split('.');
  return names.every((name, index) => name === parts[index] || /^<.*>$/.test(name));
}

const shown = leaves(parse(uncomment(text)));
const known = configKeys(configSchema);

describe('config.toml', () => {
  test.each(known)('names %s', (key) => {
    expect(shown.filter((path) => isKeyOf(key, path))).not.toEqual([]);
  });

  test('names nothing else', () => {
    expect(shown.filter((path) => !known.some((key) => isKeyOf(key, path)))).toEqual([]);
  });

  test('as it stands says the defaults, and all of them', () => {
    const defaults = configSchema.parse({});
    const written = parse(text);
    expect(configSchema.parse(written)).toEqual(defaults);
    const isEmpty = (path: string): boolean => /\.(tokens|rules)$/.test(path);
    expect(leaves(written)).toEqual(
      expect.arrayContaining(leaves(defaults).filter((path) => !isEmpty(path))),
    );
  });

  test('loads as a config file', () => {
    const { config } = loadConfig({ config: join(root, 'config.toml') }, { HOME: '/nonexistent' });
    expect(config.raw).toEqual(configSchema.parse({}));
  });
});
