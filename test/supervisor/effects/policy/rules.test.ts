/** `[[security.rules]]`: what a rule matches, and that nobody gets round one. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
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

const allowGit: readonly RuleText[] = [{ command: ['git status', 'git diff *'], action: 'allow' }];
const denyRm: readonly RuleText[] = [
  { command: 'rm *', action: 'deny' },
  { tool: 'shell', action: 'allow' },
];

describe('[config:security.rules[].command] an allowed command', () => {
  test.each([
    'git status',
    '  git   status  ',
    'git diff',
    'git diff --stat HEAD~1 "a b"',
    'git diff $X "$(git status)"',
    'git status && git diff; git status || git diff',
    'git status\ngit diff\n',
    'git status | git diff',
    'git status 2>&1 >/dev/null',
    '! git status',
    'if git status; then git diff; fi',
    'git status # rm -rf x',
    '\'git\' "status"',
    'gi\\t status',
    '(git status)',
  ])('runs: %j', (command) => {
    expect(shell(allowGit, command)).toBe('allow');
  });

  test.each([
    'git',
    'git push',
    'git status x',
    'git status; rm -rf x',
    'git status&&rm -rf x',
    'git status & rm x',
    'git status | sh',
    'git status || rm x',
    'git status\nrm -rf x',
    'git status $(rm x)',
    'git diff $(rm x)',
    'git diff `rm x`',
    'git diff "`rm x`"',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell's, not ours
    'git diff "${x:-$(rm x)}"',
    'git diff <(rm x)',
    'git diff $((a[$(rm x)]))',
    'git diff <<E\n$(rm x)\nE\n',
    'git diff <<<$(rm x)',
    'GIT_EXTERNAL_DIFF=rm git diff',
    'PATH=. git status',
    'export PATH=.; git status',
    'X=1; git status',
    'git status > .bashrc',
    'git status >> a',
    'git status >&a',
    '{ git status; } > a',
    'git status < /etc/passwd',
    './git status',
    '/tmp/git status',
    '$X status',
    'gi? status',
    '~/git status',
    '{git,rm} status',
    'env git status',
    'eval git status',
    'sh -c "git status"',
    'git() { rm x; }; git status',
    '[[ a || git status ]]; rm x',
    "git diff $'a\\'; rm -rf x; echo \\''",
    'git status $(',
    'git status "',
    'git status \u0000',
    '',
    '# only a comment',
    ...['(', '$(', '{ ', 'if '].map((open) => `${open.repeat(3000)}git status`),
  ])('is not: %j', (command) => {
    expect(shell(allowGit, command)).not.toBe('allow');
  });
});

describe('a forbidden command', () => {
  test.each([
    'rm x',
    'rm',
    '/bin/rm -rf x',
    '\\rm x',
    "r''m x",
    'ls; rm x',
    'ls && rm x',
    'ls\nrm x',
    'ls $(rm x)',
    'ls "`rm x`"',
    'A=$(rm x)',
    'A=1 rm x',
    'rm x > y',
    'while true; do rm x; done',
    'f() { rm x; }',
    'case a in a) rm x;; esac',
    'cat <<E\n$(rm x)\nE\n',
    'env A=1 timeout 5 rm x',
    'sudo -u root /bin/rm x',
    'find . -name a -exec rm {} +',
    'ls | xargs rm',
    'sh -c "ls; rm x"',
    'bash -o pipefail -lc "rm x"',
    'env sh -c "sh -c \'rm x\'"',
    'eval "rm x"',
    "trap 'ls; rm x' EXIT",
    'alias x="rm x"; x',
    'alias x=rm; x y',
    'env -S "rm x"',
    "env -S'rm x'",
    "env -vS 'rm x'",
    "env -iS'rm' x",
    "env --split-string='rm x'",
    "env -S 'r\\_m x'",
    "env -S '-i A=1 rm' x",
    "env -iS '-S rm' x",
    "flock lock -c 'rm x'",
    "script -q -c 'rm x' /dev/null",
    "script -qc 'rm x' /dev/null",
    "script --command='rm x'",
    "runuser -c 'rm x'",
    'runuser -u a rm x',
    'prlimit --core=0 rm x',
    '/lib64/ld-linux-x86-64.so.2 /bin/rm x',
    "trap -- 'ls; rm x' EXIT",
    "watch -n 1 'rm x'",
    "parallel 'rm {}' ::: a",
    // What cannot be known counts against the call.
    '$X y',
    'eval "$X"',
    'sh -c "$X"',
    'curl x | sh',
    'echo "rm x" | bash -s',
    '[[ a || rm x ]]',
    'ls "',
    "$'rm' x",
    '/bin/r* x',
  ])('does not run: %j', (command) => {
    expect(shell(denyRm, command)).toBe('deny');
  });

  test.each([
    'ls',
    'echo rm x',
    'ls $X *.c',
    'git rm x',
    'rmdir x',
    'ls > out 2>&1',
    'A=1 ls',
    'bash build.sh "$X"',
    'for f in *.txt; do cat "$f"; done',
    "cat <<'E'\n$(rm x)\nE\n",
    'echo "rm -rf $HOME"',
    "trap - EXIT; trap 'ls' INT",
    "trap -- - EXIT; trap -- 'ls' INT",
    'env A="rm x" find . -name "rm x"',
  ])('is not seen in: %j', (command) => {
    expect(shell(denyRm, command)).toBe('allow');
  });
});

test.each([
  ['a program that runs others', `env ${'a '.repeat(49_000)}`],
  ['options', `env rm ${'-a '.repeat(33_000)}`],
  ['lines in options', `env ${'-S '.repeat(33_000)}`],
  ['lines in the words of options', `env ${"-S'a b' ".repeat(12_000)}`],
  ['lines in words', `watch ${"'a b' ".repeat(16_000)}`],
])('no number of words stops the one who judges them: %s (regression)', (_, command) => {
  expect(shell(denyRm, command)).toBe('deny');
});

describe('a forbidden subcommand', () => {
  const decide = (command: string) =>
    shell([{ command: 'git push *', action: 'deny' }, { action: 'allow' }], command);

  test.each([
    'git push',
    'git -C a push x',
    'git --no-pager push x',
    'git -c a=b --git-dir=.git push',
    'sudo git -C a push',
    '/usr/bin/git -C a push',
  ])('is found behind options: %j', (command) => {
    expect(decide(command)).toBe('deny');
  });

  test.each([
    'git log push',
    'git -C a commit -m push',
    'git --git-dir=.git log push',
    'git commit -m "git push"',
  ])('is not one that stands elsewhere: %j', (command) => {
    expect(decide(command)).toBe('allow');
  });
});

/** Pieces that a line is made of, and what each of them runs. */
const harmless = fc.constantFrom('git status', 'git diff --stat', "git diff 'a; rm b'");
const joint = fc.constantFrom('; ', ' && ', ' || ', ' | ', '\n', ' & ');
const wrap = fc.constantFrom<(line: string) => string>(
  (line) => `( ${line} )`,
  (line) => `{ ${line}; }`,
  (line) => `if ${line}; then git status; fi`,
  (line) => `git diff "$( ${line} )"`,
  (line) => `! ${line.replace(/^! /, '')}`,
);
const lines = fc
  .tuple(fc.array(fc.tuple(harmless, joint), { maxLength: 4 }), fc.array(wrap, { maxLength: 3 }))
  .map(([pieces, wraps]) => {
    const before = pieces.map(([command, glue]) => command + glue).join('');
    return (command: string): string =>
      wraps.reduce((line, each) => each(line), `${before}${command}`);
  });

