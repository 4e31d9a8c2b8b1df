/** From a command line to an exit code. Only the typed command is registered and loaded: all of
 *  them would double the start-up. Everything a person did wrong ends here with exit code 2 and
 *  the nearest thing that exists. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import yargs, { type ArgumentsCamelCase, type Argv } from 'yargs';
import { createClient } from '../api/client.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import { findNearest } from '../base/nearest.ts';
import type { Command, Context, GlobalArgs } from './command.ts';
import { type CommandEntry, commandNames, commandTable, findCommand } from './commands/index.ts';
import { renderHelp } from './help.ts';
import { type Door, locate } from './locate.ts';
import { columnsOf, type Environment, type Machine } from './machine.ts';
import { EXIT } from './outcome.ts';
import { reportError } from './report.ts';
import { createStyle, wantsColor } from './text/style.ts';

export const PROGRAM = 'prx-supervisor';

const HELP_COLUMNS_MAX = 100;
const COMPLETION_FLAG = '--get-yargs-completions';

type Parsed = ArgumentsCamelCase<unknown>;

/** @returns the exit code; never throws for what a user or the supervisor did. */
export async function runProgram(argv: readonly string[], machine: Machine): Promise<number> {
  const early = toEarlyContext(argv, machine);
  try {
    const index = findCommandIndex(argv);
    const name = argv[index];
    if (name === undefined) return await runWithoutCommand(argv, machine);
    return await runCommand({ argv: argv.toSpliced(index, 1), name, machine });
  } catch (error) {
    return reportError(early, toPrxError(error));
  }
}

/** What is known before the command line is parsed: enough to report why it could not be. */
function toEarlyContext(argv: readonly string[], machine: Machine) {
  const plain = argv.includes('--plain') || isAccessible(machine.env);
  const isTty = machine.stderr.isTTY === true;
  return {
    self: PROGRAM,
    door: undefined as Door | undefined,
    json: argv.includes('--json'),
    say: (line: string) => void machine.stderr.write(`${line}\n`),
    errorStyle: createStyle(wantsColor(machine.env, isTty, plain)),
  };
}

function isAccessible(env: Environment): boolean {
  return env['PRX_A11Y'] === '1';
}

const OPTIONS_WITH_VALUE: ReadonlySet<string> = new Set(['--state-dir', '--url']);

/** Where the first word is that is neither an option nor the value of one; -1 without one. */
export function findCommandIndex(argv: readonly string[]): number {
  for (let index = 0; index < argv.length; index += 1) {
    const word = argv[index] ?? '';
    if (OPTIONS_WITH_VALUE.has(word)) index += 1;
    else if (!word.startsWith('-') || word === COMPLETION_FLAG) return index;
  }
  return -1;
}

async function runWithoutCommand(argv: readonly string[], machine: Machine): Promise<number> {
  if (argv.includes('--version')) {
    machine.stdout.write(`${readVersion()}\n`);
    return EXIT.done;
  }
  const isTty = machine.stdout.isTTY === true;
  const plain = argv.includes('--plain') || isAccessible(machine.env);
  const help = renderHelp(PROGRAM, createStyle(wantsColor(machine.env, isTty, plain)));
  if (argv.includes('--help') || argv.includes('-h')) {
    machine.stdout.write(`${help}\n`);
    return EXIT.done;
  }
  // Unknown options are named by yargs; a bare call gets the help, as a mistake.
  await parse({ argv, machine, entries: [], loaded: undefined });
  machine.stderr.write(`${help}\n`);
  return EXIT.usage;
}

/** The package lies above cli/ as it lies above dist/. */
export function readVersion(): string {
  const text = readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8');
  const { version } = JSON.parse(text) as { version: string };
  return version;
}

interface Typed {
  readonly argv: readonly string[];
  readonly name: string;
  readonly machine: Machine;
}

async function runCommand({ argv, name, machine }: Typed): Promise<number> {
  if (name === COMPLETION_FLAG) return complete(argv, machine);
  if (name === 'help') return runProgram([...argv, '--help'], machine);
  const entry = findCommand(name);
  if (entry === undefined) throw unknownCommand(name);
  const { command } = await entry.load();
  const parsed = await parse({ argv, machine, entries: [entry], loaded: { entry, command } });
  if (parsed === undefined) return EXIT.done;
  const context = await createContext(machine, parsed as Parsed & GlobalArgs);
  try {
    return await command.run(context, parsed);
  } catch (error) {
    return reportError(context, toPrxError(error));
  }
}

function unknownCommand(name: string): PrxError {
  const nearest = findNearest(name, commandNames);
  const hint = nearest === undefined ? '' : ` Did you mean '${nearest}'?`;
  const message = `there is no command '${name}'.${hint} '${PROGRAM} --help' lists all commands.`;
  return new PrxError('INVALID_REQUEST', message, { data: { command: name, nearest } });
}

interface Loaded {
  readonly entry: CommandEntry;
  readonly command: Command;
}

interface ParseRequest {
  readonly argv: readonly string[];
  readonly machine: Machine;
  readonly entries: readonly CommandEntry[];
  /** The command whose options are known; the other entries are names alone. */
  readonly loaded: Loaded | undefined;
}

