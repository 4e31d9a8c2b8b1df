/** The gate over requirements.ts: each promise, key, command, endpoint and event is cited by the
 *  name of a test, or stands on the list of those still to write, which may only shrink. */
import { dirname } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import ts from 'typescript';
import { z } from 'zod';
import { readTree, type Source, walk } from './architecture/source.ts';
import { auditRequirements, configKeys, findCitations, loadRequirements } from './requirements.ts';
import { pending } from './requirements-pending.ts';

const root = dirname(import.meta.dirname);

describe('the requirements', () => {
  const cited = new Set(readTree(root).filter(isTest).flatMap(findCited));

  test('are cited by a test, or pending and not', async () => {
    const audit = auditRequirements({ ...(await loadRequirements(root)), cited, pending });
    expect(audit).toEqual({ uncited: [], stale: [], unknown: [] });
  });

  test('are read from the code that serves them', async () => {
    const { requirements } = await loadRequirements(root);
    const ids = requirements.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toContain('event:session.created');
    expect(ids).toContain('promise:tool-at-most-once');
  });
});

describe('the gate', () => {
  const requirement = { id: 'event:a', what: '', source: 'event' } as const;
  const clean = { uncited: [], stale: [], unknown: [] };
  const audit = (cited: readonly string[], pendingIds: readonly string[]) =>
    auditRequirements({
      requirements: [requirement],
      missingSources: ['config'],
      cited: new Set(cited),
      pending: new Set(pendingIds),
    });

  test('is content with a cited id, and with a pending one', () => {
    expect(audit(['event:a'], [])).toEqual(clean);
    expect(audit([], ['event:a'])).toEqual(clean);
  });

  test('finds an uncited id', () => {
    expect(audit([], [])).toEqual({ ...clean, uncited: ['event:a'] });
  });

  test('finds a pending id that is cited, or is no requirement', () => {
    expect(audit(['event:a'], ['event:a', 'event:b']).stale).toEqual(['event:a', 'event:b']);
  });

  test('finds a citation of what does not exist', () => {
    expect(audit(['event:a', 'event:z'], [])).toEqual({ ...clean, unknown: ['event:z'] });
  });

  test('says nothing about a source that is not written yet', () => {
    expect(audit(['event:a', 'config:a'], ['config:b'])).toEqual(clean);
  });
});

test('citations are found in a name, and nothing else is', () => {
  expect(findCitations('[event:a.b] and [config:mcp.servers.<name>.url] hold')).toEqual([
    'event:a.b',
    'config:mcp.servers.<name>.url',
  ]);
  expect(findCitations('[other:a] event:b [event: c]')).toEqual([]);
});

test('config keys are the leaves of the schema, through defaults, records, lists and pipes', () => {
  const schema = z
    .strictObject({
      agent: z.strictObject({ max_turns: z.number().default(50) }).prefault({}),
      agents: z.record(z.string(), z.strictObject({ max_turns: z.number() })).default({}),
      groups: z.record(z.string(), z.enum(['allow', 'deny'])),
      servers: z.record(z.string(), z.strictObject({ url: z.string().optional() })).readonly(),
      rules: z.array(z.strictObject({ tool: z.string() })),
      roots: z.array(z.string()).transform((list) => list.length),
      early: z.preprocess((value) => value, z.strictObject({ key: z.string() })),
    })
    .transform((value) => value);
  expect(configKeys(schema)).toEqual([
    'agent.max_turns',
    'agents',
    'groups.<name>',
    'servers.<name>.url',
    'rules[].tool',
    'roots',
    'early.key',
  ]);
});

function isTest({ path }: Source): boolean {
  return path.endsWith('.test.ts') && path !== 'test/requirements.test.ts';
}

/** Any string of a test file: names often stand in a table. A comment does not count. */
function findCited({ tree }: Source): string[] {
  const found: string[] = [];
  walk(tree, (node) => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateExpression(node)) {
      found.push(...findCitations(node.getText(tree)));
    }
  });
  return found;
}
