/** What the patterns of `[[security.rules]]` say about the words of a command, a path, a tree or a
 *  domain. Three answers: `maybe` depends on what is known only when the call runs. Pure. */
import { matchesHost, parseHostPattern, toBareHost } from '../../../base/hostnames.ts';
import { type CommandPart, isRunner, type ShellPart, toProgramName } from './command-parts.ts';
import { expandBraces, matchesName, matchesPath } from './glob.ts';
import type { DomainPart } from './subject.ts';

export type Match = 'yes' | 'maybe' | 'no';

const PATTERN_CHARS_MAX = 1000;
const ANY_DOMAIN = '*';
/** A word longer than this is not compared. */
const WORD_CHARS_MAX = 4096;
/** Of a program that runs another; among more words it is not looked for. */
const RUNNER_WORDS_MAX = 2000;
/** Options and their values before a subcommand. */
const OPTION_WORDS_MAX = 40;
/** A second command, or a quoting that nobody could compare. */
const NO_WORDS = /[;|&<>()`$"'\\\t\n]|^ | $| {2}/;

/** Why this is no pattern; undefined: it is one. */
export function findPatternProblem(
  kind: 'tool' | 'path' | 'command' | 'domain',
  pattern: string,
): string | undefined {
  if (pattern === '' || pattern.length > PATTERN_CHARS_MAX) {
    return `a pattern has 1 to ${PATTERN_CHARS_MAX} characters`;
  }
  if (kind === 'domain') {
    const isKnown = pattern === ANY_DOMAIN || parseHostPattern(pattern) !== undefined;
    return isKnown
      ? undefined
      : 'a domain pattern is a host (example.org), what is below one (*.example.org), an address, each with :PORT or without, or * for every host';
  }
  if (expandBraces(pattern) === undefined) return 'a brace has no other, or too many choices';
  if (kind === 'command' && NO_WORDS.test(pattern)) {
    return 'a command pattern is the words of one simple command with single blanks between them, without quotes and without ; | & < > ( ) $ ` \\: each command of a line is compared by itself';
  }
  const isCrooked = /(^|\/)\.{1,2}(\/|$)|\/\/|.\/$/.test(pattern);
  if (kind === 'path' && isCrooked && pattern !== '.') {
    return 'a path pattern has no . or .. folder, no // and no / at its end; dir/** is a folder with all below it';
  }
  return undefined;
}

export function strongest(matches: readonly Match[]): Match {
  if (matches.includes('yes')) return 'yes';
  return matches.includes('maybe') ? 'maybe' : 'no';
}

/** `git status` is exactly that; a last word `*` stands for any words, also none.
 *  @param isWide  also a program with its folder, what stands behind `env`, `xargs` and their like,
 *    and `git -C x push` for `git push`: for rules that forbid. */
export function matchCommand(pattern: string, part: ShellPart, isWide: boolean): Match {
  if (part.kind === 'unknown') return 'maybe';
  const { words } = part;
  const [name] = words;
  const wanted = pattern.split(' ');
  const plain = matchWords(wanted, { words, from: 0 });
  if (!isWide || name === undefined || plain === 'yes') return plain;
  if (!isRunner(name)) return strongest([plain, matchProgram(wanted, words, 0)]);
  if (words.length > RUNNER_WORDS_MAX) return 'maybe';
  return strongest([plain, ...words.map((_, start) => matchProgram(wanted, words, start))]);
}

/** The program that stands at `start`, without its folder, with and without its first options:
 *  each of these may take the word after it. */
function matchProgram(
  wanted: readonly string[],
  words: CommandPart['words'],
  start: number,
): Match {
  const word = words[start];
  if (word === undefined) return isFirstBehind(words, start) ? 'maybe' : 'no';
  const program = toProgramName(word);
  const [pattern = '', ...further] = wanted;
  if (program.length > WORD_CHARS_MAX) return 'maybe';
  if (!matchesName(pattern, program)) return 'no';
  const matches = [matchWords(wanted, { words, from: start, program })];
  let isValue = false;
  for (let from = start + 1; from < words.length; from += 1) {
    if (from - start > OPTION_WORDS_MAX) return 'maybe';
    const next = words[from];
    const isOption = next?.startsWith('-') === true;
    if (!isOption && from > start + 1) matches.push(matchWords(further, { words, from }));
    if (!isOption && !isValue) break;
    isValue = isOption && !next.includes('=');
  }
  return strongest(matches);
}

