/** One session in words: what it is, what it does, what it cost, what happened last. */
import type { EventEnvelope } from '../../protocol/events.ts';
import type { SessionView } from '../../protocol/resources.ts';
import { defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { advance, emptyFeed, type FeedState } from '../session/feed.ts';
import { toKnownEvent } from '../session/follow-turn.ts';
import { readHistory } from '../session/history.ts';
import { createPlainWriter } from '../session/plain.ts';
import { toName } from '../session-action.ts';
import { formatAge, formatClock, formatCost, formatCount } from '../text/format.ts';
import { sanitize, sanitizeLine } from '../text/width.ts';

const RECENT_LINES = 12;

export const command = defineCommand({
  build: (yargs) =>
    yargs.positional('id', { type: 'string', demandOption: true, describe: 'Id, name, or @last' }),
  run: async (context, { id }) => {
    const client = context.connect();
    const view = await client.getSession(id);
    const lines = describeSession(view, context.machine.clock.wallMs());
    if (context.json) {
      context.printJson({ session: view, text: lines.join('\n') });
      return EXIT.done;
    }
    for (const line of lines) context.print(line);
    const { events } = await readHistory({ client, sessionId: view.id, since: 0 });
    const todo = describeTodo(events);
    if (todo.length > 0) context.print(`\n${context.style.bold('Todo:')}`);
    for (const line of todo) context.print(`  ${line}`);
    let text = '';
    let feed: FeedState = emptyFeed;
    const writer = createPlainWriter({ style: context.style, write: (part) => (text += part) });
    for (const event of events) {
      const step = advance(feed, toKnownEvent(event));
      feed = step.state;
      for (const piece of step.pieces) writer.write(piece, `${formatClock(event.time)} `);
    }
    writer.finish();
    if (text === '') return EXIT.done;
    context.print(`\n${context.style.bold('Last:')}`);
    const recent = text.trimEnd().split('\n').slice(-RECENT_LINES);
    for (const line of recent) context.print(`  ${line}`);
    return EXIT.done;
  },
});

const MARKS: Readonly<Record<string, string>> = { done: '[x]', in_progress: '[>]' };

/** The task list as the newest call of `todo` has it; empty: there is none. */
export function describeTodo(events: readonly EventEnvelope[]): string[] {
  const calls = events.map(toKnownEvent).filter((event) => event.type === 'tool.requested');
  const newest = calls.findLast(({ data }) => data.tool === 'todo')?.data.arguments;
  const items = isRecord(newest) && Array.isArray(newest['items']) ? newest['items'] : [];
  return items.filter(isRecord).map(({ text, status }) => {
    return `${MARKS[String(status)] ?? '[ ]'} ${sanitizeLine(String(text))}`;
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Sentences, one a line. */
export function describeSession(view: SessionView, nowMs: number): string[] {
  const { usage } = view;
  const age = formatAge(nowMs - Date.parse(view.created_at));
  return [
    `Session ${toName(view)}, id ${view.id}, made ${age} ago.`,
    `Agent ${view.agent} with model ${view.model}; approvals: ${view.approve}.`,
    `It is ${view.state} (${view.state_reason}) and ${describeActivity(view)}; ${describeResidency(view)}.`,
    `Workspace ${sanitize(view.workspace)}.`,
    ...(view.workspace_notice === undefined ? [] : [`  ${sanitize(view.workspace_notice)}`]),
    ...describeLabels(view),
    `${describeTurns(view)}; ${formatCount(usage.input_tokens)} tokens in, ` +
      `${formatCount(usage.output_tokens)} out, ${formatCost(view.cost_usd)}.`,
    ...(view.queued_inputs > 0 ? [`Inputs that wait their turn: ${view.queued_inputs}.`] : []),
    ...(view.pending_approvals > 0
      ? [`Calls that wait for approval: ${view.pending_approvals}.`]
      : []),
    ...(view.background_processes ?? []).map((each) => {
      const since = formatAge(nowMs - Date.parse(each.started_at));
      return `Background process ${each.call_id}, since ${since}: ${sanitizeLine(each.command)}`;
    }),
    ...(view.restarts > 0 ? [`Its worker was restarted ${toTimes(view.restarts)}.`] : []),
    `Journal: ${view.last_seq} events, epoch ${view.epoch}.`,
  ];
}

function describeActivity(view: SessionView): string {
  if (view.activity === 'turn') {
    return view.state === 'suspended' ? `holds turn ${view.turn}` : `works on turn ${view.turn}`;
  }
  return view.activity === 'waiting' ? `waits in turn ${view.turn}` : 'idle';
}

function describeResidency(view: SessionView): string {
  switch (view.residency) {
    case 'resident':
      return view.worker_pid === undefined ? 'a worker serves it' : `worker pid ${view.worker_pid}`;
    case 'starting':
      return 'its worker is starting';
    case 'backoff':
      return `its worker starts again at ${formatClock(view.backoff?.next_at ?? 'soon')}`;
    case 'hibernated':
      if (isClosed(view)) return 'no worker';
      if (view.state === 'suspended') return 'no worker: one starts when it is resumed';
      if (view.activity === 'waiting') return 'no worker: one starts when it is answered';
      return 'no worker: one starts with the next input';
    case 'queued':
      return 'it waits for a free worker slot';
  }
}

/** It takes no input before it is opened again. */
function isClosed({ state }: SessionView): boolean {
  return state === 'stopped' || state === 'failed';
}

function describeLabels(view: SessionView): string[] {
  const labels = Object.entries(view.labels).map(([key, value]) => `${key}=${sanitize(value)}`);
  return labels.length === 0 ? [] : [`Labels: ${labels.join(', ')}.`];
}

function toTimes(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

function describeTurns(view: SessionView): string {
  if (view.turn === 0) return 'No turn yet';
  const why = view.last_reason === undefined ? '' : ` (${sanitize(view.last_reason)})`;
  const last = view.last_outcome === undefined ? '' : `, the last one ${view.last_outcome}${why}`;
  return `${view.turn} ${view.turn === 1 ? 'turn' : 'turns'}${last}`;
}
