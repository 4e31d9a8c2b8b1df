/** The systemd unit of this installation: printed, or put where systemd finds it. Nothing is
 *  enabled or started: the commands for that are shown. */
import { join, resolve } from 'node:path';
import { PrxError } from '../../base/errors.ts';
import { findUserName, homeOf } from '../../base/home.ts';
import { type Context, defineCommand } from '../command.ts';
import { quoteArgument } from '../locate.ts';
import { PROGRAM } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { findProgram, toNodeArgs } from '../own-programs.ts';
import { installUnit } from '../service/install.ts';
import { findSystemdVersion, toUnitFolder } from '../service/systemd.ts';
import { renderUnit, type Scope, UNIT_NAME, type UnitOptions } from '../service/unit.ts';

const ACTIONS = ['print', 'install'] as const;
const SYSTEM_STATE_DIR = '/var/lib/prx-supervisor';

interface ServiceArgs {
  readonly user: boolean;
  readonly system: boolean;
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
  readonly runAs?: string | undefined;
  readonly systemdVersion?: number | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('action', { choices: ACTIONS, demandOption: true, describe: 'What to do' })
      .option('user', {
        type: 'boolean',
        default: false,
        describe: 'Run by your own systemd (the default, except for root)',
      })
      .option('system', {
        type: 'boolean',
        default: false,
        describe: "Run by the machine's systemd",
      })
      .option('config', { type: 'string', requiresArg: true, describe: 'Config file (TOML)' })
      .option('run-as', {
        type: 'string',
        requiresArg: true,
        describe: 'With --system: the user it runs as (default: the one who called sudo)',
      })
      .option('dir', {
        type: 'string',
        requiresArg: true,
        describe: 'With install: put it there instead, e.g. to make a package',
      })
      .option('force', { type: 'boolean', default: false, describe: 'Replace a different unit' })
      .option('systemd-version', {
        type: 'number',
        requiresArg: true,
        describe: 'Write for this systemd instead of the one found here',
      })
      .example('prx-supervisor service print --user', 'look at it first')
      .example('sudo prx-supervisor service install --system', ''),
  run: async (context, args) => {
    const options = await toUnitOptions(context, args);
    const text = renderUnit(options);
    if (args.action === 'print') {
      if (context.json) context.printJson({ name: UNIT_NAME, scope: options.scope, text });
      else context.print(text.trimEnd());
      return EXIT.done;
    }
    const { env, cwd } = context.machine;
    const own = toUnitFolder(options.scope, env, homeOf(env));
    const file = join(args.dir === undefined ? own : resolve(cwd, args.dir), UNIT_NAME);
    const done = installUnit({ file, text, force: args.force });
    const next = toNextCommands(options);
    if (context.json) context.printJson({ file, result: done, next });
    else context.print(context.quiet ? file : `${done}: ${file}`);
    if (context.json || context.quiet) return EXIT.done;
    if (options.runAs === 'root') {
      context.say('note: it will run as root; --run-as NAME takes a user of its own');
    }
    context.say('next:');
    for (const line of next) context.say(`  ${line}`);
    return EXIT.done;
  },
});

async function toUnitOptions(context: Context, args: ServiceArgs): Promise<UnitOptions> {
  const { machine } = context;
  const { env, cwd } = machine;
  const scope = toScope(args);
  const config = args.config ?? env['PRX_CONFIG'];
  const asked = args.stateDir ?? env['PRX_STATE_DIR'];
  const stateDir = asked || (scope === 'system' ? SYSTEM_STATE_DIR : undefined);
  return {
    scope,
    program: [machine.node.path, ...toNodeArgs(machine, findProgram('cli'))],
    config: config ? resolve(cwd, config) : undefined,
    stateDir: stateDir === undefined ? undefined : resolve(cwd, stateDir),
    runAs: toRunAs(scope, args.runAs, env['SUDO_USER']),
    version: args.systemdVersion ?? (await findSystemdVersion(machine)),
  };
}

function toScope({ user, system }: ServiceArgs): Scope {
  if (user && system) throw new PrxError('INVALID_REQUEST', 'give either --user or --system');
  if (user) return 'user';
  return system || process.getuid?.() === 0 ? 'system' : 'user';
}

function toRunAs(scope: Scope, asked: string | undefined, caller: string | undefined) {
  if (scope === 'user') {
    if (asked === undefined) return undefined;
    throw new PrxError(
      'INVALID_REQUEST',
      "--run-as is for --system; a user's unit runs as the user",
    );
  }
  const name = asked ?? (caller || findUserName());
  if (name === undefined) {
    throw new PrxError('INVALID_REQUEST', 'this user has no name; say whom with --run-as NAME');
  }
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$/.test(name)) return name;
  throw new PrxError('INVALID_REQUEST', `--run-as ${name} is no name of a user`);
}

function toNextCommands({ scope, runAs, stateDir }: UnitOptions): string[] {
  if (scope === 'user') {
    return [
      'systemctl --user daemon-reload',
      `systemctl --user enable --now ${UNIT_NAME}`,
      'loginctl enable-linger          # it also runs while you are not logged in',
      `journalctl --user -u ${UNIT_NAME} -f`,
    ];
  }
  const place = stateDir === undefined ? '' : ` --state-dir ${quoteArgument(stateDir)}`;
  return [
    'systemctl daemon-reload',
    `systemctl enable --now ${UNIT_NAME}`,
    `journalctl -u ${UNIT_NAME} -f`,
    `sudo -u ${runAs ?? 'root'} ${PROGRAM} status${place}`,
  ];
}
