/** Checks this machine: what works, what does not, and the mend of each. Exit 1 when a check
 *  fails; a warning alone is no failure. */
import { isPrxError, toPrxError } from '../../base/errors.ts';
import type { StatusView } from '../../protocol/resources.ts';
import { type Context, defineCommand } from '../command.ts';
import { type Check, type CheckStatus, toOverall } from '../doctor/check.ts';
import { checkCgroups, checkLimits } from '../doctor/limit-checks.ts';
import { checkDisk, checkNode, checkSocket, checkStateDir } from '../doctor/machine-checks.ts';
import {
  checkBudget,
  checkConfig,
  checkHealth,
  checkProvider,
  checkSandbox,
  checkServers,
  checkToolFiles,
} from '../doctor/service-checks.ts';
import { EXIT } from '../outcome.ts';
import { sanitize } from '../text/width.ts';

const SCHEMA_VERSION = 1;

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .option('config', { type: 'string', requiresArg: true, describe: 'Config file (TOML)' })
      .option('fix', {
        type: 'boolean',
        default: false,
        describe: 'End processes and remove files that earlier supervisors left',
      }),
  run: async (context, args) => {
    // First, so that the checks see what it mended.
    const fixed = args.fix ? [await sweep(context)] : [];
    const found = await runChecks(context, {
      ...(args.config === undefined ? {} : { config: args.config }),
      ...(args.stateDir === undefined ? {} : { stateDir: args.stateDir }),
    });
    const checks = [...found, ...fixed];
    const overall = toOverall(checks);
    if (context.json) context.printJson(toReport(checks, overall));
    else for (const line of renderChecks(context, checks)) context.print(line);
    return overall === 'fail' ? EXIT.failed : EXIT.done;
  },
});

/** The running supervisor does it: it alone knows which processes are its own. */
async function sweep(context: Context): Promise<Check> {
  const place = { id: 'leftovers', category: 'supervisor' } as const;
  try {
    const { killed, removed } = await context.connect().sweep();
    const processes = killed.map(({ kind, pid }) => `ended the ${kind} process ${pid}`);
    const files = removed.map((path) => `removed ${path}`);
    const summary = [...processes, ...files].join('\n');
    const details = { killed, removed };
    return { ...place, status: 'ok', summary: summary || 'nothing was left over', details };
  } catch (error) {
    const isNobody = isPrxError(error, 'NOT_RUNNING');
    const { message } = toPrxError(error);
    const summary = isNobody ? 'nothing was mended: no supervisor is running' : message;
    const mend = `start one (it does this first): ${context.self} start --detach`;
    return { ...place, status: isNobody ? 'warn' : 'fail', summary, ...(isNobody && { mend }) };
  }
}

async function runChecks(
  context: Context,
  options: Readonly<Record<string, unknown>>,
): Promise<readonly Check[]> {
  const { door, machine, self } = context;
  const { status, failure } = await askStatus(context);
  const local: Check[] = [];
  if (door.kind === 'socket') {
    local.push(checkStateDir(door.stateDir, process.getuid?.()));
    local.push(checkDisk(door.stateDir));
    local.push(checkCgroups(status?.memory_enforcement), checkLimits());
    local.push(checkSocket(door.socketPath, status !== undefined, `${self} start --detach`));
  }
  if (failure !== undefined) {
    local.push({ id: 'socket', category: 'supervisor', status: 'fail', summary: failure });
  }
  const [config, sandbox] = await Promise.all([
    checkConfig(machine, options),
    checkSandbox(machine, status),
  ]);
  return [
    checkNode(process.version),
    ...local,
    ...(status === undefined
      ? []
      : [checkHealth(status), ...checkServers(status), ...checkToolFiles(status)]),
    config.check,
    checkProvider(config.find, machine.env),
    ...checkBudget(config.find),
    sandbox,
  ];
}

interface Asked {
  readonly status?: StatusView;
  /** Why nobody could be asked, unless simply nobody runs. */
  readonly failure?: string;
}

async function askStatus(context: Context): Promise<Asked> {
  try {
    return { status: await context.connect().getStatus() };
  } catch (error) {
    if (isPrxError(error, 'NOT_RUNNING') && context.door.kind === 'socket') return {};
    return { failure: toPrxError(error).message };
  }
}

function toReport(checks: readonly Check[], overallStatus: CheckStatus) {
  const entries = checks.map(({ id, ...check }) => [id, check]);
  return { schemaVersion: SCHEMA_VERSION, overallStatus, checks: Object.fromEntries(entries) };
}

export function renderChecks(
  context: Pick<Context, 'style' | 'plain'>,
  checks: readonly Check[],
): string[] {
  const { style, plain } = context;
  const marks: Readonly<Record<CheckStatus, string>> = {
    ok: style.green('✓ ok  '),
    warn: style.yellow('! warn'),
    fail: style.red('✗ fail'),
  };
  return checks.flatMap((check) => {
    const mark = plain ? `${check.status}:` : marks[check.status];
    const [first = '', ...rest] = sanitize(check.summary).split('\n');
    const lines = [`${mark} ${style.bold(check.id)}: ${first}`, ...rest.map((one) => `    ${one}`)];
    if (check.mend !== undefined) lines.push(`    mend: ${sanitize(check.mend)}`);
    return lines;
  });
}
