/** Who decides about a custom tool: the precedence, row by row. */
import { describe, expect, test } from '@jest/globals';
import {
  type CustomToolFacts,
  type decideCustomTool,
  isCustomOffered,
} from '../../../supervisor/effects/custom-policy.ts';
import { effectOf, policyOf } from '../../../supervisor/effects/foreign-tools.ts';
import { toKeptRuleBody } from '../../../supervisor/effects/policy/kept-rules.ts';
import { type RuleText, toRules } from '../../../supervisor/effects/policy/rules.ts';
import { toParts } from '../../../supervisor/effects/policy/subject.ts';
import { decideTool } from '../../../supervisor/effects/policy.ts';

type ToolPolicy = Parameters<typeof decideCustomTool>[0];

const tool = 'custom__t';
const facts: CustomToolFacts = { effect: 'idempotent', digest: 'one' };
const none: ToolPolicy = { groups: {}, tools: {} };
const rest = { approved: [], kept: () => undefined, approve: 'ask' } as const;

function decide(policy: ToolPolicy, question: { level?: string; network?: string } = {}) {
  const { level = 'bubblewrap', network = 'none' } = question;
  const asked = { ...rest, tool, custom: facts, level, network, parts: () => [] };
  const { decision, rule } = decideTool({ rules: [], tools: policy }, asked);
  return [decision, rule];
}

describe('a custom tool', () => {
  test.each<[string, ToolPolicy, { level?: string; network?: string }, string, string]>([
    ['nothing, confined', none, {}, 'allow', 'built-in default'],
    [
      'nothing, level none',
      none,
      { level: 'none' },
      'ask',
      'built-in default at sandbox level none',
    ],
    [
      'nothing, the whole network',
      none,
      { network: 'full' },
      'ask',
      'built-in default with network = "full"',
    ],
    ['the default', { ...none, default: 'deny' }, {}, 'deny', 'security.tool_policy.default'],
    [
      'the group over the default',
      { ...none, default: 'deny', groups: { custom: 'supervised' } },
      {},
      'ask',
      'security.tool_policy.groups.custom',
    ],
    [
      'the tool over the group',
      { groups: { custom: 'deny' }, tools: { [tool]: 'allow' } },
      { level: 'none' },
      'allow',
      'security.tool_policy.tools.custom__t',
    ],
  ])('%s', (_, policy, question, decision, rule) => {
    expect(decide(policy, question)).toEqual([decision, rule]);
  });

  test('that no file has is denied', () => {
    const asked = { ...rest, tool, level: 'bubblewrap', parts: () => [] };
    const { decision, rule } = decideTool({ rules: [], tools: none }, asked);
    expect([decision, rule]).toEqual(['deny', 'unknown tool']);
  });

  test('is not allowed by a rule that only looks at its arguments, and denied by one', () => {
    const subject = { tool, arguments: { path: 'a' }, workspace: '/nowhere' };
    const decideBy = (text: RuleText) =>
      decideTool(
        { rules: toRules([text]), tools: { ...none, default: 'supervised' } },
        { ...rest, tool, custom: facts, level: 'bubblewrap', parts: () => toParts(subject) },
      ).decision;
    expect(decideBy({ path: '**', action: 'allow' })).toBe('ask');
    expect(decideBy({ tool: 'custom__*', path: '**', action: 'allow' })).toBe('allow');
    expect(decideBy({ path: '**', action: 'deny' })).toBe('deny');
    expect(toKeptRuleBody(subject, 'default')).toBeUndefined();
  });

  test('that is always denied is not offered', () => {
    const asked = { tool, level: 'bubblewrap', network: 'none' };
    const offered = (tools: ToolPolicy, ...rules: readonly RuleText[]) =>
      isCustomOffered({ rules: toRules(rules), tools }, asked);
    expect(offered(none)).toBe(true);
    expect(offered({ ...none, groups: { custom: 'deny' } })).toBe(false);
    expect(offered(none, { tool, action: 'deny' })).toBe(false);
    expect(offered(none, { tool, path: 'a', action: 'deny' })).toBe(true);
  });

  test('has the effect of its file, and another file is another policy', () => {
    const of = (digest: string) => ({ custom: { find: () => ({ ...facts, digest }) } });
    expect(effectOf(of('one'), tool)).toBe('idempotent');
    expect(effectOf({}, tool)).toBe('write');
    const policy = () => ({ rules: [], tools: none, version: '1' });
    expect(policyOf({ ...of('one'), policy }, tool)).not.toEqual(
      policyOf({ ...of('two'), policy }, tool),
    );
  });
});
