/** Attached without a live region: labelled lines one after the other. For pipes, and for people
 *  who read by ear (--plain): then the native line editing of the terminal takes the input, and
 *  only whole lines are printed above it. */
import { createInterface, emitKeypressEvents, type Interface } from 'node:readline';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { Context } from '../command.ts';
import { advance, emptyFeed, type FeedState } from '../session/feed.ts';
import { toKnownEvent } from '../session/follow-turn.ts';
import { createPlainWriter, type PlainWriter } from '../session/plain.ts';
import { type AttachEnd, type Attachment, toDetachHint } from './attachment.ts';
import { type Key, matchDetach } from './keys.ts';
import { createLink, type SessionLink } from './link.ts';
import { parseSlash, SLASH_HELP } from './slash.ts';
import { isEnd } from './view.ts';

const PROMPT = 'input> ';
const CLEAR_LINE = '\r\u001b[K';

export async function runFlat(attachment: Attachment): Promise<AttachEnd> {
  const { context, client, view, resumeFrom } = attachment;
  const { stdin, stdout } = context.machine;
  const isInteractive = stdin.isTTY === true && stdout.isTTY === true;
  const stop = new AbortController();
  const unlisten = context.machine.onInterrupt(() => stop.abort());
  const input = isInteractive ? openInput(attachment, () => stop.abort()) : undefined;
  const output = createFlatOutput(context, input);
  let feed: FeedState = emptyFeed;
  const show = (event: EventEnvelope): void => {
    const step = advance(feed, toKnownEvent(event));
    feed = step.state;
    for (const piece of step.pieces) output.writer.write(piece);
  };
  try {
    for (const event of attachment.history) show(event);
    if (isEnd(view.state)) return 'ended';
    if (isInteractive) {
      const hint = `${toDetachHint(attachment.detachKeys)}, Ctrl-D too; /help lists commands`;
      output.line(`status: attached, ${hint}`);
    }
    const events = client.followEvents(view.id, {
      since: resumeFrom,
      signal: stop.signal,
      onConnection: (news) => {
        if (news.kind === 'lost') context.say('status: the supervisor is away, reconnecting');
      },
    });
    for await (const event of events) {
      show(event);
      if (isEnd(feed.state)) return 'ended';
    }
    return 'detached';
  } finally {
    output.writer.finish();
    input?.close();
    unlisten();
  }
}

interface FlatOutput {
  readonly writer: PlainWriter;
  line(text: string): void;
}

/** With an input line on screen only whole lines are printed, above it. */
function createFlatOutput(context: Context, input: Interface | undefined): FlatOutput {
  const { stdout } = context.machine;
  let held = '';
  const write = (text: string): void => {
    if (input === undefined) {
      stdout.write(text);
      return;
    }
    held += text;
    const end = held.lastIndexOf('\n') + 1;
    if (end === 0) return;
    stdout.write(CLEAR_LINE + held.slice(0, end));
    held = held.slice(end);
    input.prompt(true);
  };
  const writer = createPlainWriter({ style: context.style, write });
  return { writer, line: (text) => write(`${text}\n`) };
}

function openInput(attachment: Attachment, detach: () => void): Interface {
  const { context, client, view, readOnly } = attachment;
  const { stdin, stdout } = context.machine;
  // The machine's streams are the terminal's: node:readline types ask for the concrete classes.
  const input = createInterface({
    input: stdin,
    output: stdout as unknown as NodeJS.WritableStream,
    terminal: true,
    prompt: readOnly ? '' : PROMPT,
  });
  const link = createLink(client, view.id, (message) => context.say(`error: ${message}`));
  emitKeypressEvents(stdin, input);
  let pressed: readonly string[] = [];
  stdin.on('keypress', (text: string | undefined, name: { name?: string; ctrl?: boolean }) => {
    const match = matchDetach(attachment.detachKeys, pressed, toKey(text, name));
    pressed = match.pressed;
    if (match.isDetach) detach();
  });
  input.on('SIGINT', () => {
    if (readOnly) detach();
    else void link.interrupt();
  });
  // Taking the event is what keeps Ctrl-Z from stopping the process.
  input.on('SIGTSTP', () => context.say(`status: ${toDetachHint(attachment.detachKeys)}`));
  input.on('close', detach);
  input.on('line', (line) => {
    if (!readOnly && line.trim() !== '') onLine(attachment, { line, link, detach });
  });
  return input;
}

function toKey(text: string | undefined, name: { name?: string; ctrl?: boolean }): Key {
  if (name.ctrl && name.name !== undefined) return { kind: 'ctrl', letter: name.name };
  return { kind: 'text', text: text ?? '' };
}

interface Line {
  readonly line: string;
  readonly link: SessionLink;
  readonly detach: () => void;
}

function onLine({ context, client, view }: Attachment, { line, link, detach }: Line): void {
  const slash = parseSlash(line);
  switch (slash?.kind) {
    case undefined:
      void link.send(line.startsWith('//') ? line.slice(1) : line);
      return;
    case 'detach':
      detach();
      return;
    case 'interrupt':
      void link.interrupt();
      return;
    case 'help':
      for (const one of SLASH_HELP) context.say(one);
      return;
    case 'unknown':
      context.say(`error: ${slash.message}`);
      return;
    case 'approve':
    case 'deny': {
      const decision = slash.kind === 'approve' ? 'approve' : 'deny';
      const extra = slash.kind === 'approve' ? { scope: slash.scope } : toReason(slash.reason);
      void findWaiting(client, view.id, slash.callId).then((callId) => {
        if (callId === undefined) context.say('status: nothing waits for a decision');
        else void link.resolve(callId, { decision, ...extra });
      });
    }
  }
}

function toReason(reason: string | undefined): { reason?: string } {
  return reason === undefined ? {} : { reason };
}

async function findWaiting(
  client: Attachment['client'],
  sessionId: string,
  asked: string | undefined,
): Promise<string | undefined> {
  if (asked !== undefined) return asked;
  const approvals = await client.listApprovals();
  return approvals.find((approval) => approval.session === sessionId)?.call_id;
}
