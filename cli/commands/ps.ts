/** Lists sessions. Closed ones are left out unless asked for. */
import type { SessionView } from '../../protocol/resources.ts';
import type { SessionState } from '../../protocol/states.ts';
import { type Context, defineCommand } from '../command.ts';
import { parseLabels } from '../labels.ts';
import { columnsOf } from '../machine.ts';
import { EXIT } from '../outcome.ts';
import { formatAge, formatCost, toShortId } from '../text/format.ts';
import type { Style } from '../text/style.ts';
import { type Column, renderTable } from '../text/table.ts';
import { sanitizeLine, truncate } from '../text/width.ts';

const WATCH_INTERVAL_MS = 1000;

const STATES: readonly SessionState[] = [
  'created',
  'starting',
  'running',
  'suspended',
  'awaiting',
  'stopping',
  'stopped',
  'failed',
];

interface Filter {
  readonly all: boolean;
  readonly state: readonly SessionState[];
  readonly labels: Readonly<Record<string, string>>;
}

export const command = defineCommand({
  build: (yargs) =>
    yargs
      .option('all', { alias: 'a', type: 'boolean', default: false, describe: 'Also closed ones' })
      .option('watch', {
        alias: 'w',
        type: 'boolean',
        default: false,
        describe: 'Show the list again each second until Ctrl-C',
      })
      .option('state', {
        type: 'string',
        array: true,
        choices: STATES,
        requiresArg: true,
        describe: 'Only sessions in this state (repeatable)',
      })
      .option('label', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe: 'Only sessions with this label, K=V (repeatable)',
      })
      .example('prx-supervisor ps -aq | xargs prx-supervisor rm', 'remove every session'),
  run: async (context, args) => {
    const labels = parseLabels(args.label ?? []);
    const filter: Filter = { all: args.all, state: args.state ?? [], labels };
    if (!args.watch) {
      showSessions(context, await list(context, filter));
      return EXIT.done;
    }
    return watch(context, filter);
  },
});

interface Listing {
  readonly sessions: readonly SessionView[];
  readonly hiddenCount: number;
}

async function list(context: Context, filter: Filter): Promise<Listing> {
  const { state, labels } = filter;
  const found = await context.connect().listSessions({
    ...(state.length === 0 ? {} : { state }),
    labels,
  });
  // Asked for by state means asked for: nothing of it is hidden then.
  if (filter.all || state.length > 0) return { sessions: found, hiddenCount: 0 };
  const sessions = found.filter((session) => session.state !== 'stopped');
  return { sessions, hiddenCount: found.length - sessions.length };
}

function showSessions(context: Context, { sessions, hiddenCount }: Listing): void {
  if (context.json) {
    context.printJson(sessions);
    return;
  }
  if (context.quiet) {
    for (const session of sessions) context.print(session.id);
    return;
  }
  for (const line of renderWithProcesses(sessions, toTableContext(context))) context.print(line);
  if (context.machine.stdout.isTTY !== true) return;
  if (sessions.length === 0)
    context.say(`no open session; begin with: ${context.self} run 'Hello'`);
  if (hiddenCount > 0) context.say(`${hiddenCount} closed, shown with -a`);
}

export interface TableContext {
  readonly style: Style;
  readonly layout: 'columns' | 'labelled';
  readonly width: number;
  readonly nowMs: number;
}

function toTableContext(context: Context): TableContext {
  const { machine, style, plain } = context;
  const width = machine.stdout.isTTY ? columnsOf(machine.stdout) : Number.POSITIVE_INFINITY;
  return { style, layout: plain ? 'labelled' : 'columns', width, nowMs: machine.clock.wallMs() };
}

const COLUMNS: readonly Column[] = [
  { title: 'ID' },
  { title: 'NAME', flexible: true },
  { title: 'STATE' },
  { title: 'ACTIVITY' },
  { title: 'RESIDENCY' },
  { title: 'AGENT', flexible: true },
  { title: 'MODEL', flexible: true },
  { title: 'TURN', align: 'right' },
  { title: 'AGE', align: 'right' },
  { title: 'COST', align: 'right' },
];

export function renderSessions(sessions: readonly SessionView[], table: TableContext): string[] {
  const rows = sessions.map((session) => [
    toShortId(session.id),
    session.name ?? '',
    session.state,
    session.pending_approvals > 0 ? 'approval' : session.activity,
    session.residency,
    session.agent,
    session.model,
    String(session.turn),
    formatAge(table.nowMs - Date.parse(session.created_at)),
    formatCost(session.cost_usd),
  ]);
  const { style } = table;
  return renderTable(COLUMNS, rows, {
    ...table,
    paint: (title, value, cell) => {
      if (title === 'STATE' && value === 'failed') return style.red(cell);
      if (title === 'ACTIVITY' && value === 'turn') return style.green(cell);
      if (title === 'ACTIVITY' && value === 'approval') return style.yellow(cell);
      return cell;
    },
  });
}

/** Each session, and beneath it what it runs in the background. */
export function renderWithProcesses(
  sessions: readonly SessionView[],
  table: TableContext,
): string[] {
  const lines = renderSessions(sessions, table);
  const titles = lines.splice(0, lines.length - sessions.length);
  const blocks = lines.map((line, index) => {
    const { id = '', background_processes: processes = [] } = sessions[index] ?? {};
    return [line, ...processes.map((each) => renderProcess(id, each, table))];
  });
  return [...titles, ...blocks.flat()];
}

type BackgroundProcess = NonNullable<SessionView['background_processes']>[number];

function renderProcess(
  session: string,
  { call_id: call, command, started_at: started }: BackgroundProcess,
  { layout, nowMs, width, style }: TableContext,
): string {
  const age = formatAge(nowMs - Date.parse(started));
  const text = sanitizeLine(command);
  if (layout === 'labelled') {
    return `process: ${call}, session: ${toShortId(session)}, age: ${age}, command: ${text}`;
  }
  return style.dim(truncate(`  process ${call}  ${age}  ${text}`, width));
}

const CLEAR_SCREEN = '\u001b[H\u001b[2J';

async function watch(context: Context, filter: Filter): Promise<number> {
  const stop = new AbortController();
  const unlisten = context.machine.onInterrupt(() => stop.abort());
  const clears = context.machine.stdout.isTTY === true && !context.plain && !context.json;
  while (!stop.signal.aborted) {
    const listing = await list(context, filter);
    if (clears) context.machine.stdout.write(CLEAR_SCREEN);
    showSessions(context, listing);
    await context.machine.clock.sleep(WATCH_INTERVAL_MS, stop.signal);
  }
  unlisten();
  return EXIT.done;
}
