/** `[[security.rules]]`: what a rule matches, and that nobody gets round one. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { toShellParts } from '../../../../supervisor/effects/policy/command-parts.ts';
import { type RuleText, toRules } from '../../../../supervisor/effects/policy/rules.ts';
import { toParts } from '../../../../supervisor/effects/policy/subject.ts';
import { decideTool } from '../../../../supervisor/effects/policy.ts';

let workspace = '';
beforeEach(() => {
  workspace = mkdtempSync(join(tmpdir(), 'prx-rules-'));
});
afterEach(() => rmSync(workspace, { recursive: true, force: true }));

type Decision = 'allow' | 'ask' | 'deny';

/** With `supervised` behind the rules, so that the three actions can be told apart. */
function decide(rules: readonly RuleText[], tool: string, args: unknown) {
  return decideTool(
    { rules: toRules(rules), tools: { default: 'supervised', groups: {}, tools: {} } },
    {
      ...{ tool, level: 'bubblewrap', approve: 'ask', approved: [] },
      parts: () => toParts({ tool, arguments: args, workspace }),
      kept: () => undefined,
    },
  );
}

const shell = (rules: readonly RuleText[], command: string): Decision =>
  decide(rules, 'shell', { command }).decision;

describe('[config:security.rules[].path] a path', () => {
  const denySecrets: readonly RuleText[] = [
    { path: ['secrets/**', '**/.env', '/etc/**'], action: 'deny' },
    { path: '**', action: 'allow' },
  ];
  const read = (path: string): Decision => decide(denySecrets, 'read_file', { path }).decision;

  test.each([
    ['src/a.ts', 'allow'],
    ['./src//a.ts', 'allow'],
    ['.hidden/a', 'allow'],
    ['secrets/key', 'deny'],
    ['src/../secrets/key', 'deny'],
    ['./secrets/deep/.x', 'deny'],
    ['secrets', 'deny'],
    ['secretsx', 'allow'],
    ['.env', 'deny'],
    ['a/b/.env', 'deny'],
    ['/etc/passwd', 'deny'],
    ['../../../../../../../../../etc/passwd', 'deny'],
    ['/usr/share/x', 'ask'],
    ['../other', 'ask'],
  ])('%s: %s', (path, decision) => {
    expect(read(path)).toBe(decision);
  });

  test('absolute inside the workspace is the relative one', () => {
    expect(read(join(workspace, 'secrets', 'key'))).toBe('deny');
    expect(read(join(workspace, 'src', 'a'))).toBe('allow');
  });

  test('behind a link is forbidden as itself, and allowed only where both are', () => {
    mkdirSync(join(workspace, 'secrets'));
    writeFileSync(join(workspace, 'secrets', 'key'), '');
    symlinkSync('secrets', join(workspace, 'public'));
    symlinkSync('/usr', join(workspace, 'out'));
    symlinkSync('loop', join(workspace, 'loop'));
    symlinkSync('secrets/later', join(workspace, 'later'));
    symlinkSync('/proc/self/cwd/secrets', join(workspace, 'inside'));
    expect(read('public/key')).toBe('deny');
    expect(read('public/new')).toBe('deny');
    expect(read('later')).toBe('deny');
    expect(read('inside/key')).toBe('deny');
    expect(read('/proc/self/cwd/secrets/key')).toBe('deny');
    expect(read('/proc/self/task/1/cwd/secrets/key')).toBe('deny');
    expect(read('/dev/fd/7/key')).toBe('deny');
    expect(read('out/share')).toBe('ask');
    expect(
      decide([{ path: '**', action: 'allow' }], 'read_file', { path: 'loop/x' }),
    ).toMatchObject({ decision: 'ask' });
  });

  test.each([
    ['.', 'deny'],
    [undefined, 'deny'],
    ['secrets/deep', 'deny'],
    ['..', 'deny'],
    ['/', 'deny'],
    ['/usr', 'allow'],
    ['src', 'allow'],
  ])('a tree that may hold what is forbidden: search %s is %s', (path, decision) => {
    const rules: readonly RuleText[] = [
      { path: ['secrets/**'], action: 'deny' },
      { path: ['src/**', '/usr/**'], action: 'allow' },
    ];
    const args = { pattern: 'x', ...(path === undefined ? {} : { path }) };
    expect(decide(rules, 'search', args).decision).toBe(decision);
  });

  test('a tree is allowed only as a whole', () => {
    const tree = (path: string): Decision =>
      decide([{ path, action: 'allow' }], 'list_files', { path: 'src' }).decision;
    expect([tree('src/**'), tree('src'), tree('src/*'), tree('**')]).toEqual([
      ...['allow', 'ask', 'ask', 'allow'],
    ]);
  });
});

