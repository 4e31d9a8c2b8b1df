/** One command in the sandbox without a supervisor: finds the policy that a session with this
 *  workspace would have, and the process that carries it out. */
import { z } from 'zod';
import { errorTable, toPrxError } from '../base/errors.ts';
import { sandboxLevels, toAcceptedLevels } from '../protocol/sandbox-levels.ts';
import { type Environment, loadConfig } from './config.ts';
import { type Programs, toHostSpec } from './launch.ts';
import { checkWorkspace, listHomes } from './sessions/workspace.ts';
import { toPolicyAt } from './settings.ts';

const optionsSchema = z.strictObject({
  action: z.enum(['run', 'explain']),
  workspace: z.string(),
  /** Not weaker than `minimum_level`; absent: as configured. */
  level: z.enum(sandboxLevels).optional(),
  command: z.array(z.string()).max(4096).default([]),
  /** Bytes as they come, instead of text with what steers a terminal written out. */
  raw: z.boolean().default(false),
  json: z.boolean().default(false),
  config: z.string().optional(),
  stateDir: z.string().optional(),
});

export interface Become {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** @param text  the order, JSON, from the CLI.
 *  @returns the process to become; or what is wrong and its exit code. Values of the environment
 *  go by the environment: a command line is everybody's to read. */
export function planSandboxMode(
  text: string,
  programs: Programs,
  env: Environment,
): Become | { readonly exit: number; readonly message: string } {
  try {
    const options = optionsSchema.parse(JSON.parse(text));
    const { config } = loadConfig(options, env);
    const workspace = checkWorkspace(options.workspace, {
      stateDir: config.stateDir,
      roots: config.raw.security.sandbox.workspace_roots,
      homes: listHomes(),
    });
    const { backend, minimum_level: minimum } = config.raw.security.sandbox;
    const { action, command, raw, json, level } = options;
    const asked = level ?? backend;
    // The process that carries it out finds out which of them can be had.
    const levels = toAcceptedLevels(asked, minimum);
    const strongest = asked === 'auto' ? 'bubblewrap' : asked;
    const places = { installation: programs.root, env, level: strongest };
    const policy = toPolicyAt(config, workspace, places);
    const { process: host } = toHostSpec(programs, env);
    const order = { policy: { ...policy, env: {} }, command, raw, json, levels, minimum };
    return {
      command: host.command,
      args: [...host.args, `--${action}`, JSON.stringify(order)],
      env: { ...policy.env, ...host.env },
    };
  } catch (error) {
    const { code, message } = toPrxError(error);
    return { exit: errorTable[code].exit, message };
  }
}
