/** Why a tool call would be allowed, asked for or denied, or why a past one was: which rule, where
 *  it is written, at which sandbox level. */
import { isAbsolute, resolve } from 'node:path';
import { PrxError } from '../../base/errors.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import type { PolicyView } from '../../protocol/policy-view.ts';
import { type Context, defineCommand } from '../command.ts';
import { EXIT } from '../outcome.ts';
import { readHistory } from '../session/history.ts';
import { sanitize, sanitizeLine } from '../text/width.ts';
import { parseArguments } from './approve.ts';

const ACTIONS = ['explain'] as const;
const CALL = /^\d+\.\d+\.\d+$/;
const ARGUMENTS_CHARS_MAX = 400;

interface ExplainArgs {
  readonly what: string;
  readonly arguments?: string | undefined;
  readonly agent?: string | undefined;
  readonly workspace?: string | undefined;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .positional('action', { choices: ACTIONS, demandOption: true, describe: 'What to do' })
      .positional('what', {
        type: 'string',
        demandOption: true,
        describe: 'A tool; or a session, for a call of the past',
      })
      .positional('arguments', {
        type: 'string',
        describe: 'Its arguments, as a JSON object; or the call, such as 3.1.1',
      })
      .option('agent', { type: 'string', requiresArg: true, describe: 'For this agent' })
      .option('workspace', {
        type: 'string',
        requiresArg: true,
        describe: 'In this folder; default: the present one',
      })
      .epilogue('The running supervisor is asked: its sandbox and kept rules count, too.')
      .example('prx-supervisor policy explain shell \'{"command":"git status; rm x"}\'', '')
      .example('prx-supervisor policy explain @last 3.1.1', 'why a past call was decided so'),
  run: (context, args) =>
    args.arguments !== undefined && CALL.test(args.arguments)
      ? explainPast(context, args.what, args.arguments)
      : explainNow(context, args),
});

async function explainNow(context: Context, args: ExplainArgs): Promise<number> {
  const { cwd } = context.machine;
  const { workspace: asked = cwd, agent } = args;
  const view = await context.connect().explainPolicy({
    tool: args.what,
    workspace: isAbsolute(asked) ? asked : resolve(cwd, asked),
    ...(args.arguments === undefined ? {} : { arguments: parseArguments(args.arguments) }),
    ...(agent === undefined ? {} : { agent }),
  });
  if (context.json) context.printJson(view);
  else for (const line of describeView(view)) context.print(line);
  return EXIT.done;
}

/** Sentences, one a line. */
export function describeView(view: PolicyView): string[] {
  const place = (at: PolicyView['parts'][number] | PolicyView): string =>
    at.line === undefined
      ? sanitizeLine(at.rule)
      : `${sanitizeLine(at.rule)} (${at.file}:${at.line})`;
  const parts = view.parts.filter((part) => part.text !== undefined);
  return [
    `${view.decision}: ${sanitizeLine(view.tool)} for agent ${view.agent}, at sandbox level ${view.level}.`,
    `By ${view.by}: ${place(view)}.`,
    ...(view.reason === undefined ? [] : [`Reason given: ${sanitizeLine(view.reason)}`]),
    ...parts.map(
      (part) => `  ${part.decision}  ${sanitizeLine(part.text ?? '')}  by ${place(part)}`,
    ),
    ...(view.problem === undefined ? [] : [`It would fail before: ${sanitizeLine(view.problem)}`]),
    ...(view.refusal === undefined ? [] : [`No tool runs now: ${sanitizeLine(view.refusal)}`]),
    ...(view.covers.length === 0
      ? []
      : [`approve --scope session would allow: ${view.covers.map(sanitizeLine).join(', ')}`]),
    ...(view.keeps === undefined
      ? []
      : [`approve --scope rule would keep: ${sanitizeLine(view.keeps)}`]),
  ];
}

const TYPES = [
  ...['tool.requested', 'tool.decided', 'approval.requested', 'approval.resolved'],
  ...['tool.started', 'tool.completed'],
];

async function explainPast(context: Context, ref: string, call: string): Promise<number> {
  const client = context.connect();
  const { id } = await client.getSession(ref);
  const { events } = await readHistory({ client, sessionId: id, since: 0 });
  const own = events.filter(
    (event) => TYPES.includes(event.type) && dataOf(event)['call_id'] === call,
  );
  if (own.length === 0) {
    const message = `session ${id} has no call ${call}; prx-supervisor logs ${id} shows its calls`;
    throw new PrxError('NOT_FOUND', message);
  }
  if (context.json) context.printJson(own);
  else for (const event of own) context.print(describeEvent(event));
  return EXIT.done;
}

function dataOf({ data }: EventEnvelope): Readonly<Record<string, unknown>> {
  return typeof data === 'object' && data !== null ? { ...data } : {};
}

function describeEvent(event: EventEnvelope): string {
  const data = dataOf(event);
  const text = (key: string): string => sanitizeLine(String(data[key] ?? '-'));
  const args = (): string =>
    sanitize(JSON.stringify(data['arguments'])?.slice(0, ARGUMENTS_CHARS_MAX) ?? '');
  const sentence = {
    'tool.requested': () =>
      `the model asks for ${text('tool')} ${args()} (effect ${text('effect')})`,
    'tool.decided': () => `${text('decision')}, by ${text('by')}: ${text('rule')}`,
    'approval.requested': () => `a person is asked, until ${text('expires_at')}`,
    'approval.resolved': () => {
      const why = data['reason'] === undefined ? '' : `: ${text('reason')}`;
      const edited = data['arguments'] === undefined ? '' : `, edited to ${args()}`;
      const kept = data['kept'] === undefined ? '' : `, kept as rule ${text('kept')}`;
      return `${text('decision')} by ${text('by')}, scope ${text('scope')}${edited}${kept}${why}`;
    },
    'tool.started': () => `started, sandbox level ${text('level')}`,
    'tool.completed': () => `ended: ${text('status')}`,
  }[event.type];
  return `${event.time} #${event.seq} ${sentence?.() ?? event.type}`;
}
