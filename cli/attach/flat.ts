/** Attached without a live region: labelled lines one after the other. For pipes, and for people
 *  who read by ear (--plain): then the native line editing of the terminal takes the input, and
 *  only whole lines are printed above it. */
import { createInterface, emitKeypressEvents, type Interface } from 'node:readline';
import { findQuestion } from '../../protocol/approval-words.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { Context } from '../command.ts';
import { findReply, toScopeLines } from '../session/approval-lines.ts';
import { advance, emptyFeed, type FeedState } from '../session/feed.ts';
import { toKnownEvent } from '../session/follow-turn.ts';
import type { PendingApproval } from '../session/pieces.ts';
import { createPlainWriter, type PlainWriter } from '../session/plain.ts';
import { toShortId } from '../text/format.ts';
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
  let feed: FeedState = emptyFeed;
  const waiting = (): readonly PendingApproval[] => [...feed.approvals.values()];
  const detach = (): void => stop.abort();
  const input = isInteractive ? openInput(attachment, { detach, waiting }) : undefined;
  const output = createFlatOutput(context, input);
  const show = (event: EventEnvelope): void => {
    const step = advance(feed, toKnownEvent(event));
    feed = step.state;
    for (const piece of step.pieces) output.writer.write(piece);
  };
  try {
    for (const event of attachment.history) show(event);
    if (isEnd(view.state)) return 'ended';
    for (const approval of waiting()) sayHow(approval, output, attachment);
    if (isInteractive) {
      const hint = `${toDetachHint(attachment.detachKeys)}, Ctrl-D too; /help lists commands`;
      output.line(`status: attached, ${hint}`);
    } else sayDeaf(attachment);
    const events = client.followEvents(view.id, {
      since: resumeFrom,
      signal: stop.signal,
      onConnection: (news) => {
        if (news.kind === 'lost') context.say('status: the supervisor is away, reconnecting');
      },
    });
    for await (const event of events) {
      const before = feed.approvals;
      show(event);
      for (const one of waiting()) if (!before.has(one.callId)) sayHow(one, output, attachment);
      if (isEnd(feed.state)) return 'ended';
    }
    return 'detached';
  } finally {
    output.writer.finish();
    input?.close();
    unlisten();
  }
}

/** What is piped in may be meant for another program (a loop that reads lines): it is not taken. */
function sayDeaf({ context, view, readOnly }: Attachment): void {
  if (readOnly || context.quiet) return;
  const send = `${context.self} run --session ${view.name ?? toShortId(view.id)} -`;
  context.say(`status: attached without a terminal: input is not read; ${send} sends it`);
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

interface FlatSession {
  readonly detach: () => void;
  /** Calls that wait, the oldest first. */
  readonly waiting: () => readonly PendingApproval[];
}

function openInput(attachment: Attachment, session: FlatSession): Interface {
  const { detach } = session;
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
    if (!readOnly && line.trim() !== '') onLine(attachment, { ...session, line, link });
  });
  return input;
}

function toKey(text: string | undefined, name: { name?: string; ctrl?: boolean }): Key {
  if (name.ctrl && name.name !== undefined) return { kind: 'ctrl', letter: name.name };
  return { kind: 'text', text: text ?? '' };
}

interface Line extends FlatSession {
  readonly line: string;
  readonly link: SessionLink;
}

function onLine({ context }: Attachment, { line, link, detach, waiting }: Line): void {
  const slash = parseSlash(line);
  const [first] = waiting();
  switch (slash?.kind) {
    case undefined: {
      const reply = first === undefined ? undefined : findReply(first, line);
      if (first !== undefined && reply !== undefined) void link.resolve(first.callId, reply);
      else void link.send(line.startsWith('//') ? line.slice(1) : line);
      return;
    }
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
      const shown = waiting().find(({ callId }) => callId === (slash.callId ?? first?.callId));
      const callId = slash.callId ?? shown?.callId;
      const seen = shown === undefined ? {} : { digest: shown.digest };
      if (callId === undefined) context.say('status: nothing waits for a decision');
      else void link.resolve(callId, { decision, ...extra, ...seen });
    }
  }
}

function toReason(reason: string | undefined): { reason?: string } {
  return reason === undefined ? {} : { reason };
}

/** How to answer, by lines alone. */
function sayHow(
  approval: PendingApproval,
  output: FlatOutput,
  { context, readOnly }: Attachment,
): void {
  if (context.machine.stdin.isTTY !== true || readOnly) return;
  if (findQuestion(approval) !== undefined) {
    output.line('  answer: a line is the answer, or the number of one; /deny declines');
    return;
  }
  const rule = approval.keeps === undefined ? '' : '|rule';
  output.line(`  answer: /approve [session${rule}], /deny [REASON]`);
  for (const line of toScopeLines(approval, context.style)) output.line(line);
}
