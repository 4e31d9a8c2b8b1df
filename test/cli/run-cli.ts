/** Runs a command line to its end against a fake supervisor. */
import { runProgram } from '../../cli/program.ts';
import type { FakeApi } from './fake-api.ts';
import { createFakeMachine, type FakeMachine, type FakeOptions } from './fake-machine.ts';

export interface CliRun {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

export interface StartedCli {
  readonly machine: FakeMachine;
  readonly done: Promise<CliRun>;
}

export function startCli(
  api: Pick<FakeApi, 'stateDir'>,
  argv: readonly string[],
  options: FakeOptions = {},
): StartedCli {
  const env = { PRX_STATE_DIR: api.stateDir, HOME: api.stateDir, ...options.env };
  const machine = createFakeMachine({ ...options, env });
  const done = runProgram(argv, machine).then((exit) => ({
    exit,
    out: machine.stdout.text,
    err: machine.stderr.text,
  }));
  return { machine, done };
}

export function runCli(
  api: Pick<FakeApi, 'stateDir'>,
  argv: readonly string[],
  options: FakeOptions = {},
): Promise<CliRun> {
  return startCli(api, argv, options).done;
}
