/** From a command line to an exit code. Only the typed command is loaded: all of them would double
 *  the start-up. Everything a person did wrong ends here with exit code 2 and
 *  the nearest thing that exists. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ArgumentsCamelCase } from 'yargs';
import { createClient } from '../api/client.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import { findNearest } from '../base/nearest.ts';
import type { Context, GlobalArgs } from './command.ts';
import { commandNames, findCommand } from './commands/index.ts';
import { renderHelp } from './help.ts';
import { type Door, locate, toSelf } from './locate.ts';
import { type Environment, type Machine, PROGRAM } from './machine.ts';
import { EXIT } from './outcome.ts';
import { reportError } from './report.ts';
import { createStyle, wantsColor } from './text/style.ts';

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
  const { parseWithoutCommand } = await import('./parse.ts');
  await parseWithoutCommand(argv, machine);
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
  const [{ command }, { parseCommand }] = await Promise.all([entry.load(), import('./parse.ts')]);
  const { args, output } = await parseCommand({ argv, machine, entry, command });
  if (output !== '') machine.stdout.write(`${output}\n`);
  if (args === undefined) return EXIT.done;
  // The global options are declared for every command: they are there.
  const context = await createContext(machine, args as Parsed & GlobalArgs);
  try {
    return await command.run(context, args);
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

async function complete(words: readonly string[], machine: Machine): Promise<number> {
  const { completeWords } = await import('./parse.ts');
  await completeWords(words, machine);
  return EXIT.done;
}

async function createContext(machine: Machine, args: Parsed & GlobalArgs): Promise<Context> {
  const { env, stdout, stderr } = machine;
  const plain = args.plain || isAccessible(env);
  const config = typeof args['config'] === 'string' ? args['config'] : undefined;
  const flags = { stateDir: args['state-dir'], url: args.url, config };
  const door = await locate(flags, env);
  const print = (line: string): void => void stdout.write(`${line}\n`);
  return {
    machine,
    self: toSelf(PROGRAM, door, flags),
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