/** What a program that runs another takes before it: options and their values, variables, times. */
const RUNNER_OPTION = /^-|^\w+=|^\d[\d.]*[smhd]?$/;
const EXEC_OPTION = /^-(exec|ok)(dir)?$/;

/** Whether a word that is known only when it runs is the command behind a runner. */
function isFirstBehind(words: CommandPart['words'], start: number): boolean {
  const before = words.slice(0, start);
  const runner = before.findLastIndex((word) => word !== undefined && isRunner(word));
  if (EXEC_OPTION.test(before.at(-1) ?? '')) return true;
  // Its other options take values, and the command stands behind those.
  if (toProgramName(before[runner] ?? '') === 'find') return false;
  return before
    .slice(runner + 1)
    .every(
      (word, index, rest) => RUNNER_OPTION.test(word ?? '') || /^-/.test(rest[index - 1] ?? ''),
    );
}

interface Place {
  readonly words: CommandPart['words'];
  readonly from: number;
  /** In place of the first word. */
  readonly program?: string;
}

function matchWords(wanted: readonly string[], { words, from, program }: Place): Match {
  for (const [index, pattern] of wanted.entries()) {
    if (pattern === '*' && index === wanted.length - 1) return 'yes';
    if (from + index >= words.length) return 'no';
    const word = index === 0 ? (program ?? words[from]) : words[from + index];
    // It may become any number of words.
    if (word === undefined || word.length > WORD_CHARS_MAX) return 'maybe';
    if (!matchesName(pattern, word)) return 'no';
  }
  const more = words.slice(from + wanted.length);
  if (more.length === 0) return 'yes';
  return more.every((word) => word === undefined) ? 'maybe' : 'no';
}

/** The patterns of `allowed_domains`, and `*` for every host. Without a port: whatever the port. */
export function matchDomain(pattern: string, { host, port }: DomainPart): Match {
  // What cannot be read may be any.
  if (host === undefined) return 'maybe';
  if (pattern === ANY_DOMAIN) return 'yes';
  const wanted = parseHostPattern(pattern);
  if (wanted === undefined || (wanted.port !== undefined && wanted.port !== port)) return 'no';
  if (matchesHost(wanted, host)) return 'yes';
  return matchesHost(wanted, toBareHost(host)) ? 'maybe' : 'no';
}

/** Patterns that begin with / are for paths outside the workspace, others for paths inside.
 *  `dir/**` is `dir` itself too. */
export function matchPath(pattern: string, path: string): Match {
  if (pattern.startsWith('/') !== path.startsWith('/')) return 'no';
  const isBelow = pattern.endsWith('/**') && matchesPath(pattern, `${path}/`);
  return isBelow || matchesPath(pattern, path) ? 'yes' : 'no';
}

/** A folder with all below it: covered as a whole, or perhaps holding what the pattern means.
 *  @param holdsWorkspace  it lies outside the workspace, around it. */
export function matchTree(pattern: string, tree: string, holdsWorkspace: boolean): Match {
  const own = matchPath(pattern, tree);
  if (own === 'yes') return pattern === '**' || pattern.endsWith('/**') ? 'yes' : 'maybe';
  const isInside = !pattern.startsWith('/');
  if (isInside && (tree === '.' || holdsWorkspace)) return 'maybe';
  if (isInside === tree.startsWith('/')) return 'no';
  return (expandBraces(pattern) ?? ['**']).some((each) => mayHold(tree, each)) ? 'maybe' : 'no';
}

/** Whether a name below the folder can match: folder by folder, until a `**` leaves it open. */
function mayHold(tree: string, pattern: string): boolean {
  const [folders, wanted] = [tree, pattern].map((path) => path.split('/').filter((x) => x !== ''));
  for (const [index, folder] of (folders ?? []).entries()) {
    const own = wanted?.[index];
    if (own === undefined) return false;
    if (own.includes('**')) return true;
    if (!matchesPath(own, folder)) return false;
  }
  return (wanted ?? []).length > (folders ?? []).length;
}
