/** A shell command line as the simple commands that it may run, found by a real parser: whatever
 *  hides in `;`, `&&`, pipes, newlines, substitutions, groups, functions or `sh -c` is a part of
 *  its own. What cannot be read for sure, or reads differently in sh and in bash, is `unknown`,
 *  and counts against the call: no allow matches it, every deny and ask does. Pure. */
import {
  type Command,
  forEachChild,
  type ParsedScript,
  parse,
  type Redirection,
  type SyntaxNode,
  type Word,
} from 'unbash';

export interface CommandPart {
  readonly kind: 'command';
  /** As the command line has it, for people. */
  readonly text: string;
  /** Each word as the program gets it; undefined: known only when it runs. */
  readonly words: readonly (string | undefined)[];
  /** It is these words and nothing else: no variable is set before it, no file is written or read
   *  by a redirection. */
  readonly isPlain: boolean;
}

export interface UnknownPart {
  readonly kind: 'unknown';
  readonly text: string;
  readonly why: string;
}

export type ShellPart = CommandPart | UnknownPart;

/** More simple commands than this in one line are not looked at one by one. */
const PARTS_MAX = 500;
/** Levels of `sh -c "sh -c …"`. */
const NESTING_MAX = 5;
const TEXT_CHARS_MAX = 200;

/** Nodes that mean the same to every shell that /bin/sh may be, and hide nothing. */
const PLAIN_NODES: ReadonlySet<SyntaxNode['type']> = new Set([
  ...(['Script', 'Statement', 'Command', 'Redirected', 'Pipeline', 'AndOr'] as const),
  ...(['CompoundList', 'Subshell', 'BraceGroup', 'If', 'Elif', 'For', 'While'] as const),
  ...(['Case', 'CaseItem', 'Function', 'Time', 'Negation', 'Word', 'Literal', 'Glob'] as const),
  ...(['SingleQuoted', 'DoubleQuoted', 'SimpleExpansion', 'ParameterExpansion'] as const),
  ...(['CommandExpansion', 'BraceExpansion', 'Assignment', 'Redirect', 'HereDoc'] as const),
  ...(['HereDocDelimiter', 'HereDocBody', 'FileDescriptor', 'Default'] as const),
]);

/** Programs that run another command, which stands somewhere behind them. */
const RUNNERS: ReadonlySet<string> = new Set([
  ...['env', 'sudo', 'doas', 'command', 'builtin', 'exec', 'nohup', 'time', 'timeout'],
  ...['nice', 'ionice', 'setsid', 'stdbuf', 'xargs', 'busybox', 'chroot', 'unshare', 'nsenter'],
  ...['flock', 'strace', 'watch', 'parallel', 'find', 'script', 'setpriv', 'chrt', 'taskset'],
  ...['prlimit', 'ltrace', 'valgrind', 'numactl', 'fakeroot', 'faketime', 'unbuffer', 'rlwrap'],
  ...['setarch', 'linux32', 'linux64', 'choom', 'gdb', 'perf', 'bwrap', 'firejail', 'proot'],
  ...['hyperfine', 'cpulimit', 'catchsegv', 'eatmydata', 'tini', 'dumb-init', 'gosu'],
  ...['uname26', 'i386', 'x86_64', 'entr', 'dbus-launch', 'chpst', 'softlimit'],
  ...['start-stop-daemon', 'su-exec', 'sg', 'torsocks', 'proxychains', 'proxychains4', 'cgexec'],
  ...['runuser', 'pkexec', 'systemd-run', 'ssh-agent', 'dbus-run-session', 'xvfb-run', 'toybox'],
]);
/** The system's own loader, asked by its name. */
const LOADER = /^ld(-linux[\w-]*)?\.so/;
/** Runners whose words are a command line for a shell. */
const JOINERS: ReadonlySet<string> = new Set(['watch', 'parallel']);
/** What bash takes for the name of a variable it expands once more, with what is substituted in it:
 *  `printf -v 'x[$(COMMAND)]'`. */
