/** A session's log for people: what was said, what was done, what went wrong, with the time. */
import { PrxError } from '../../base/errors.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Context, defineCommand } from '../command.ts';
import { checkNotNegative } from '../numbers.ts';
import { EXIT } from '../outcome.ts';
import { advance, emptyFeed, type FeedState } from '../session/feed.ts';
import { toKnownEvent } from '../session/follow-turn.ts';
import { readHistory } from '../session/history.ts';
import { createPlainWriter, type PlainWriter } from '../session/plain.ts';
import { formatClock, parseDuration } from '../text/format.ts';
import { sanitize } from '../text/width.ts';

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' })
      .option('follow', { alias: 'f', type: 'boolean', default: false, describe: 'Go on live' })
      .option('lines', {
        alias: 'n',
        type: 'number',
        requiresArg: true,
        describe: 'Only the last N lines of what already happened',
      })
      .option('since', {
        type: 'string',
        requiresArg: true,
        describe: 'From a sequence number, a time (RFC 3339), or an age such as 10m',
      })
      .option('stderr', {
        type: 'boolean',
        default: false,
        describe: 'What dead workers last wrote to their standard error',
      }),
  run: async (context, args) => {
    checkNotNegative('lines', args.lines);
    const client = context.connect();
    const view = await client.getSession(args.id);
    const from = parseSince(args.since, context.machine.clock.wallMs());
    const history = await readHistory({ client, sessionId: view.id, since: from.seq });
    const log = createLog(context, { stderrOnly: args.stderr, lineCountMax: args.lines });
    for (const event of history.events) log.addPast(event, Date.parse(event.time) >= from.wallMs);
    log.flushPast();
    if (!args.follow) return EXIT.done;
    const stop = new AbortController();
    const unlisten = context.machine.onInterrupt(() => stop.abort());
    const since = history.resumeFrom;
    const events = client.followEvents(view.id, { since, signal: stop.signal });
    for await (const event of events) log.addLive(event);
    log.finish();
    unlisten();
    return EXIT.done;
  },
});

interface Since {
  readonly seq: number;
  readonly wallMs: number;
}

/** @throws INVALID_REQUEST for what is none of the three forms. */
export function parseSince(text: string | undefined, nowMs: number): Since {
  if (text === undefined) return { seq: 0, wallMs: 0 };
  if (/^\d+$/.test(text)) return { seq: Number(text), wallMs: 0 };
  const age = parseDuration(text);
  if (age !== undefined) return { seq: 0, wallMs: nowMs - age };
  const wallMs = Date.parse(text);
  if (!Number.isNaN(wallMs)) return { seq: 0, wallMs };
  const message = `--since ${text} is no sequence number, time or age; e.g. 120, 10m, 2026-01-31T12:00:00Z`;
  throw new PrxError('INVALID_REQUEST', message, { data: { since: text } });
}

interface LogOptions {
  readonly stderrOnly: boolean;
  readonly lineCountMax: number | undefined;
}

interface Log {
  addPast(event: EventEnvelope, isShown: boolean): void;
  flushPast(): void;
  addLive(event: EventEnvelope): void;
  finish(): void;
}

function createLog(context: Context, options: LogOptions): Log {
  let feed: FeedState = emptyFeed;
  let past = '';
  let isPast = true;
  const write = (text: string): void => {
    if (isPast) past += text;
    else context.machine.stdout.write(text);
  };
  const writer = createPlainWriter({ style: context.style, write, reasoning: false });
  const add = (event: EventEnvelope, isShown: boolean): void => {
    const step = advance(feed, toKnownEvent(event));
    feed = step.state;
    if (!isShown) return;
    if (context.json) {
      write(`${JSON.stringify(event)}\n`);
      return;
    }
    const stamp = context.style.dim(`${formatClock(event.time)} `);
    if (options.stderrOnly) {
      writeStderr(write, event, stamp);
      return;
    }
    for (const piece of step.pieces) writer.write(piece, stamp);
  };
  return {
    addPast: add,
    flushPast: () => {
      finishUnlessJson(context, writer);
      isPast = false;
      context.machine.stdout.write(lastLines(past, options.lineCountMax));
      past = '';
    },
    addLive: (event) => add(event, true),
    finish: () => finishUnlessJson(context, writer),
  };
}

function finishUnlessJson(context: Context, writer: PlainWriter): void {
  if (!context.json) writer.finish();
}

function writeStderr(write: (text: string) => void, envelope: EventEnvelope, stamp: string): void {
  const event = toKnownEvent(envelope);
  if (event.type !== 'worker.exited') return;
  const { generation, cause, stderr_tail: tail } = event.data;
  write(`${stamp}worker ${generation} ended (${cause})\n`);
  for (const line of sanitize(tail).split('\n')) if (line !== '') write(`  ${line}\n`);
}

/** @param count  undefined: all of them. */
export function lastLines(text: string, count: number | undefined): string {
  if (count === undefined) return text;
  if (count <= 0 || text === '') return '';
  const lines = text.replace(/\n$/, '').split('\n');
  return `${lines.slice(-count).join('\n')}\n`;
}
