/** The command line through yargs. The typed command is yargs' default command: it is the only one
 *  that is registered, and yargs lays out no help that nobody asked for. */
import yargs, { type ArgumentsCamelCase, type Argv } from 'yargs';
import { PrxError, toPrxError } from '../base/errors.ts';
import { findNearest } from '../base/nearest.ts';
import type { Command, GlobalArgs } from './command.ts';
import { type CommandEntry, commandTable, findCommand } from './commands/index.ts';
import { columnsOf, type Machine, PROGRAM } from './machine.ts';
import { toArgument, toUsageSentence } from './usage-sentence.ts';

const HELP_COLUMNS_MAX = 100;

/** Before each word that stands behind `--`, while yargs has it: it would put those words aside,
 *  where no command looks. No argument of a process can hold it itself. */
const WORD_MARK = '\u0000';
/** As yargs has it in a sentence about a value. */
const QUOTED_MARK = '\\u0000';

/** A lone `-`, which yargs drops from several words; before `--` it may be an option's value. */
const DASH = `${WORD_MARK}${WORD_MARK}-`;

type Parsed = ArgumentsCamelCase<unknown>;

export interface CommandLine {
  /** Without the command's name. */
  readonly argv: readonly string[];
  readonly machine: Machine;
  readonly entry: CommandEntry;
  readonly command: Command;
}

export interface ParsedLine {
  /** Absent when the output was all that was asked for. */
  readonly args: Parsed | undefined;
  /** What yargs wants printed: help. */
  readonly output: string;
}

/** @throws INVALID_REQUEST, with the nearest known option. */
export async function parseCommand(line: CommandLine): Promise<ParsedLine> {
  const { entry } = line;
  const name = `${PROGRAM} ${entry.name}`;
  let args: Parsed | undefined;
  let arrays: readonly string[] = [];
  const parser = createParser(name, line.machine).command(
    `$0 ${entry.usage}`.trim(),
    entry.summary,
    (y) => {
      const registered = registerCommand(y, line);
      arrays = [...declaredOf(registered).arrays, ...variadicOf(line.entry)];
      return registered;
    },
    (parsed) => {
      args = parsed;
    },
  );
  const output = await runParser(parser, markWords(line.argv), { name, usage: entry.usage });
  if (args === undefined || output !== '') return { args: undefined, output };
  const restored = restoreWords(args, positionalsOf(entry));
  checkValues(restored, { arrays, usage: entry.usage });
  return { args: restored, output };
}

/** What stands behind `--` is never an option, whatever it begins with. */
function markWords(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  const before = end === -1 ? argv : argv.slice(0, end);
  const behind = end === -1 ? [] : argv.slice(end + 1);
  return [
    ...before.map((word) => (word === '-' ? DASH : word)),
    ...behind.map((word) => WORD_MARK + word),
  ];
}

function restoreWords(args: Parsed, positionals: readonly string[]): Parsed {
  const restored: Parsed = { ...args };
  for (const [key, value] of Object.entries(args)) {
    const marked = [value].flat().filter(isMarked);
    if (marked.length === 0) continue;
    if (!positionals.includes(key) && marked.some((word) => word !== DASH)) {
      throw new PrxError('INVALID_REQUEST', `--${key} needs a value before --`);
    }
    restored[key] = Array.isArray(value) ? value.map(withoutMarks) : withoutMarks(value);
  }
  return restored;
}

function isMarked(value: unknown): boolean {
  return typeof value === 'string' && value.startsWith(WORD_MARK);
}

function withoutMarks(value: unknown): string {
  return String(value).replaceAll(WORD_MARK, '');
}

/** Refuses whatever is not an option of every command. */
export async function parseWithoutCommand(
  argv: readonly string[],
  machine: Machine,
): Promise<void> {
  await runParser(addGlobals(createParser(PROGRAM, machine)), argv, { name: PROGRAM, usage: '' });
}

/** Prints the words a shell may complete with, one a line. yargs prints them itself, from a parse
 *  inside its parse, so there is no output to hand back.
 *  @param words  what is typed so far, without the program's name. */
export async function completeWords(words: readonly string[], machine: Machine): Promise<void> {
  const typed = words.map(findCommand).find((entry) => entry !== undefined);
  const loaded = await typed?.load();
  const argv = ['--get-yargs-completions', PROGRAM, ...words];
  const parser = createParser(PROGRAM, machine, argv);
  for (const entry of commandTable) {
    const names = [`${entry.name} ${entry.usage}`.trim(), ...entry.aliases];
    parser.command(names, entry.summary, (y) =>
      entry === typed && loaded !== undefined
        ? registerCommand(y, { entry, command: loaded.command })
        : y,
    );
  }
  await addGlobals(parser).parseAsync();
}

interface Called {
  /** The program with its command. */
  readonly name: string;
  readonly usage: string;
}

/** @returns what yargs wants printed. */
async function runParser(
  parser: Argv<GlobalArgs>,
  argv: readonly string[],
  called: Called,
): Promise<string> {
  let output = '';
  try {
    await parser.parseAsync([...argv], {}, (_error: unknown, _args: unknown, text: string) => {
      output = text;
    });
  } catch (error) {
    const message = toPrxError(error).message.replaceAll(QUOTED_MARK, '');
    throw toUsageError(withoutMarks(message), parser, called);
  }
  return output;
}

