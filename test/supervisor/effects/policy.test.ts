/** Policy, budget and arguments: pure, every cell. */
import { describe, expect, test } from '@jest/globals';
import { toolTable } from '../../../protocol/tools.ts';
import { findArgumentProblem, parseArguments } from '../../../supervisor/effects/arguments.ts';
import { findOverrun } from '../../../supervisor/effects/budget.ts';
import { decideTool, type ToolPolicy } from '../../../supervisor/effects/policy.ts';

const verdicts = [undefined, 'allow', 'deny', 'supervised'] as const;
const approves = ['never', 'ask', 'all'] as const;
const levels = ['bubblewrap', 'none'] as const;

type Written = (typeof verdicts)[number];

interface Cell {
  readonly tool: Written;
  readonly group: Written;
  readonly fallback: Written;
  readonly approve: (typeof approves)[number];
  readonly level: (typeof levels)[number];
  readonly approved: boolean;
}

const cells: Cell[] = verdicts.flatMap((tool) =>
  verdicts.flatMap((group) =>
    verdicts.flatMap((fallback) =>
      approves.flatMap((approve) =>
        levels.flatMap((level) =>
          [true, false].map((approved) => ({ tool, group, fallback, approve, level, approved })),
        ),
      ),
    ),
  ),
);

function toPolicy({ tool, group, fallback }: Cell): ToolPolicy {
  return {
    ...(fallback === undefined ? {} : { default: fallback }),
    groups: group === undefined ? {} : { shell: group },
    tools: tool === undefined ? {} : { shell: tool },
  };
}

/** The rule and what it says, in plain words: the first of tool, group, default that is written;
 *  else the built-in default, which asks where nothing confines. */
function expectRule({ tool, group, fallback, level }: Cell): [string, Exclude<Written, undefined>] {
  if (tool !== undefined) return ['security.tool_policy.tools.shell', tool];
  if (group !== undefined) return ['security.tool_policy.groups.shell', group];
  if (fallback !== undefined) return ['security.tool_policy.default', fallback];
  if (level === 'none') return ['built-in default at sandbox level none', 'supervised'];
  return ['built-in default', 'allow'];
}

function expectDecision(cell: Cell): string {
  const [, verdict] = expectRule(cell);
  if (verdict !== 'supervised') return verdict;
  if (cell.approve === 'all') return 'allow';
  if (cell.approve === 'never') return 'deny';
  return cell.approved ? 'allow' : 'ask';
}

describe('[config:security.tool_policy.default] [config:security.tool_policy.groups.<name>] [config:security.tool_policy.tools.<name>] the policy', () => {
  test(`decides all ${cells.length} cells of tool > group > default × approve × level`, () => {
    expect(cells).toHaveLength(4 * 4 * 4 * 3 * 2 * 2);
    for (const cell of cells) {
      const { approve, level, approved } = cell;
      const approvedTools = approved ? ['shell'] : ['read_file'];
      const question = { tool: 'shell', level, approve, approvedTools };
      const { decision, rule } = decideTool(toPolicy(cell), question);
      const startsWith = rule.startsWith(expectRule(cell)[0]);
      const expected = { decision: expectDecision(cell), startsWith: true };
      expect({ cell, decision, startsWith }).toEqual({ cell, ...expected });
    }
  });

  test('an unknown tool is denied whatever is allowed', () => {
    for (const approve of approves) {
      const question = { tool: 'rm_rf', level: 'bubblewrap', approve, approvedTools: ['rm_rf'] };
      const policy: ToolPolicy = { default: 'allow', groups: {}, tools: { rm_rf: 'allow' } };
      expect(decideTool(policy, question)).toEqual({
        decision: 'deny',
        rule: 'unknown tool',
        by: 'policy',
      });
    }
  });

  test('names a tool of the prototype as unknown', () => {
    const question = { tool: 'constructor', level: 'none', approve: 'all', approvedTools: [] };
    const policy: ToolPolicy = { default: 'allow', groups: {}, tools: {} };
    expect(decideTool(policy, question as never).decision).toBe('deny');
  });
});

describe('the budget', () => {
  const usage = (input: number, output: number) => ({
    input_tokens: input,
    output_tokens: output,
  });
  const limits = { maxCostUsd: 1, maxTokens: 100 };

  test.each([
    ['just under both', limits, { usage: usage(50, 49), costUsd: 0.99 }, undefined],
    ['at the tokens', limits, { usage: usage(50, 50), costUsd: 0 }, 'max_tokens'],
    ['over the tokens', limits, { usage: usage(500, 50), costUsd: 0 }, 'max_tokens'],
    ['at the cost', limits, { usage: usage(0, 0), costUsd: 1 }, 'max_cost_usd'],
    ['over both: the cost first', limits, { usage: usage(99, 99), costUsd: 2 }, 'max_cost_usd'],
    ['no limits', { maxCostUsd: 0, maxTokens: 0 }, { usage: usage(9e9, 0), costUsd: 9 }, undefined],
  ])('%s', (_, given, spent, limit) => {
    expect(findOverrun(given, spent)?.limit).toBe(limit);
  });
});

describe('arguments', () => {
  const all = Object.keys(toolTable);

  test.each([
    ['valid', { name: 'shell', arguments: '{"command":"ls"}' }, { command: 'ls' }, undefined],
    ['empty text is an empty object', { name: 'list_files', arguments: ' ' }, {}, undefined],
    ['bad JSON', { name: 'shell', arguments: '{' }, '{', /not valid JSON/],
    ['a list', { name: 'shell', arguments: '[]' }, [], /do not fit shell: arguments/],
    ['an unknown key', { name: 'list_files', arguments: '{"deep":1}' }, { deep: 1 }, /deep/],
    ['a missing key', { name: 'shell', arguments: '{}' }, {}, /command/],
    ['an unknown tool', { name: 'x', arguments: '{}' }, '{}', /no tool 'x'; the tools are: shell/],
  ])('%s', (_, ask, value, problem) => {
    const parsed = parseArguments(ask, all);
    expect(parsed.value).toEqual(value);
    if (problem === undefined) expect(parsed.problem).toBeUndefined();
    else expect(parsed.problem).toMatch(problem);
  });

  test('[config:agent.tools] a tool the agent may not use does not exist for it', () => {
    const ask = { name: 'shell', arguments: '{"command":"ls"}' };
    expect(parseArguments(ask, ['read_file']).problem).toMatch(/no tool 'shell'.*: read_file/);
  });

  test('at most five problems are listed', () => {
    const value = { path: 1, old_text: 1, new_text: 1, replace_all: 1, patch: 1, a: 1, b: 1 };
    expect(findArgumentProblem('edit_file', value)?.split(';')).toHaveLength(5);
    expect(findArgumentProblem('nothing', value)).toBe("there is no tool 'nothing'");
  });
});