const NAMERS: ReadonlySet<string> = new Set([
  ...['test', '[', 'printf', 'read', 'declare', 'typeset', 'local', 'export', 'readonly'],
  ...['unset', 'wait', 'let', 'mapfile', 'readarray', 'getopts'],
]);
const SUBSCRIPT = /\[.*(\$\(|`)/s;
/** Options of runners that a command line follows. */
const LINE_OPTIONS = /^(-c|--command|-S|--split-string)$/;
/** The same of these, also among other letters or with the line in the same word. */
const LINE_HOLDERS: Readonly<Record<string, RegExp>> = {
  env: /^(?:--split-string(?:=|$)|-[A-Za-z0]*?S)(.*)$/s,
  flock: /^(?:--command(?:=|$)|-[A-Za-z]*?c)(.*)$/s,
  script: /^(?:--command(?:=|$)|-[A-Za-z]*?c)(.*)$/s,
};
const SHELLS: ReadonlySet<string> = new Set([
  ...['sh', 'bash', 'dash', 'zsh', 'ksh', 'mksh', 'ash', 'rbash', 'fish', 'yash', 'su', 'runuser'],
  ...['csh', 'tcsh', 'lksh', 'posh', 'osh', 'ksh93', 'rksh', 'pdksh', 'sash', 'bash-static'],
  ...['zsh-static', 'static-sh', 'elvish', 'xonsh', 'nu', 'pwsh'],
]);

/** The parts of a command line; at least one. */
export function toShellParts(command: string): readonly ShellPart[] {
  const parts: ShellPart[] = [];
  collect(command, 0, parts);
  if (parts.length > PARTS_MAX) {
    return [unknown(command, `it holds more than ${PARTS_MAX} commands`)];
  }
  // Nothing but blanks and comments.
  return parts.length === 0 ? [{ kind: 'command', text: '', words: [], isPlain: false }] : parts;
}

/** The name of a program without its folder. */
export function toProgramName(word: string): string {
  return word.slice(word.lastIndexOf('/') + 1);
}

/** True for a program that runs the command behind it. */
export function isRunner(word: string): boolean {
  const name = toProgramName(word);
  return RUNNERS.has(name) || LOADER.test(name);
}

function collect(source: string, depth: number, parts: ShellPart[]): void {
  const add = (part: ShellPart): void => {
    if (parts.length <= PARTS_MAX) parts.push(part);
  };
  // Bytes on which no two shells agree.
  if (/[^\P{Cc}\n\t]/u.test(source)) add(unknown(source, 'it holds control characters'));
  try {
    visit(parse(source), source);
  } catch (error) {
    // The parser recurses: nested without end, it has no stack left.
    const why = error instanceof Error ? error.message : String(error);
    add(unknown(source, `it cannot be parsed (${why})`));
  }

  /** @param text  what the places of this node count in. */
  function visit(node: SyntaxNode, text: string): void {
    if (parts.length > PARTS_MAX) return;
    const own = clip(text.slice(node.pos, node.end));
    if (node.type === 'Script') checkScript(node);
    else if (!PLAIN_NODES.has(node.type)) add(unknown(own, `it uses ${node.type}`));
    else if (node.type === 'Command') addCommand(node, own);
    else if (node.type === 'HereDoc' && node.closing === undefined) {
      add(unknown(own, 'a here-document has no end'));
    } else if (node.type === 'Redirected' && !node.redirects.every(isHarmless)) {
      add({ kind: 'command', text: own, words: [], isPlain: false });
    }
    const inner = node.type === 'Script' ? (node.source ?? text) : text;
    forEachChild(node, (child) => visit(child, inner));
  }

  function checkScript(script: ParsedScript): void {
    const [error] = script.errors ?? [];
    if (error !== undefined) add(unknown(source, `it is not a complete command: ${error.message}`));
  }

  function addCommand(node: Command, text: string): void {
    const words = [node.name, ...node.args].filter((each) => each !== undefined).map(toWord);
    const isAlone = node.prefix.every((each) => each.type !== 'Assignment');
    add({ kind: 'command', text, words, isPlain: isAlone && node.redirects.every(isHarmless) });
    addInner(text, words);
  }

  /** What a command is asked to run as a command line of its own. */
  function addInner(text: string, words: CommandPart['words']): void {
    const place = findShell(words);
    const lines = place === undefined ? [] : listInnerLines(words.slice(place));
    for (const each of [...lines, ...listHeldLines(words)]) {
      if (each === undefined) add(unknown(text, 'the command line it runs is known only later'));
      else if (depth >= NESTING_MAX) add(unknown(text, `shells in ${NESTING_MAX} levels`));
      else collect(each, depth + 1, parts);
    }
  }
}

function unknown(text: string, why: string): UnknownPart {
  return { kind: 'unknown', text: clip(text), why };
}

function clip(text: string): string {
  return text.length > TEXT_CHARS_MAX ? `${text.slice(0, TEXT_CHARS_MAX)}…` : text;
}

function toWord(word: Word | { readonly type: 'Assignment'; readonly text: string }) {
  if (word.type === 'Assignment') return /["'$`\\~*?[{]/.test(word.text) ? undefined : word.text;
  if (word.text.startsWith('~')) return undefined;
  return (word.parts ?? []).every(isFixed) ? word.value : undefined;
}

function isFixed(part: NonNullable<Word['parts']>[number]): boolean {
  if (part.type === 'DoubleQuoted') return part.parts.every((each) => each.type === 'Literal');
  return part.type === 'Literal' || part.type === 'SingleQuoted';
}

/** Nothing is written or read but what the command itself does: to nowhere, or between its own
 *  streams. */
function isHarmless(redirection: Redirection): boolean {
  if (redirection.type !== 'Redirect' || redirection.target === undefined) return false;
  const { operator } = redirection;
  const target = toWord(redirection.target);
  if (operator === '>&' || operator === '<&') return target !== undefined && /^\d$/.test(target);
  return ['>', '>>', '<'].includes(operator) && target === '/dev/null';
}

/** Where in the words a shell or `eval` begins; also behind programs that run others. */
function findShell(words: CommandPart['words']): number | undefined {
  const isShell = (word: string | undefined): boolean =>
    word !== undefined && (word === 'eval' || SHELLS.has(toProgramName(word)));
  const [name] = words;
  if (name === undefined) return undefined;
  if (isShell(name)) return 0;
  if (!isRunner(name)) return undefined;
  const place = words.findIndex(isShell);
  return place < 0 ? undefined : place;
}

/** The command line of `sh -c LINE` or `eval WORDS`; none: a script file, which is like any
 *  program. undefined: not known, or read from standard input. */
function listInnerLines([name, ...rest]: CommandPart['words']): readonly (string | undefined)[] {
  if (name === 'eval') {
    return [rest.every((word) => word !== undefined) ? rest.join(' ') : undefined];
  }
  const option = rest.findIndex((word) => /^[-+][a-z]*c[a-z]*$/i.test(word ?? ''));
  if (option >= 0) return listOptionWords(rest.slice(option));
  const script = rest.find((word) => !isOption(word));
  return script === undefined || isStream(script) ? [undefined] : [];
}

function isOption(word: string | undefined): boolean {
  return word?.match(/^[-+]/) != null;
}

/** A file that is what the shell is told: `bash /dev/stdin`. */
function isStream(word: string): boolean {
  return /^\/(dev|proc)\//.test(word);
}

/** The line of `-c`, which is the first word behind the options. Each `o` or `O` among them takes a
 *  word of its own before it (`-co posix LINE`), but not in each shell: those are lines, too. */
function listOptionWords(words: CommandPart['words']): readonly (string | undefined)[] {
  const lines: (string | undefined)[] = [];
  let taken = 0;
  for (const word of words) {
    if (lines.length > taken) break;
    if (isOption(word)) taken += word?.match(/^[-+]\w+$/) == null ? 0 : word.split(/o/i).length - 1;
    else lines.push(word);
  }
  return lines.length > taken ? lines : [...lines, undefined];
}

/** Command lines that are one word of another command: kept for later (`trap`, `alias`), or handed
 *  to a shell by a program that runs others. undefined: not known. */
function listHeldLines([name, ...rest]: CommandPart['words']): readonly (string | undefined)[] {
  if (name === 'trap') {
    const held = rest[0] === '--' ? rest.slice(1) : rest;
    return held.length < 2 || held[0] === '-' ? [] : held.slice(0, 1);
  }
  if (name === '.' || name === 'source') return isStream(rest[0] ?? '') ? [undefined] : [];
  if (name !== undefined && NAMERS.has(name)) {
    return rest.some((word) => SUBSCRIPT.test(word ?? '')) ? [undefined] : [];
  }
  if (name === 'alias') return rest.map((word) => word?.slice(word.indexOf('=') + 1));
  if (name === undefined || !isRunner(name)) return [];
  const program = toProgramName(name);
  // What it adds comes last: behind a program that runs others it is the command.
  if (program === 'xargs' && isRunner(rest.at(-1) ?? '')) return [undefined];
  if (JOINERS.has(program)) return rest.filter((word) => word === undefined || /\s/.test(word));
  const holder = LINE_HOLDERS[program];
  if (holder !== undefined) return listOptionLines(program, rest, holder);
  return rest.filter((_, index) => LINE_OPTIONS.test(rest[index - 1] ?? ''));
}

function listOptionLines(
  program: string,
  rest: CommandPart['words'],
  holder: RegExp,
): readonly (string | undefined)[] {
  if (program === 'env') return toSplitLine(rest, holder);
  return rest.flatMap((word, index) => {
    const [, own] = holder.exec(word ?? '') ?? [];
    if (own === undefined) return [];
    return [own === '' ? rest[index + 1] : own];
  });
}

/** `env -S LINE WORDS` is `env` with the words of the line before the others; options of its own
 *  among them. A backslash and a dollar in the line mean what they do not mean to a shell. */
function toSplitLine(rest: CommandPart['words'], holder: RegExp): readonly (string | undefined)[] {
  const place = rest.findIndex((word) => holder.test(word ?? ''));
  if (place < 0) return [];
  const [, own = ''] = holder.exec(rest[place] ?? '') ?? [];
  const [line, ...more] = own === '' ? rest.slice(place + 1) : [own, ...rest.slice(place + 1)];
  const isKnown = line !== undefined && !/[\\$]/.test(line) && !more.includes(undefined);
  return [isKnown ? ['env', line, ...more].join(' ') : undefined];
}
