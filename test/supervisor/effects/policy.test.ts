/** Policy, budget and arguments: pure, every cell. */
import { describe, expect, test } from '@jest/globals';
import { sandboxLevels } from '../../../protocol/sandbox-levels.ts';
import { toolTable } from '../../../protocol/tools.ts';
import { findArgumentProblem, parseArguments } from '../../../supervisor/effects/arguments.ts';
import { findOverrun } from '../../../supervisor/effects/budget.ts';
import { toRules } from '../../../supervisor/effects/policy/rules.ts';
import {
  decideTool,
  type Policy,
  type PolicyQuestion,
} from '../../../supervisor/effects/policy.ts';

const verdicts = [undefined, 'allow', 'deny', 'supervised'] as const;
const approves = ['never', 'ask', 'all'] as const;
const levels = sandboxLevels;

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

function toPolicy({ tool, group, fallback }: Cell): Policy {
  const tools = {
    ...(fallback === undefined ? {} : { default: fallback }),
    groups: group === undefined ? {} : { shell: group },
    tools: tool === undefined ? {} : { shell: tool },
  };
  return { rules: [], tools, version: '' };
}

const nothing: Pick<PolicyQuestion, 'parts' | 'kept'> = {
  parts: () => [{ kind: 'whole' }],
  kept: () => undefined,
};

/** The rule and what it says, in plain words: the first of tool, group, default that is written;
 *  else the built-in default, which asks where nothing confines. */
function expectRule({ tool, group, fallback, level }: Cell): [string, Exclude<Written, undefined>] {
  if (tool !== undefined) return ['security.tool_policy.tools.shell', tool];
  if (group !== undefined) return ['security.tool_policy.groups.shell', group];
  if (fallback !== undefined) return ['security.tool_policy.default', fallback];
  if (!['bubblewrap', 'unshare'].includes(level)) {
    return [`built-in default at sandbox level ${level}`, 'supervised'];
  }
  return ['built-in default', 'allow'];
}

test('[config:security.sandbox.network] with the full network the built-in default asks', () => {
  const question = {
    tool: 'shell',
    level: 'bubblewrap',
    approve: 'ask',
    approved: [],
    parts: () => [],
    kept: () => undefined,
  } as const;
  const decide = (network: string, fallback?: 'allow') => {
    const tools = {
      groups: {},
      tools: {},
      ...(fallback === undefined ? {} : { default: fallback }),
    };
    return decideTool({ rules: [], tools }, { ...question, network });
  };
  expect(decide('full')).toMatchObject({
    ...{ decision: 'ask', by: 'policy', rule: 'built-in default with network = "full"' },
  });
  expect(decide('allowlist').decision).toBe('allow');
  expect(decide('full', 'allow').decision).toBe('allow');
});

function expectDecision(cell: Cell): string {
  const [, verdict] = expectRule(cell);
  if (verdict !== 'supervised') return verdict;
  if (cell.approve === 'all') return 'allow';
  if (cell.approve === 'never') return 'deny';
  return cell.approved ? 'allow' : 'ask';
}

describe('[config:security.tool_policy.default] [config:security.tool_policy.groups.<name>] [config:security.tool_policy.tools.<name>] the policy', () => {
  test('decides every cell of tool > group > default × approve × level', () => {
    expect(cells).toHaveLength(4 * 4 * 4 * 3 * 5 * 2);
    for (const cell of cells) {
      const { approve, level, approved } = cell;
      const standing = approved ? ['shell'] : ['read_file'];
      const question = { ...nothing, tool: 'shell', level, approve, approved: standing };
      const { decision, rule } = decideTool(toPolicy(cell), question);
      const startsWith = rule.startsWith(expectRule(cell)[0]);
      const expected = { decision: expectDecision(cell), startsWith: true };
      expect({ cell, decision, startsWith }).toEqual({ cell, ...expected });
    }
  });

  test('an unknown tool is denied whatever is allowed', () => {
    for (const approve of approves) {
      const question = {
        ...nothing,
        tool: 'rm_rf',
        level: 'bubblewrap',
        approve,
        approved: ['rm_rf'],
      };
      const tools: Policy['tools'] = { default: 'allow', groups: {}, tools: { rm_rf: 'allow' } };
      const rules = toRules([{ tool: '*', action: 'allow' }]);
      expect(decideTool({ rules, tools }, question)).toMatchObject({
        decision: 'deny',
        rule: 'unknown tool',
        by: 'policy',
      });
    }
  });

  test('names a tool of the prototype as unknown', () => {
    const question = {
      ...nothing,
      tool: 'constructor',
      level: 'none',
      approve: 'all',
      approved: [],
    };
    const tools: Policy['tools'] = { default: 'allow', groups: {}, tools: {} };
    expect(decideTool({ rules: [], tools }, question as never).decision).toBe('deny');
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

  test('that is reached exactly is reached, however its cost was summed up (regression)', () => {
    let costUsd = 0;
    for (let call = 1; call <= 8; call += 1) costUsd += 0.1;
    expect(costUsd).toBeLessThan(0.8);
    const spent = { usage: { input_tokens: 0, output_tokens: 0 }, costUsd };
    const overrun = { limit: 'max_cost_usd', value: 0.8, max: 0.8 };
    expect(findOverrun({ maxCostUsd: 0.8, maxTokens: 0 }, spent)).toEqual(overrun);
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

  test.each([
    ['shell', { command: 'r\0m x' }],
    ['process_start', { command: 'r\0m x' }],
    ['search', { pattern: 'a\0b' }],
    ['search', { pattern: 'a', path: 'a\0b' }],
    ['glob', { pattern: 'a\0b' }],
  ])(
    'what a shell would drop is refused before anybody is asked: %s (regression)',
    (tool, value) => {
      expect(findArgumentProblem(tool, value)).toMatch(
        /a command line cannot hold a NUL character$/,
      );
    },
  );

  test.each([
    [64, undefined],
    [65, 'the arguments are nested deeper than 64 levels'],
    [100_000, 'the arguments are nested deeper than 64 levels'],
  ])('those of a tool of others that are %s levels deep', (depth, problem) => {
    const text = `${'{"a":'.repeat(depth - 1)}{}${'}'.repeat(depth - 1)}`;
    const name = 'mcp__s__t';
    expect(parseArguments({ name, arguments: text }, [name]).problem).toBe(problem);
    expect(findArgumentProblem(name, JSON.parse(text))).toBe(problem);
  });
});
