/** docs/policy.md: its rules are rules, and what it names exists. */
import { describe, expect, test } from '@jest/globals';
import { parse } from 'smol-toml';
import { toolTable } from '../../protocol/tools.ts';
import { configSchema } from '../../supervisor/config-schema.ts';
import { readText } from './markdown.ts';

const document = readText('docs/policy.md');

describe('docs/policy.md', () => {
  test('shows rules that are valid', () => {
    const blocks = [...document.matchAll(/```toml\n([\s\S]*?)```/g)].map(([, text = '']) => text);
    expect(blocks.length).toBeGreaterThan(1);
    for (const block of blocks) {
      expect(configSchema.parse(parse(block)).security.rules.length).toBeGreaterThan(0);
    }
  });

  test('has every tool in its group', () => {
    for (const { name, group } of Object.values(toolTable)) {
      const [, listed] = new RegExp(`\`${group}\` \\(([^)]*)\\)`).exec(document) ?? [];
      expect([name, listed?.split(/,\s+/)]).toEqual([name, expect.arrayContaining([name])]);
    }
  });
});
