/** The vault: set, list, remove, or a new key. The supervisor's own program does it, running or
 *  not; a value goes there by a pipe, never by an argument or the environment. */
import { resolve } from 'node:path';
import { PrxError } from '../../base/errors.ts';
import { type Context, defineCommand } from '../command.ts';
import { readHiddenLine } from '../hidden-line.ts';
import { columnsOf } from '../machine.ts';
import { toError } from '../offline-journal.ts';
import { EXIT } from '../outcome.ts';
import { runOwnProgram } from '../own-programs.ts';
import { parseDuration } from '../text/format.ts';
import { renderTable } from '../text/table.ts';
import { sanitize } from '../text/width.ts';

const ACTIONS = ['set', 'ls', 'rm', 'rotate'] as const;
const TIMEOUT_MS = 30_000;
const VALUE_BYTES_MAX = 64 * 1024;

interface SecretView {
  readonly name: string;
  readonly agents: readonly string[];
  readonly created_at: string;
  readonly expires_at?: string;
  readonly expired: boolean;
}

interface Answer {
  readonly ok: boolean;
  readonly error?: unknown;
  readonly secret?: SecretView;
  readonly secrets?: readonly SecretView[];
  readonly rotated?: number;
}

interface SecretArgs {
  readonly action: (typeof ACTIONS)[number];
  readonly name?: string | undefined;
  readonly agent?: readonly string[] | undefined;
  readonly ttl?: string | undefined;
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('action', { choices: ACTIONS, demandOption: true, describe: 'What to do' })
      .positional('name', { type: 'string', describe: 'Of the secret (set, rm)' })
      .option('agent', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe: 'set: only for this agent (may be repeated); default: for all',
      })
      .option('ttl', {
        type: 'string',
        requiresArg: true,
        describe: 'set: how long it is valid, such as 12h or 30d; default: for ever',
      })
      .option('config', { type: 'string', requiresArg: true, describe: 'Config file (TOML)' })
      .example('prx-supervisor secret set NPM_TOKEN', 'asks for the value, unseen')
      .example('prx-supervisor secret set NPM_TOKEN --ttl 30d < token', '')
      .example('prx-supervisor secret rotate', 'a new key for the vault'),
  run: async (context, args: SecretArgs) => {
    const name = checkName(args);
    const input = args.action === 'set' ? await readValue(context, name ?? '') : undefined;
    const answer = await ask(context, toRequest(context, args), input);
    if (context.json) context.printJson(answer.secrets ?? answer.secret ?? answer);
    else report(context, args, answer);
    return EXIT.done;
  },
});

function checkName({ action, name }: SecretArgs): string | undefined {
  const needs = action === 'set' || action === 'rm';
  if (needs === (name !== undefined)) return name;
  const message = needs ? `secret ${action} needs a NAME` : `secret ${action} takes no NAME`;
  throw new PrxError('INVALID_REQUEST', message);
}

/** From a pipe as it is, from a terminal one unseen line. */
async function readValue({ machine }: Context, name: string): Promise<Buffer> {
  const { stdin } = machine;
  if (stdin.isTTY === true) return Buffer.from(await readHiddenLine(machine, `value of ${name}: `));
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    length += bytes.length;
    // One more for the line end, which is not part of it.
    if (length > VALUE_BYTES_MAX + 2) {
      throw new PrxError('PAYLOAD_TOO_LARGE', `a secret has at most ${VALUE_BYTES_MAX} bytes`);
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}

function toRequest({ door, machine }: Context, args: SecretArgs): Record<string, unknown> {
  if (door.kind === 'url') {
    const message = 'the vault is a file of this machine; leave out --url, or run it there';
    throw new PrxError('INVALID_REQUEST', message);
  }
  const { action, name, agent, ttl, config } = args;
  return {
    mode: 'secret',
    action,
    ...(args.stateDir === undefined ? {} : { stateDir: resolve(machine.cwd, args.stateDir) }),
    ...(config === undefined ? {} : { config: resolve(machine.cwd, config) }),
    ...(name === undefined ? {} : { name }),
    ...(agent === undefined ? {} : { agents: agent }),
    ...(ttl === undefined ? {} : { ttlMs: toTtlMs(ttl) }),
  };
}

function toTtlMs(text: string): number {
  const ttlMs = parseDuration(text);
  if (ttlMs !== undefined && ttlMs > 0) return ttlMs;
  throw new PrxError('INVALID_REQUEST', `--ttl ${text}: write it as 30m, 12h or 30d`);
}

async function ask(context: Context, request: unknown, input?: Buffer): Promise<Answer> {
  const output = await runOwnProgram(context.machine, {
    program: 'supervisor',
    args: [JSON.stringify(request)],
    timeoutMs: TIMEOUT_MS,
    ...(input === undefined ? {} : { input }),
  });
  const answer = parseAnswer(output.stdout.trim().split('\n').at(-1) ?? '');
  if (answer?.ok === true) return answer;
  if (answer !== undefined) throw toError(answer);
  const said = sanitize(output.stderr).trim().slice(-2000);
  throw new PrxError('INTERNAL', `the vault could not be reached: ${said || 'no answer'}`);
}

/** Our own program of the same version answers: the shape is checked as far as it is used. */
function parseAnswer(text: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && 'ok' in value
      ? (value as Answer)
      : undefined;
  } catch {
    return undefined; // Not an answer; the caller says what was there instead.
  }
}

function report(context: Context, { action, name }: SecretArgs, answer: Answer): void {
  if (action === 'ls') {
    for (const line of renderSecrets(context, answer.secrets ?? [])) context.print(line);
  } else if (context.quiet) return;
  else if (action === 'rotate') {
    context.print(`a new vault key; ${answer.rotated ?? 0} secrets encrypted anew`);
  } else context.print(action === 'set' ? `${name} is set` : `${name} is removed`);
}

function renderSecrets({ machine, plain, style }: Context, views: readonly SecretView[]): string[] {
  const width = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
  const rows = views.map(({ name, agents, created_at, expires_at, expired }) => [
    name,
    agents.length === 0 ? 'all' : agents.join(', '),
    created_at,
    expired ? `expired ${expires_at}` : (expires_at ?? 'never'),
  ]);
  const columns = [
    ...[{ title: 'NAME' }, { title: 'AGENTS', flexible: true }],
    ...[{ title: 'SET' }, { title: 'EXPIRES' }],
  ];
  return renderTable(columns, rows, { layout: plain ? 'labelled' : 'columns', width, style });
}
