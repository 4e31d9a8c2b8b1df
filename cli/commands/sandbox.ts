/** One command in the sandbox, exactly as a tool call has it, without a supervisor; or what that
 *  sandbox is. This process becomes the sandbox program, so that a signal or a kill reaches it. */
import { resolve } from 'node:path';
import { PrxError } from '../../base/errors.ts';
import { sandboxLevels } from '../../protocol/sandbox-levels.ts';
import { defineCommand } from '../command.ts';
import { becomeOwnProgram } from '../own-programs.ts';

const ACTIONS = ['run', 'explain'] as const;

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('action', { choices: ACTIONS, demandOption: true, describe: 'What to do' })
      .positional('command', {
        type: 'string',
        array: true,
        describe: 'The program and its arguments; write -- before it',
      })
      .option('workspace', {
        type: 'string',
        requiresArg: true,
        describe: 'The folder it may write to; default: the current one',
      })
      .option('level', {
        choices: sandboxLevels,
        requiresArg: true,
        describe: 'This isolation and no weaker; default: as configured',
      })
      .option('raw', {
        type: 'boolean',
        default: false,
        describe: 'Output byte by byte; else control characters are written out',
      })
      .option('config', { type: 'string', requiresArg: true, describe: 'Config file (TOML)' })
      .example('prx-supervisor sandbox run -- npm test', 'the exit code is that of npm')
      .example('prx-supervisor sandbox explain', 'the level, the mounts, the limits'),
  run: async (context, args) => {
    const { cwd } = context.machine;
    const words = args.command ?? [];
    if (args.action === 'run' && words.length === 0) {
      const message = 'there is no command to run; write it after --, as in: sandbox run -- ls -l';
      throw new PrxError('INVALID_REQUEST', message);
    }
    const order = {
      action: args.action,
      workspace: resolve(cwd, args.workspace ?? '.'),
      command: words,
      raw: args.raw,
      json: context.json,
      ...(args.level === undefined ? {} : { level: args.level }),
      ...(args.config === undefined ? {} : { config: resolve(cwd, args.config) }),
      ...(args.stateDir === undefined ? {} : { stateDir: resolve(cwd, args.stateDir) }),
    };
    return becomeOwnProgram(context.machine, 'policy', [JSON.stringify(order)]);
  },
});
