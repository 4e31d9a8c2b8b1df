/** Policy of background processes: what holds for the shell holds for them. */
import { describe, expect, test } from '@jest/globals';
import { type RuleText, toRules } from '../../../../supervisor/effects/policy/rules.ts';
import { toParts } from '../../../../supervisor/effects/policy/subject.ts';
import { decideTool, type PolicyQuestion } from '../../../../supervisor/effects/policy.ts';

const toQuestion = (tool: string, args: object, level: string): PolicyQuestion => ({
  ...{ tool, level, approve: 'ask', approved: [] },
  parts: () => toParts({ tool, arguments: args, workspace: '/' }),
  kept: () => undefined,
});

describe('a background process is judged as the shell is', () => {
  const allow: readonly RuleText[] = [{ tool: 'shell', command: 'npm *', action: 'allow' }];
  const deny: readonly RuleText[] = [{ tool: 'shell', command: 'rm *', action: 'deny' }];

  test.each([
    ['process_start', { command: 'npm run dev' }, allow, 'allow'],
    ['process_start', { command: 'npm run dev; make' }, allow, 'ask'],
    ['process_start', { command: 'cd x && rm -r y' }, deny, 'deny'],
    ['process_start', { command: 'ls' }, [{ tool: 'process_start', action: 'deny' }], 'deny'],
    ['process_input', { process: '1.1.1', text: 'rm -r y\n' }, deny, 'deny'],
    ['process_input', { process: '1.1.1', text: '$(echo rm) y\n' }, deny, 'deny'],
    ['process_input', { process: '1.1.1', text: 'npm test\n' }, allow, 'allow'],
    ['process_poll', { process: '1.1.1' }, [{ tool: 'shell', action: 'deny' }], 'allow'],
    ['shell', { command: 'ls' }, [{ tool: 'process_start', action: 'deny' }], 'ask'],
  ] as const)('%s %j', (tool, args, rules, expected) => {
    const tools = { default: 'supervised', groups: {}, tools: {} } as const;
    const policy = { rules: toRules(rules), tools };
    expect(decideTool(policy, toQuestion(tool, args, 'bubblewrap')).decision).toBe(expected);
  });

  test.each([
    ['process_start', { shell: 'deny' }, 'deny'],
    ['process_start', { shell: 'deny', process_start: 'allow' }, 'allow'],
    ['process_input', { shell: 'supervised' }, 'ask'],
    ['process_poll', { shell: 'deny' }, 'allow'],
    ['process_stop', {}, 'allow'],
    ['process_start', {}, 'ask'],
  ] as const)('%s under tools %j, at level none', (tool, tools, expected) => {
    const policy = { rules: [], tools: { groups: {}, tools } };
    expect(decideTool(policy, toQuestion(tool, {}, 'none')).decision).toBe(expected);
  });
});
