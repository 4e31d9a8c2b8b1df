/** Who decides about a tool of an MCP server: the precedence, row by row. */
import { describe, expect, test } from '@jest/globals';
import {
  type decideMcpTool,
  isOffered,
  type McpToolFacts,
} from '../../../supervisor/effects/mcp-policy.ts';
import { toKeptRuleBody } from '../../../supervisor/effects/policy/kept-rules.ts';
import { type RuleText, toRules } from '../../../supervisor/effects/policy/rules.ts';
import { toParts } from '../../../supervisor/effects/policy/subject.ts';
import { decideTool } from '../../../supervisor/effects/policy.ts';

const facts: McpToolFacts = {
  server: 's',
  effect: 'write',
  policy: undefined,
  isUnconfined: false,
  isRemote: false,
  digest: '',
};
const none = { groups: {}, tools: {} };
const tool = 'mcp__s__t';

type ToolPolicy = Parameters<typeof decideMcpTool>[0];

const rest = { approved: [], parts: () => [], kept: () => undefined };

const rows: readonly [string, ToolPolicy, Partial<McpToolFacts>, string, string][] = [
  ['nothing, confined', none, {}, 'allow', 'built-in default'],
  [
    'nothing, not confined',
    none,
    { isUnconfined: true },
    'ask',
    'built-in default for an MCP server that is not confined',
  ],
  [
    'the default',
    { ...none, default: 'allow' },
    { isUnconfined: true },
    'allow',
    'security.tool_policy.default',
  ],
  [
    'the group over the default',
    { ...none, default: 'allow', groups: { mcp: 'deny' } },
    {},
    'deny',
    'security.tool_policy.groups.mcp',
  ],
  [
    'the group of the server over all of them',
    { ...none, groups: { mcp: 'deny', 'mcp.s': 'supervised' } },
    {},
    'ask',
    'security.tool_policy.groups."mcp.s"',
  ],
  [
    "the server's own over its group",
    { ...none, groups: { 'mcp.s': 'deny' } },
    { policy: 'allow' },
    'allow',
    'mcp.servers.s.policy',
  ],
  [
    'the tool over everything',
    { groups: { mcp: 'allow' }, tools: { [tool]: 'deny' } },
    { policy: 'allow' },
    'deny',
    `security.tool_policy.tools.${tool}`,
  ],
];

describe('[config:mcp.servers.<name>.policy] a tool of an MCP server', () => {
  test.each(rows)('%s', (_name, policy, own, decision, rule) => {
    const question = { tool, level: 'bubblewrap', approve: 'ask', ...rest } as const;
    const verdict = decideTool(
      { rules: [], tools: policy },
      { ...question, mcp: { ...facts, ...own } },
    );
    expect(verdict).toMatchObject({ decision, rule, by: 'policy' });
  });

  test('at sandbox level none a person is asked', () => {
    const question = { tool, level: 'none', approve: 'ask', ...rest } as const;
    expect(decideTool({ rules: [], tools: none }, { ...question, mcp: facts }).decision).toBe(
      'ask',
    );
  });

  test('of a server that is not configured is denied', () => {
    const question = {
      tool,
      level: 'bubblewrap',
      approve: 'all',
      ...rest,
      approved: [tool],
    } as const;
    const tools = { ...none, default: 'allow' } as const;
    expect(decideTool({ rules: [], tools }, question).decision).toBe('deny');
  });
});

describe('rules and a tool of an MCP server', () => {
  const subject = { tool, arguments: { path: 'src/a', command: 'ls' }, workspace: '/nonexistent' };
  const decide = (written: readonly RuleText[], fallback: 'allow' | 'deny' | 'supervised') => {
    const policy = { rules: toRules(written), tools: { ...none, default: fallback } };
    const question = { tool, level: 'bubblewrap', approve: 'ask', ...rest } as const;
    const parts = (): ReturnType<typeof toParts> => toParts(subject);
    return {
      decision: decideTool(policy, { ...question, parts, mcp: facts }).decision,
      isOffered: isOffered(policy, { tool, level: 'bubblewrap', facts }),
    };
  };

  test('[config:security.rules[].tool] one that names it counts before the groups', () => {
    expect([
      decide([{ tool: 'mcp__s__*', action: 'allow' }], 'deny'),
      decide([{ tool: 'mcp__s__*', action: 'deny' }], 'allow'),
      decide([{ tool: 'mcp__s__*', path: 'src/**', action: 'allow' }], 'deny'),
      decide([{ tool: 'mcp__other__*', action: 'allow' }], 'deny'),
    ]).toEqual([
      { decision: 'allow', isOffered: true },
      { decision: 'deny', isOffered: false },
      { decision: 'deny', isOffered: true },
      { decision: 'deny', isOffered: false },
    ]);
  });

  test('one that looks at arguments alone forbids it, and does not allow it', () => {
    const looks = { path: 'src/**' };
    expect([
      decide([{ ...looks, action: 'deny' }], 'allow'),
      decide([{ ...looks, action: 'allow' }], 'supervised'),
      decide([{ command: 'ls', action: 'allow' }], 'supervised'),
    ]).toEqual([
      { decision: 'deny', isOffered: true },
      { decision: 'ask', isOffered: true },
      { decision: 'ask', isOffered: true },
    ]);
  });

  test('none is kept of it: another server may stand behind its name tomorrow', () => {
    expect(toKeptRuleBody(subject, 'default')).toBeUndefined();
    expect(toKeptRuleBody({ ...subject, tool: 'shell' }, 'default')).toBeDefined();
  });
});
