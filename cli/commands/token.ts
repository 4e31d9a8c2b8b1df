/** Tokens of the TCP door: made, listed and revoked while the supervisor runs. The value of a new
 *  one goes to stdout once, and is kept nowhere. */
import { PrxError } from '../../base/errors.ts';
import type { CreateToken, Scope, TokenView } from '../../protocol/tokens.ts';
import { type Context, defineCommand } from '../command.ts';
import { columnsOf } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { formatAge, parseDuration } from '../text/format.ts';
import { renderTable } from '../text/table.ts';

const ACTIONS = ['create', 'ls', 'revoke'] as const;
const SCOPES = ['read', 'approve', 'operate', 'admin'] as const;

interface CreateArgs {
  readonly name?: string | undefined;
  readonly scope?: readonly Scope[] | undefined;
  readonly expires?: string | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('action', { choices: ACTIONS, demandOption: true, describe: 'What to do' })
      .positional('name', { type: 'string', describe: 'Of the token; revoke needs it' })
      .option('name', { type: 'string', requiresArg: true, describe: 'Name of the new token' })
      .option('scope', {
        choices: SCOPES,
        array: true,
        requiresArg: true,
        describe: 'What it may do; default: read. Each includes those before it',
      })
      .option('expires', {
        type: 'string',
        requiresArg: true,
        describe: 'How long it is valid, as 12h or 30d; default: until it is revoked',
      })
      .example('prx-supervisor token create --name ci --scope operate --expires 30d', '')
      .example('prx-supervisor token create --name phone --scope approve', 'looks and approves')
      .example('prx-supervisor token revoke ci', 'refused at once; its streams end'),
  run: (context, args) => {
    if (args.action === 'create') return create(context, args);
    return args.action === 'ls' ? list(context) : revoke(context, args.name);
  },
});

async function create(context: Context, args: CreateArgs): Promise<number> {
  const params: CreateToken = {
    ...(args.name === undefined ? {} : { name: args.name }),
    ...(args.scope === undefined ? {} : { scopes: [...args.scope] }),
    ...(args.expires === undefined ? {} : { expires_in_secs: toSeconds(args.expires) }),
  };
  const created = await context.connect().createToken(params);
  if (context.json) {
    context.printJson(created);
    return EXIT.done;
  }
  context.print(created.token);
  if (!context.quiet) {
    const until = created.expires_at === undefined ? '' : `, until ${created.expires_at}`;
    context.say(`token '${created.name}' (${created.scopes.join(', ')}${until})`);
    context.say('it is shown this once: keep it where secrets are kept');
  }
  return EXIT.done;
}

function toSeconds(text: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined && ms >= 1000) return Math.floor(ms / 1000);
  throw new PrxError('INVALID_REQUEST', `--expires is '${text}'; write a time as 12h or 30d`);
}

async function list(context: Context): Promise<number> {
  const tokens = await context.connect().listTokens();
  if (context.json) context.printJson(tokens);
  else if (context.quiet) for (const { name } of tokens) context.print(name);
  else for (const line of renderTokens(context, tokens)) context.print(line);
  return EXIT.done;
}

function renderTokens(context: Context, tokens: readonly TokenView[]): string[] {
  const { machine, style, plain } = context;
  const nowMs = machine.clock.wallMs();
  const ago = (stamp: string | undefined): string =>
    stamp === undefined ? '-' : formatAge(nowMs - Date.parse(stamp));
  const rows = tokens.map((token) => [
    token.name,
    token.scopes.join(','),
    token.source,
    token.is_expired ? 'expired' : toLeft(token, nowMs),
    ago(token.last_used_at),
    token.fingerprint,
  ]);
  const titles = ['NAME', 'SCOPES', 'SOURCE', 'EXPIRES IN', 'USED AGO', 'FINGERPRINT'];
  const columns = titles.map((title) => ({ title, flexible: title === 'NAME' }));
  const width = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
  return renderTable(columns, rows, { layout: plain ? 'labelled' : 'columns', width, style });
}

function toLeft({ expires_at: expires }: TokenView, nowMs: number): string {
  return expires === undefined ? 'never' : formatAge(Date.parse(expires) - nowMs);
}

async function revoke(context: Context, name: string | undefined): Promise<number> {
  if (name === undefined) {
    const message = `say which: ${context.self} token revoke NAME; they are listed by token ls`;
    throw new PrxError('INVALID_REQUEST', message);
  }
  await context.connect().revokeToken(name);
  if (context.json) context.printJson({ name, revoked: true });
  else if (!context.quiet) context.print(`revoked ${name}`);
  return EXIT.done;
}