function createParser(
  name: string,
  machine: Machine,
  argv: readonly string[] = [],
): Argv<GlobalArgs> {
  const parser = yargs([...argv])
    .scriptName(name)
    .exitProcess(false)
    .locale('en')
    .version(false)
    .help('help')
    .alias('help', 'h')
    .wrap(Math.min(HELP_COLUMNS_MAX, columnsOf(machine.stdout)))
    .parserConfiguration({
      'boolean-negation': false,
      'greedy-arrays': false,
      'parse-positional-numbers': false,
      'dot-notation': false,
    })
    .strict()
    .showHelpOnFail(false)
    .fail((message, error) => {
      throw error ?? new PrxError('INVALID_REQUEST', message);
    });
  // They are declared by addGlobals, behind a command's own options, so that help lists them last.
  return parser as unknown as Argv<GlobalArgs>;
}

/** The command's own options first: yargs lists named groups before the rest. */
function registerCommand(
  parser: Argv<GlobalArgs>,
  { entry, command }: Pick<CommandLine, 'entry' | 'command'>,
): Argv<GlobalArgs> {
  const registered = command.register(parser);
  const positionals = positionalsOf(entry);
  const own = declaredOf(parser).names.filter(
    (key) => key.length > 1 && key !== 'help' && !positionals.includes(key),
  );
  return addGlobals(registered.group(own, 'Options:'));
}

function positionalsOf(entry: CommandEntry): readonly string[] {
  return entry.usage.match(/[\w-]+/g) ?? [];
}

/** Positionals that take several words. */
function variadicOf(entry: CommandEntry): string[] {
  return Array.from(entry.usage.matchAll(/([\w-]+)\.\./g), ([, name = '']) => name);
}

function addGlobals(parser: Argv<unknown>): Argv<GlobalArgs> {
  const group = 'Options of every command:';
  const off = { type: 'boolean', default: false, group } as const;
  return parser
    .option('state-dir', {
      type: 'string',
      requiresArg: true,
      group,
      describe: 'Where the supervisor keeps its state',
    })
    .option('url', { type: 'string', requiresArg: true, group, describe: 'A supervisor on TCP' })
    .option('json', { ...off, describe: 'Output for programs' })
    .option('plain', { ...off, describe: 'Flat, labelled output' })
    .option('quiet', { ...off, alias: 'q', describe: 'Only what a script needs' })
    .group(['help'], group);
}

interface Declared {
  readonly names: readonly string[];
  readonly arrays: readonly string[];
  readonly choices: Readonly<Record<string, readonly unknown[]>>;
}

/** What is declared so far; yargs' own list, which its type declaration leaves out. */
function declaredOf(parser: Argv<GlobalArgs>): Declared {
  const { getOptions } = parser as unknown as {
    getOptions(): { key: object; array: string[]; choices: Record<string, unknown[]> };
  };
  const options = getOptions.call(parser);
  const { key, array, choices } = options;
  return { names: Object.keys(key), arrays: array, choices };
}

/** yargs' sentence, with the nearest known option and where to read on. */
function toUsageError(message: string, parser: Argv<GlobalArgs>, called: Called): PrxError {
  const { name, usage } = called;
  const unknown = /^Unknown arguments?: (.*)$/.exec(message)?.[1]?.split(', ')[0];
  const { names: known, choices } = declaredOf(parser);
  const isOption = unknown !== undefined && unknown.length > 1;
  const nearest = isOption ? findNearest(unknown, known) : undefined;
  const said =
    unknown === undefined
      ? toUsageSentence(message, { usage, choices })
      : `unknown option or argument '${unknown}'.`;
  const behind = unknown === undefined ? '' : ' Words that begin with - go behind --.';
  const hint = nearest === undefined ? behind : ` Did you mean '--${nearest}'?`;
  const sentence = /[.!?]$/.test(said) ? said : `${said}.`;
  return new PrxError('INVALID_REQUEST', `${sentence}${hint} '${name} --help' explains.`, {
    data: { nearest },
  });
}

/** Words for somebody to read, or a command's own: who takes them says what is wrong with none. */
const texts: ReadonlySet<string> = new Set(['prompt', 'text', 'command', 'answer', 'reason']);

/** What yargs lets through: a number that is none, an option given twice, and an empty value, which
 *  is a variable of a script that was not set, never what was meant. */
function checkValues(
  args: Parsed,
  { arrays, usage }: { readonly arrays: readonly string[]; readonly usage: string },
): void {
  for (const [key, value] of Object.entries(args)) {
    if (key === '_') continue;
    const what = toArgument(key, usage);
    if (typeof value === 'number' && Number.isNaN(value)) {
      throw new PrxError('INVALID_REQUEST', `${what} takes a number`, { data: { option: key } });
    }
    if (Array.isArray(value) && !arrays.includes(key)) {
      throw new PrxError('INVALID_REQUEST', `${what} was given more than once`);
    }
    if ([value].flat().includes('') && !texts.has(key)) {
      throw new PrxError('INVALID_REQUEST', `${what} is empty; give it a value, or leave it out`);
    }
  }
}
