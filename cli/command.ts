/** The shape of a command: what yargs is told about its arguments, and what runs. A command file
 *  is loaded only when its name was typed. */
import type { ArgumentsCamelCase, Argv } from 'yargs';
import type { ApiClient } from '../api/client.ts';
import type { Door } from './locate.ts';
import type { Machine } from './machine.ts';
import type { Style } from './text/style.ts';

/** Options that every command takes. */
export interface GlobalArgs {
  'state-dir': string | undefined;
  url: string | undefined;
  json: boolean;
  plain: boolean;
  quiet: boolean;
}

/** What a command runs with, beside its arguments. */
export interface Context {
  readonly machine: Machine;
  /** How errors and hints name this program. */
  readonly self: string;
  /** Where the supervisor is. */
  readonly door: Door;
  readonly json: boolean;
  /** Flat, labelled lines; no colour, no movement. */
  readonly plain: boolean;
  readonly quiet: boolean;
  /** For stdout and for stderr: one of them may be a terminal, the other a file. */
  readonly style: Style;
  readonly errorStyle: Style;
  connect(): ApiClient;
  /** One line of data on stdout. */
  print(line: string): void;
  /** One line for people on stderr. */
  say(line: string): void;
  printJson(value: unknown): void;
}

export interface CommandSpec<T> {
  readonly build: (yargs: Argv<GlobalArgs>) => Argv<T>;
  /** @returns the exit code. */
  readonly run: (context: Context, args: ArgumentsCamelCase<T>) => Promise<number>;
}

/** A command whose argument types are known to itself alone. */
export interface Command {
  register(yargs: Argv<GlobalArgs>): Argv<unknown>;
  run(context: Context, args: ArgumentsCamelCase<unknown>): Promise<number>;
}

export function defineCommand<T>(spec: CommandSpec<T>): Command {
  return {
    register: (yargs) => spec.build(yargs) as Argv<unknown>,
    // yargs parsed these arguments by the very `build` above: they have its type.
    run: (context, args) => spec.run(context, args as ArgumentsCamelCase<T>),
  };
}