/** @returns the arguments; undefined when the output (help, completions) was all that was asked. */
async function parse(request: ParseRequest): Promise<Parsed | undefined> {
  const { machine, loaded } = request;
  let parsed: Parsed | undefined;
  const parser = createParser(machine);
  for (const entry of request.entries) {
    const names = [`${entry.name} ${entry.usage}`.trim(), ...entry.aliases];
    const build = (y: Argv<GlobalArgs>): Argv<GlobalArgs> =>
      entry === loaded?.entry ? registerCommand(y, loaded) : y;
    parser.command(names, entry.summary, build, (args) => {
      parsed = args;
    });
  }
  if (request.entries.length === 0) addGlobals(parser);
  let output = '';
  try {
    await parser.parseAsync(
      [...request.argv],
      {},
      (_error: unknown, _args: unknown, text: string) => {
        output = text;
      },
    );
  } catch (error) {
    throw toUsageError(toPrxError(error).message, parser, loaded?.entry.name);
  }
  if (output !== '') machine.stdout.write(`${output}\n`);
  if (parsed !== undefined) checkValues(parsed, parser);
  return output === '' ? parsed : undefined;
}

function createParser(machine: Machine): Argv<GlobalArgs> {
  const parser = yargs([])
    .scriptName(PROGRAM)
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
function registerCommand(parser: Argv<GlobalArgs>, { entry, command }: Loaded): Argv<GlobalArgs> {
  const registered = command.register(parser);
  const positionals = entry.usage.match(/[\w-]+/g) ?? [];
  const own = knownOptions(parser).filter((key) => ![...positionals, 'help', 'h'].includes(key));
  return addGlobals(registered.group(own, 'Options:'));
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

function knownOptions(parser: Argv<GlobalArgs>): string[] {
  // `getOptions` is yargs' own list of declared names; its type declaration leaves it out.
  const { getOptions } = parser as unknown as { getOptions(): { key: Record<string, unknown> } };
  return Object.keys(getOptions.call(parser).key);
}

/** yargs' sentence, with the nearest known option and where to read on. */
function toUsageError(message: string, parser: Argv<GlobalArgs>, command?: string): PrxError {
  const unknown = /^Unknown arguments?: (.*)$/.exec(message)?.[1]?.split(', ')[0];
  const known = knownOptions(parser);
  const nearest = unknown === undefined ? undefined : findNearest(unknown, known);
  const said = unknown === undefined ? message : `unknown option or argument '${unknown}'.`;
  const hint = nearest === undefined ? '' : ` Did you mean '--${nearest}'?`;
  const more = `'${PROGRAM}${command === undefined ? '' : ` ${command}`} --help' explains.`;
  const sentence = /[.!?]$/.test(said) ? said : `${said}.`;
  return new PrxError('INVALID_REQUEST', `${sentence}${hint} ${more}`, { data: { nearest } });
}

/** What yargs lets through: a number that is none, an option given twice. */
function checkValues(parsed: Parsed, parser: Argv<GlobalArgs>): void {
  const { getOptions } = parser as unknown as { getOptions(): { array: string[] } };
  const arrays = new Set(getOptions.call(parser).array);
  for (const [key, value] of Object.entries(parsed)) {
    if (key === '_') continue;
    if (typeof value === 'number' && Number.isNaN(value)) {
      throw new PrxError('INVALID_REQUEST', `--${key} takes a number`, { data: { option: key } });
    }
    if (Array.isArray(value) && !arrays.has(key) && value.length > 1 && !isVariadic(key)) {
      throw new PrxError('INVALID_REQUEST', `--${key} was given more than once`);
    }
  }
}

const VARIADIC: ReadonlySet<string> = new Set(['prompt', 'text', 'ids']);

function isVariadic(key: string): boolean {
  return VARIADIC.has(key);
}

async function complete(argv: readonly string[], machine: Machine): Promise<number> {
  const words = argv.slice(argv.indexOf(COMPLETION_FLAG) + 1);
  const typed = words.map(findCommand).find((entry) => entry !== undefined);
  const loaded =
    typed === undefined ? undefined : { entry: typed, command: (await typed.load()).command };
  await parse({ argv, machine, entries: commandTable, loaded });
  return EXIT.done;
}

async function createContext(machine: Machine, args: Parsed & GlobalArgs): Promise<Context> {
  const { env, stdout, stderr } = machine;
  const plain = args.plain || isAccessible(env);
  const config = typeof args['config'] === 'string' ? args['config'] : undefined;
  const door = await locate({ stateDir: args['state-dir'], url: args.url, config }, env);
  const print = (line: string): void => void stdout.write(`${line}\n`);
  return {
    machine,
    self: PROGRAM,
    door,
    json: args.json,
    plain,
    quiet: args.quiet,
    style: createStyle(wantsColor(env, stdout.isTTY === true, plain)),
    errorStyle: createStyle(wantsColor(env, stderr.isTTY === true, plain)),
    connect: () => createClient(toTarget(door)),
    print,
    say: (line) => void stderr.write(`${line}\n`),
    printJson: (value) => print(JSON.stringify(value)),
  };
}

function toTarget(door: Door): Parameters<typeof createClient>[0] {
  if (door.kind === 'socket') return { socketPath: door.socketPath };
  return door.token === undefined ? { url: door.url } : { url: door.url, token: door.token };
}
