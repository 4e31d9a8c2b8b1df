/** What rules say of command lines: which parts one has, and that nobody gets round a rule. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { toShellParts } from '../../../../supervisor/effects/policy/command-parts.ts';
import { type RuleText, toRules } from '../../../../supervisor/effects/policy/rules.ts';
import { toParts } from '../../../../supervisor/effects/policy/subject.ts';
import { decideTool } from '../../../../supervisor/effects/policy.ts';

/** With `supervised` behind the rules, so that the three actions can be told apart. */
function shell(rules: readonly RuleText[], command: string): 'allow' | 'ask' | 'deny' {
  const subject = { tool: 'shell', arguments: { command }, workspace: '/nowhere' };
  return decideTool(
    { rules: toRules(rules), tools: { default: 'supervised', groups: {}, tools: {} } },
    {
      ...{ tool: 'shell', level: 'bubblewrap', approve: 'ask', approved: [] },
      parts: () => toParts(subject),
      kept: () => undefined,
    },
  ).decision;
}

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
    "bash -oc posix 'rm x'",
    "bash -c -o posix 'rm x'",
    "bash -c +O extglob 'rm x'",
    "sh +c 'rm x'",
    "sh -c -- 'rm x'",
    'setarch -R rm x',
    // What cannot be known counts against the call.
    '$X y',
    'sh -c',
    'bash /dev/stdin <<E\nrm x\nE\n',
    '. /dev/fd/0 <<E\nrm x\nE\n',
    'echo rm x | xargs -n 2 env',
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
    "sh -c 'ls' -o 'rm x'",
    'source ./build.sh',
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

describe('what stands behind a program that runs others (regression)', () => {
  test.each([
    'exec $x y',
    'env A=1 $x y',
    'env A=$x y',
    'nice -n 5 $(echo rm) y',
    'timeout 1.5m $x y',
    'sudo -u me $x y',
    'sh -c \'exec "$@"\' sh rm x',
    'find . -name a -exec $x {} +',
    'uname26 rm x',
    "csh -c 'rm x'",
    "pwsh -c 'rm x'",
    "printf -v 'x[$(rm x)]' y",
    "[ -v 'x[`rm x`]' ]",
  ])('may be forbidden: %j', (command) => {
    expect(shell(denyRm, command)).toBe('deny');
  });

  test.each(['timeout 5 curl $x', 'find . -name $x', 'nice make $x', 'test "$x" = "[a]"'])(
    'is known: %j',
    (command) => {
      expect(shell(denyRm, command)).toBe('allow');
    },
  );
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
