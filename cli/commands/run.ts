/** One prompt to its end: creates a session (or uses one), sends the prompt, streams the answer,
 *  exits with the turn. Ctrl-C interrupts the turn; a second one leaves it to itself. */
import { resolve } from 'node:path';
import type { ApiClient } from '../../api/client.ts';
import { PrxError } from '../../base/errors.ts';
import type { ApproveMode, CreateSession, SessionView } from '../../protocol/resources.ts';
import { type Context, defineCommand } from '../command.ts';
import { sayNotice, showCreated } from '../created.ts';
import { sayNeighbours } from '../neighbours.ts';
import { EXIT } from '../outcome.ts';
import { checkPrompt, readPrompt } from '../prompt-input.ts';
import { watchTurn } from '../watch-turn.ts';

const MODES: readonly ApproveMode[] = ['never', 'ask', 'all'];

interface RunArgs {
  readonly prompt?: readonly string[] | undefined;
  readonly agent?: string | undefined;
  readonly workspace?: string | undefined;
  readonly session?: string | undefined;
  readonly detach: boolean;
  readonly approve?: ApproveMode | undefined;
  readonly idempotencyKey?: string | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('prompt', {
        type: 'string',
        array: true,
        describe: 'What to do; - or nothing reads standard input',
      })
      .option('agent', { type: 'string', requiresArg: true, describe: 'Agent of the config file' })
      .option('workspace', {
        type: 'string',
        requiresArg: true,
        describe: 'Folder to work in (default: this one)',
      })
      .option('session', {
        type: 'string',
        requiresArg: true,
        describe: 'Go on in this session instead of a new one',
      })
      .option('detach', {
        type: 'boolean',
        default: false,
        describe: 'Do not wait for the answer; print the id',
      })
      .option('approve', {
        choices: MODES,
        requiresArg: true,
        describe: 'What needs approval is denied, asked for here, or allowed',
      })
      .option('idempotency-key', {
        type: 'string',
        requiresArg: true,
        describe: 'The same key again means the same run: nothing is done twice',
      })
      .example("prx-supervisor run 'Explain this folder'", 'in the current folder')
      .example('git diff | prx-supervisor run --approve never -', 'the prompt from standard input')
      .example("prx-supervisor run --session @last 'And now?'", 'go on where you were'),
  run: async (context, args) => runPrompt(context, args),
});

async function runPrompt(context: Context, args: RunArgs): Promise<number> {
  checkTogether(args);
  const text = await readText(context, args.prompt ?? []);
  const { mode, answering } = decideMode(context, args.approve);
  const client = context.connect();
  const view = await findOrCreate(client, { args, mode, cwd: context.machine.cwd });
  const key = args.idempotencyKey;
  const input = await client.sendInput(view.id, {
    text,
    ...(key === undefined ? {} : { idempotency_key: key }),
  });
  if (args.detach) {
    showCreated(context, view);
    if (args.session === undefined) await sayNeighbours(context, { client, view });
    return EXIT.done;
  }
  sayNotice(context, view);
  if (!context.quiet && !context.json && context.machine.stderr.isTTY) {
    context.say(context.errorStyle.dim(`session ${view.id} · ${view.agent} · ${view.model}`));
  }
  const watched = watchTurn(context, { client, view, input, mode: answering });
  if (args.session === undefined) {
    await Promise.all([watched, sayNeighbours(context, { client, view, onlyBusy: true })]);
  }
  return watched;
}

function checkTogether(args: RunArgs): void {
  if (args.session === undefined) return;
  for (const name of ['agent', 'workspace'] as const) {
    if (args[name] === undefined) continue;
    const message = `--${name} is fixed when a session is created; leave it out with --session`;
    throw new PrxError('INVALID_REQUEST', message);
  }
}

async function readText(context: Context, words: readonly string[]): Promise<string> {
  const { stdin } = context.machine;
  const text = words.join(' ');
  if (text === '-') return readPrompt(stdin);
  if (words.length > 0) return checkPrompt(text);
  if (stdin.isTTY !== true) return readPrompt(stdin);
  const message = `give a prompt, e.g. ${context.self} run 'What is in this folder?'`;
  throw new PrxError('INVALID_REQUEST', message);
}

interface Approving {
  /** Of a session that is created. */
  readonly mode: ApproveMode;
  /** What this program answers; undefined: it leaves the answer to others. */
  readonly answering: ApproveMode | undefined;
}

/** Nobody can be asked here without a terminal: then what needs approval is denied at once, instead
 *  of waiting for somebody who is not there. Who writes `ask` means that there is somebody. */
function decideMode(context: Context, asked: ApproveMode | undefined): Approving {
  if (asked !== undefined && asked !== 'ask') return { mode: asked, answering: asked };
  const { stdin, stderr } = context.machine;
  if (stdin.isTTY === true && stderr.isTTY === true) return { mode: 'ask', answering: 'ask' };
  if (asked === 'ask') return { mode: 'ask', answering: undefined };
  return { mode: 'never', answering: 'never' };
}

interface Wanted {
  readonly args: RunArgs;
  readonly mode: ApproveMode;
  readonly cwd: string;
}

async function findOrCreate(client: ApiClient, wanted: Wanted): Promise<SessionView> {
  const { args, mode, cwd } = wanted;
  if (args.session !== undefined) return client.getSession(args.session);
  const params: CreateSession = {
    workspace: resolve(cwd, args.workspace ?? '.'),
    approve: mode,
    ...(args.agent === undefined ? {} : { agent: args.agent }),
    ...(args.idempotencyKey === undefined ? {} : { idempotency_key: args.idempotencyKey }),
  };
  return (await client.createSession(params)).view;
}
