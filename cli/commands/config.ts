/** Checks the configuration, or shows every value with where it comes from. The supervisor's own
 *  program reads it, so that what is checked is what would be used. */
import { resolve } from 'node:path';
import { PrxError } from '../../base/errors.ts';
import { type Context, defineCommand } from '../command.ts';
import { columnsOf } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { runOwnProgram } from '../own-programs.ts';
import { renderTable } from '../text/table.ts';
import { sanitize } from '../text/width.ts';

const TIMEOUT_MS = 20_000;
const ACTIONS = ['check', 'show'] as const;

interface ConfigAnswer {
  readonly ok: boolean;
  readonly file?: string | undefined;
  readonly values?: readonly { key: string; value: unknown; source: string }[];
  readonly error?: unknown;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('action', { choices: ACTIONS, demandOption: true, describe: 'What to do' })
      .option('config', { type: 'string', requiresArg: true, describe: 'Config file (TOML)' })
      .example('prx-supervisor config check', 'exit 78 when it is not valid')
      .example('prx-supervisor config show --json', 'every value and its source'),
  run: async (context, args) => {
    const { cwd } = context.machine;
    const isShow = args.action === 'show';
    const answer = await readConfig(context, {
      mode: 'config',
      show: isShow,
      ...(args.config === undefined ? {} : { config: resolve(cwd, args.config) }),
      ...(args.stateDir === undefined ? {} : { stateDir: resolve(cwd, args.stateDir) }),
    });
    const exit = answer.ok ? EXIT.done : EXIT.config;
    if (context.json) {
      context.printJson(answer);
      return exit;
    }
    if (!answer.ok) {
      context.say(`${context.errorStyle.red('not valid:')} ${sanitize(toMessage(answer.error))}`);
      return exit;
    }
    if (isShow) for (const line of renderValues(context, answer)) context.print(line);
    else if (!context.quiet) context.print(`valid: ${describeFile(answer)}`);
    return exit;
  },
});

async function readConfig(context: Context, options: unknown): Promise<ConfigAnswer> {
  const output = await runOwnProgram(context.machine, {
    program: 'supervisor',
    args: [JSON.stringify(options)],
    timeoutMs: TIMEOUT_MS,
  });
  // The last line: whatever else a program may say comes before its answer.
  const answer = parseAnswer(output.stdout.trim().split('\n').at(-1) ?? '');
  if (answer !== undefined) return answer;
  const said = sanitize(output.stderr).trim().slice(-2000);
  throw new PrxError('INTERNAL', `the configuration could not be read: ${said || 'no answer'}`);
}

/** Our own program of the same version answers: the shape is checked as far as it is used. */
function parseAnswer(text: string): ConfigAnswer | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || !('ok' in value)) return undefined;
    return value as ConfigAnswer;
  } catch {
    return undefined; // Not an answer; the caller says what was there instead.
  }
}

function toMessage(error: unknown): string {
  if (typeof error === 'string') return error;
  if (typeof error === 'object' && error !== null && 'message' in error) {
    return String(error.message);
  }
  return JSON.stringify(error) ?? 'unknown error';
}

function describeFile(answer: ConfigAnswer): string {
  return answer.file ?? 'no config file; built-in defaults and environment';
}

function renderValues(context: Context, answer: ConfigAnswer): string[] {
  const { machine, style, plain } = context;
  const width = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
  const rows = (answer.values ?? []).map(({ key, value, source }) => [
    key,
    JSON.stringify(value) ?? '-',
    source,
  ]);
  const columns = [{ title: 'KEY' }, { title: 'VALUE', flexible: true }, { title: 'SOURCE' }];
  context.say(`file: ${describeFile(answer)}`);
  return renderTable(columns, rows, { layout: plain ? 'labelled' : 'columns', width, style });
}
