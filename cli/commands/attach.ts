/** A live terminal on a session. Leaving it never ends the session; exit 0 either way. */
import { PrxError } from '../../base/errors.ts';
import type { AttachEnd, Attachment } from '../attach/attachment.ts';
import { DETACH_DEFAULT, parseDetachKeys } from '../attach/keys.ts';
import { type Context, defineCommand } from '../command.ts';
import { sayNotice } from '../created.ts';
import { EXIT } from '../outcome.ts';
import { readHistory } from '../session/history.ts';
import { toName } from '../session-action.ts';
import { toShortId } from '../text/format.ts';
import { sanitize } from '../text/width.ts';

interface AttachArgs {
  readonly id: string;
  readonly since?: number | undefined;
  readonly readOnly: boolean;
  readonly detachKeys?: string | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' })
      .option('since', {
        type: 'number',
        requiresArg: true,
        describe: 'Show only what came behind this sequence number',
      })
      .option('read-only', {
        type: 'boolean',
        default: false,
        describe: 'Only look: no input, no approvals, no interrupt',
      })
      .option('detach-keys', {
        type: 'string',
        requiresArg: true,
        describe: 'Other keys to leave with, such as ctrl-x,ctrl-d',
      })
      .example('prx-supervisor attach @last', 'Ctrl-P Ctrl-Q, Ctrl-B d or Ctrl-D leaves it'),
  run: async (context, args) => {
    const attachment = await prepare(context, args);
    const end = await run(attachment);
    sayEnd(attachment, end);
    return EXIT.done;
  },
});

async function prepare(context: Context, args: AttachArgs): Promise<Attachment> {
  const detachKeys = readDetachKeys(args.detachKeys);
  const client = context.connect();
  const view = await client.getSession(args.id);
  const since = args.since ?? 0;
  const history = await readHistory({ client, sessionId: view.id, since });
  const { dim } = context.errorStyle;
  const where = sanitize(view.workspace);
  if (!context.json) {
    context.say(dim(`${toName(view)} · ${view.agent} · ${sanitize(view.model)} · ${where}`));
    sayNotice(context, view);
  }
  return {
    context,
    client,
    view,
    history: history.events,
    resumeFrom: history.resumeFrom,
    readOnly: args.readOnly,
    detachKeys,
  };
}

function readDetachKeys(text: string | undefined): readonly (readonly string[])[] {
  if (text === undefined) return DETACH_DEFAULT;
  const keys = parseDetachKeys(text);
  if (keys !== undefined) return [keys];
  const message = `--detach-keys ${text} is not understood; write them as ctrl-p,ctrl-q`;
  throw new PrxError('INVALID_REQUEST', message, { data: { detach_keys: text } });
}

/** The renderer of the live terminal is loaded only where there is one. */
async function run(attachment: Attachment): Promise<AttachEnd> {
  const { context } = attachment;
  const { stdin, stdout, env } = context.machine;
  if (context.json) return printEvents(attachment);
  const isLive = stdin.isTTY === true && stdout.isTTY === true && env['TERM'] !== 'dumb';
  if (isLive && !context.plain) {
    const { runRich } = await import('../attach/rich.ts');
    return runRich(attachment);
  }
  const { runFlat } = await import('../attach/flat.ts');
  return runFlat(attachment);
}

async function printEvents(attachment: Attachment): Promise<AttachEnd> {
  const { context, client, view, history, resumeFrom } = attachment;
  const stop = new AbortController();
  const unlisten = context.machine.onInterrupt(() => stop.abort());
  for (const event of history) context.printJson(event);
  const { signal } = stop;
  for await (const event of client.followEvents(view.id, { since: resumeFrom, signal })) {
    context.printJson(event);
  }
  unlisten();
  return 'detached';
}

function sayEnd({ context, view }: Attachment, end: AttachEnd): void {
  if (context.quiet || context.json) return;
  const id = view.name ?? toShortId(view.id);
  const { self } = context;
  if (end === 'ended')
    context.say(`the session has ended; open it again with: ${self} restart ${id}`);
  else context.say(`detached; the session goes on: ${self} attach ${id}`);
}