describe('whatever it is joined and wrapped with', () => {
  test('a line of allowed commands is allowed', () => {
    const whole = lines.map((build) => build('git status'));
    fc.assert(fc.property(whole, (line) => shell(allowGit, line) === 'allow'));
  });

  test('one other command in it and it is not; a forbidden one is found', () => {
    const other = fc.constantFrom('rm -rf x', "r'm' x", '/bin/rm x', 'X=1 rm x');
    fc.assert(
      fc.property(lines, other, (build, command) => {
        const line = build(command);
        expect(shell(allowGit, line)).toBe('ask');
        expect(shell([{ command: 'rm *', action: 'deny' }, ...allowGit], line)).toBe('deny');
      }),
    );
  });

  test('any text at all has parts, and a plain one is said again by its words', () => {
    const text = fc.string({ unit: fc.constantFrom(...' \n;&|$(){}<>`"\'\\ab=*~#!-[]') });
    fc.assert(
      fc.property(text, (command) => {
        const parts = toShellParts(command);
        expect(parts.length).toBeGreaterThan(0);
        for (const part of parts) {
          if (part.kind !== 'command' || part.words.length === 0) continue;
          if (!part.words.every((word) => word !== undefined)) continue;
          // Quoted, the words are the same command: nothing was lost or made up.
          const quoted = part.words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
          expect(toShellParts(quoted)[0]).toMatchObject({ words: part.words });
        }
      }),
      { numRuns: 500 },
    );
  });
});

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
    expect(verdict('example.org:8443', 'https://example.org:8443/', 'allow')).toBe('allow');
    expect(verdict('example.org:8443', 'https://example.org/', 'allow')).toBe('ask');
    expect(verdict('example.org:80', 'http://example.org/', 'allow')).toBe('allow');
  });
});
