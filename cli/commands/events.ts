/** The journal's events, of one session or of all: JSON lines for programs, one readable line each
 *  on a terminal. */
import type { ApiClient } from '../../api/client.ts';
import { PrxError } from '../../base/errors.ts';
import { findNearest } from '../../base/nearest.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Context, defineCommand } from '../command.ts';
import { columnsOf } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { findFirst, pageEvents } from '../session/history.ts';
import { formatClock, toShortId } from '../text/format.ts';
import { padEnd, padStart, sanitizeLine, truncate } from '../text/width.ts';

const TYPE_COLUMNS = 20;
const SEQ_COLUMNS = 6;

interface EventsArgs {
  readonly id?: string | undefined;
  readonly follow: boolean;
  readonly since?: string | undefined;
  readonly type?: readonly string[] | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', {
        type: 'string',
        describe: 'Id, name, @last, or system; all sessions without one',
      })
      .option('follow', { alias: 'f', type: 'boolean', default: false, describe: 'Go on live' })
      .option('since', {
        type: 'string',
        requiresArg: true,
        describe: 'Behind this sequence number (without an id: behind this cursor)',
      })
      .option('type', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe: 'Only events of this type, such as tool.completed (repeatable)',
      })
      .example('prx-supervisor events @last --type turn.completed --json', ''),
  run: async (context, args) => {
    await checkTypes(args.type?.flatMap((type) => type.split(',')) ?? []);
    const stop = new AbortController();
    const unlisten = context.machine.onInterrupt(() => stop.abort());
    for await (const event of readEvents(context, args, stop.signal)) {
      if (stop.signal.aborted) break;
      showEvent(context, event, args.id === undefined);
    }
    unlisten();
    return EXIT.done;
  },
});

/** A mistyped one would be waited for in vain. @throws INVALID_REQUEST, naming the nearest. */
async function checkTypes(types: readonly string[]): Promise<void> {
  if (types.length === 0) return;
  const { eventTable } = await import('../../protocol/events.ts');
  const known = Object.keys(eventTable);
  const unknown = types.find((type) => !known.includes(type));
  if (unknown === undefined) return;
  const nearest = findNearest(unknown, known);
  const hint =
    nearest === undefined ? `there are: ${known.join(' ')}` : `did you mean '${nearest}'?`;
  throw new PrxError('INVALID_REQUEST', `there is no event type '${unknown}'; ${hint}`);
}

function readEvents(
  context: Context,
  args: EventsArgs,
  signal: AbortSignal,
): AsyncIterable<EventEnvelope> {
  if (args.id === undefined) return readAll(context, args, signal);
  const client = context.connect();
  const since = parseSeq(args.since);
  const types = args.type === undefined ? {} : { types: args.type.flatMap((t) => t.split(',')) };
  if (args.follow) return followFrom(client, args.id, { since, signal, ...types });
  return pageEvents({ client, sessionId: args.id, since, ...types });
}

async function* followFrom(
  client: ApiClient,
  id: string,
  options: { readonly since: number; readonly signal: AbortSignal },
): AsyncGenerator<EventEnvelope> {
  const since = options.since > 0 ? options.since : await findFirst(client, id);
  yield* client.followEvents(id, { ...options, since });
}

async function* readAll(
  context: Context,
  args: EventsArgs,
  signal: AbortSignal,
): AsyncGenerator<EventEnvelope> {
  if (args.since !== undefined && /^\d+$/.test(args.since)) {
    const message =
      `--since ${args.since} is a sequence number, which counts in one session: name it, as in ` +
      `events @last --since ${args.since}. All together take a cursor of GET /api/v1/events`;
    throw new PrxError('INVALID_REQUEST', message, { data: { since: args.since } });
  }
  const client = context.connect();
  const types = args.type?.flatMap((type) => type.split(','));
  const wants = (event: EventEnvelope): boolean => types?.includes(event.type) ?? true;
  let cursor = args.since;
  const position = (): { cursor?: string } => (cursor === undefined ? {} : { cursor });
  if (args.follow) {
    for await (const { event } of client.followAllEvents({ ...position(), signal })) {
      if (wants(event)) yield event;
    }
    return;
  }
  for (;;) {
    const page = await client.readAllEvents(position());
    if (page.events.length === 0 || signal.aborted) return;
    yield* page.events.filter(wants);
    cursor = page.cursor;
  }
}

function parseSeq(text: string | undefined): number {
  if (text === undefined) return 0;
  if (/^\d+$/.test(text)) return Number(text);
  const message = `--since ${text} is no sequence number; give the seq of the last event you have`;
  throw new PrxError('INVALID_REQUEST', message, { data: { since: text } });
}

function showEvent(context: Context, event: EventEnvelope, isOfAll: boolean): void {
  const { stdout } = context.machine;
  if (context.json || stdout.isTTY !== true) {
    context.printJson(event);
    return;
  }
  context.print(toEventLine(context, event, { isOfAll, columns: columnsOf(stdout) }));
}

interface LineOptions {
  readonly isOfAll: boolean;
  readonly columns: number;
}

export function toEventLine(
  context: Pick<Context, 'style' | 'plain'>,
  event: EventEnvelope,
  { isOfAll, columns }: LineOptions,
): string {
  const { style } = context;
  const data = sanitizeLine(JSON.stringify(event.data) ?? '');
  const session = isOfAll ? `${padEnd(toShortId(event.session), 8)} ` : '';
  if (context.plain) return `${session}seq: ${event.seq}, ${event.type}: ${data}`;
  const head = `${session}${padStart(String(event.seq), SEQ_COLUMNS)} ${formatClock(event.time)} `;
  const type = padEnd(event.type, TYPE_COLUMNS);
  const room = columns - head.length - type.length - 2;
  return `${style.dim(head)}${style.cyan(type)} ${truncate(data, Math.max(20, room))}`;
}