describe('[config:security.rules[].tool] [config:security.rules[].action] [config:security.rules[].domain] [config:security.rules[].reason] the rules', () => {
  test('the first that matches decides, before tool, group and default', () => {
    const rules: readonly RuleText[] = [
      { tool: 'read_file', action: 'allow' },
      { tool: ['read_*', 'write_file'], action: 'deny', reason: 'not today' },
    ];
    const tools = { default: 'allow', groups: { files: 'allow' }, tools: { write_file: 'allow' } };
    const verdict = (tool: string) =>
      decideTool(
        { rules: toRules(rules), tools: tools as never },
        {
          ...{ tool, level: 'none', approve: 'all', approved: [tool] },
          parts: () => [{ kind: 'whole' }],
          kept: () => undefined,
        },
      );
    expect(verdict('read_file')).toMatchObject({
      decision: 'allow',
      rule: 'security.rules[1]: allow tool "read_file"',
    });
    expect(verdict('write_file')).toMatchObject({
      decision: 'deny',
      by: 'policy',
      reason: 'not today',
      rule: 'security.rules[2]: deny tool "read_*" or "write_file"',
    });
    expect(verdict('edit_file').rule).toBe('security.tool_policy.groups.files');
  });

  test('the strictest part of a call is the decision, and is named', () => {
    const rules: readonly RuleText[] = [
      { command: 'git push *', action: 'ask' },
      { command: 'rm *', action: 'deny' },
      { command: '*', action: 'allow' },
    ];
    expect(shell(rules, 'ls')).toBe('allow');
    expect(shell(rules, 'ls; git push origin')).toBe('ask');
    const both = decide(rules, 'shell', { command: 'git push; rm x; ls' });
    expect(both).toMatchObject({
      decision: 'deny',
      rule: 'security.rules[2]: deny command "rm *"',
    });
    expect(both.parts.map(({ text, decision }) => [text, decision])).toEqual([
      ['git push', 'ask'],
      ['rm x', 'deny'],
      ['ls', 'allow'],
    ]);
  });

  test('an approval for the session covers the rule that asked, not the tool', () => {
    const rules = toRules([{ command: 'git push *', action: 'ask' }]);
    const tools = { default: 'supervised', groups: {}, tools: {} } as const;
    const verdict = (command: string, approved: readonly string[]) =>
      decideTool(
        { rules, tools },
        {
          ...{ tool: 'shell', level: 'bubblewrap', approve: 'ask', approved },
          parts: () => toShellParts(command),
          kept: () => undefined,
        },
      );
    expect(verdict('git push', ['shell']).decision).toBe('ask');
    const { covers } = verdict('git push', []);
    expect(verdict('git push -f', covers)).toMatchObject({ decision: 'allow', by: 'session' });
    expect(verdict('ls', covers).decision).toBe('ask');
    expect(verdict('ls; git push', ['shell', ...covers]).decision).toBe('allow');
  });

  test('a domain is compared as a name; one that cannot be read is forbidden', () => {
    const verdict = (pattern: string, url: string, action: RuleText['action']) =>
      decide([{ domain: pattern, action }], 'read_file', { path: 'a', url }).parts.at(-1)?.decision;
    expect(verdict('*.example.org', 'https://a.example.org/x', 'deny')).toBe('deny');
    expect(verdict('*.example.org', 'https://example.org', 'deny')).toBe('ask');
    expect(verdict('example.org', 'https://EXAMPLE.org.:443', 'deny')).toBe('deny');
    expect(verdict('example.org', 'https://evil.com/example.org', 'allow')).toBe('ask');
    expect(verdict('example.org', 'https://example.org@evil.com', 'allow')).toBe('ask');
    expect(verdict('example.org', 'nonsense', 'deny')).toBe('deny');
    expect(verdict('*', 'nonsense', 'allow')).toBe('ask');
    expect(verdict('*', 'https://any.example', 'allow')).toBe('allow');
    expect(verdict('127.0.0.1', 'http://0x7f.1/', 'deny')).toBe('deny');
    // Regression: in the clothes of IPv6 it was another host.
    expect(verdict('127.0.0.1', 'http://[::ffff:127.0.0.1]/', 'deny')).toBe('deny');
    expect(verdict('127.0.0.1', 'http://[::ffff:127.0.0.1]/', 'allow')).toBe('ask');
    expect(verdict('example.org:8443', 'https://example.org:8443/', 'allow')).toBe('allow');
    expect(verdict('example.org:8443', 'https://example.org/', 'allow')).toBe('ask');
    expect(verdict('example.org:80', 'http://example.org/', 'allow')).toBe('allow');
  });
});
