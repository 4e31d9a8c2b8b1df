/** policy explain: the decision as a call would get it now, with the line of its rule. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { findRuleLine } from '../../supervisor/effects/policy/source-lines.ts';
import { createHouse, demolish } from './house.ts';

afterEach(demolish);

const toml = `# first
[[security.rules]]
command = "git status"
action = "allow"

[[security.rules]] # second
command = "rm *"
action = "deny"
reason = "ask first"

[security.tool_policy]
default = "supervised"
tools.read_file = "allow"
groups."search" = "deny"

[agents.reader]
tools = ["read_file"]
`;

describe('policy explain', () => {
  test('names the rule and its line for the call and each part of it', async () => {
    const { supervisor, stateDir } = await createHouse({ toml });
    const place = {
      rule: 'security.rules[2]: deny command "rm *"',
      ...{ file: `${stateDir}/test-config.toml`, line: 6 },
    };
    const args = { command: 'git status; rm x; ls' };
    expect(await supervisor.explainPolicy({ tool: 'shell', arguments: args })).toEqual({
      ...{ tool: 'shell', agent: 'default', level: 'bubblewrap', decision: 'deny', by: 'policy' },
      ...{ ...place, reason: 'ask first', covers: [] },
      parts: [
        {
          ...{ decision: 'allow', text: 'git status' },
          ...{ ...place, rule: 'security.rules[1]: allow command "git status"', line: 2 },
        },
        { decision: 'deny', text: 'rm x', ...place },
        {
          ...{ decision: 'ask', text: 'ls', file: place.file, line: 12 },
          rule: 'security.tool_policy.default',
        },
      ],
    });
  });

  test('says what an approval would stand for, and what is wrong before policy', async () => {
    const { supervisor } = await createHouse({ toml });
    const asked = { tool: 'shell', arguments: { command: 'ls' }, workspace: '/w' };
    expect(await supervisor.explainPolicy(asked)).toMatchObject({
      ...{ decision: 'ask', covers: ['shell'] },
      keeps: 'shell "ls" in /w for agent default',
    });
    expect(await supervisor.explainPolicy({ ...asked, agent: 'reader' })).toMatchObject({
      problem: expect.stringContaining("there is no tool 'shell'; the tools are: read_file"),
    });
    await expect(supervisor.explainPolicy({ ...asked, agent: 'rader' })).rejects.toMatchObject({
      message: expect.stringContaining("Did you mean 'reader'?"),
    });
  });

  test('without a sandbox says that no tool runs', async () => {
    const { supervisor } = await createHouse({ probe: { level: 'none', reason: 'none here' } });
    expect(await supervisor.explainPolicy({ tool: 'search' })).toMatchObject({
      ...{ level: 'none', rule: 'built-in default at sandbox level none' },
      refusal: expect.stringContaining('none here'),
    });
  });
});

test.each([
  ['security.rules[1]: allow command "git status"', 2],
  ['security.rules[2]', 6],
  ['security.rules[3]', undefined],
  ['security.tool_policy.default', 12],
  ['security.tool_policy.tools.read_file, approve=all', 13],
  ['security.tool_policy.groups.search', 14],
  ['built-in default', undefined],
])('%s is written in line %s', (rule, line) => {
  expect(findRuleLine(toml, rule)).toBe(line);
});
