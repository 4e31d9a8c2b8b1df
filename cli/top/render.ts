/** One screen of `top`: pure, from what is known to exactly as many lines as fit. */
import type { SessionView } from '../../protocol/resources.ts';
import { renderSessions, type TableContext } from '../commands/ps.ts';
import { summarizeArguments } from '../session/tool-summary.ts';
import {
  formatAge,
  formatBytes,
  formatClock,
  formatCost,
  formatCount,
  toShortId,
} from '../text/format.ts';
import type { Style } from '../text/style.ts';
import { renderFields, renderTable } from '../text/table.ts';
import { fitLine, sanitizeLine, truncate } from '../text/width.ts';
import { renderDecision } from './decide.ts';
import {
  commands,
  type Frame,
  findSelected,
  findShown,
  type Known,
  type TopState,
  tabs,
} from './model.ts';

export function renderTop(state: TopState, known: Known, frame: Frame): string[] {
  const { columns, rows, style } = frame;
  const head = [renderTabs(state, style), renderTitle(state, known, frame)];
  const foot = renderFoot(state, known, style);
  const room = Math.max(1, rows - head.length - 1);
  const body = renderBody(state, known, { ...frame, rows: room });
  const lines = [...head, ...body.slice(0, room)];
  while (lines.length < rows - 1) lines.push('');
  return [...lines, foot].map((line) => fitLine(line, columns));
}

/** The tab alone, as many lines as it has. */
export function renderBody(state: TopState, known: Known, frame: Frame): string[] {
  if (state.deciding !== undefined) return renderDecision(state, known, frame);
  return bodies[state.tab](state, known, frame);
}

function renderTabs({ tab }: TopState, style: Style): string {
  return tabs
    .map((name, index) => {
      const shown = `${index + 1} ${name}`;
      return name === tab ? style.bold(style.underline(shown)) : shown;
    })
    .join('  ');
}

function renderTitle(state: TopState, known: Known, { style, columns }: Frame): string {
  if (known.problem !== undefined) return style.red(truncate(known.problem.message, columns));
  const search = state.isSearching || state.search !== '' ? `/${state.search}` : '';
  const view = findSelected(state, known);
  const isOfSession = state.tab !== 'Overview' && state.tab !== 'Sessions';
  const chosen = isOfSession && view !== undefined ? `session ${view.name ?? view.id}` : '';
  return style.dim(truncate([chosen, search].filter(Boolean).join('  '), columns));
}

function renderFoot(state: TopState, known: Known, style: Style): string {
  if (state.note !== '') return style.yellow(sanitizeLine(state.note));
  const waiting = known.approvals.length;
  const calls = waiting === 0 ? '' : `${style.yellow(`? ${waiting} waiting: Enter`)} · `;
  return `${calls}${style.dim('1-7 tabs · ↑↓ choose · / search · 7 commands · q quit')}`;
}

type Body = (state: TopState, known: Known, frame: Frame) => string[];

const bodies: Readonly<Record<TopState['tab'], Body>> = {
  Overview: renderOverview,
  Sessions: renderList,
  Triggers: () => ['There are no triggers in this version: sessions begin with an input.'],
  Context: renderContext,
  Logs: renderLogs,
  Events: renderEvents,
  Commands: renderCommands,
};

function toLayout({ plain, style }: Frame) {
  return { layout: plain ? ('labelled' as const) : ('columns' as const), style };
}

function renderOverview(_state: TopState, known: Known, frame: Frame): string[] {
  const { status, sessions, approvals } = known;
  if (status === undefined) return ['asking the supervisor …'];
  const { capacity, sandbox } = status;
  const spent = sessions.reduce((sum, each) => sum + each.cost_usd, 0);
  const tokens = sessions.reduce(
    (sum, { usage }) => sum + usage.input_tokens + usage.output_tokens,
    0,
  );
  const states = Object.entries(status.sessions).map(([name, count]) => `${count} ${name}`);
  const reasons = status.reasons.length === 0 ? '' : `: ${status.reasons.join('; ')}`;
  const fields: [string, string][] = [
    ['status', `${status.status}${reasons}`],
    ['version', `${status.version}, pid ${status.pid}`],
    ['model', `${status.model} (${status.provider})`],
    ['sandbox', [sandbox.level, sandbox.reason].filter(Boolean).join(': ')],
    [
      'workers',
      `${capacity.resident} of ${capacity.max_concurrent_sessions}, ${capacity.warm} warm`,
    ],
    ['queued', `${capacity.queued}`],
    ['sessions', states.join(', ') || 'none'],
    ['waiting', toWaiting(approvals.length)],
    ['tokens, cost', `${formatCount(tokens)}, ${formatCost(spent)}`],
  ];
  const rows = known.processes.map((each) => [
    each.kind,
    String(each.pid),
    each.rss_bytes === undefined ? '' : formatBytes(each.rss_bytes),
    formatClock(each.started_at),
  ]);
  const columns = [
    { title: 'PROCESS' },
    { title: 'PID', align: 'right' as const },
    { title: 'MEMORY', align: 'right' as const },
    { title: 'SINCE' },
  ];
  const table = { ...toLayout(frame), width: frame.columns };
  return [
    ...renderFields(fields, table),
    '',
    ...renderWaiting(known, frame),
    ...renderTable(columns, rows, table),
  ];
}

function toWaiting(count: number): string {
  if (count === 0) return 'nothing for you';
  return `${count} ${count === 1 ? 'call' : 'calls'} for your answer`;
}

const WAITING_MAX = 4;

function renderWaiting({ approvals, sessions }: Known, frame: Frame): string[] {
  if (approvals.length === 0) return [];
  const rows = approvals
    .slice(0, WAITING_MAX)
    .map((each) => [
      sanitizeLine(sessions.find(({ id }) => id === each.session)?.name ?? toShortId(each.session)),
      each.call_id,
      each.tool,
      summarizeArguments(each.tool, each.arguments),
      formatAge(Math.max(0, Date.parse(each.expires_at) - frame.nowMs)),
    ]);
  const columns = [
    { title: 'WAITING' },
    { title: 'CALL' },
    { title: 'TOOL' },
    { title: 'ARGUMENTS', flexible: true },
    { title: 'EXPIRES IN', align: 'right' as const },
  ];
  return [...renderTable(columns, rows, { ...toLayout(frame), width: frame.columns }), ''];
}

function renderList(state: TopState, known: Known, frame: Frame): string[] {
  const shown = findShown(state, known);
  if (shown.length === 0) return [known.sessions.length === 0 ? 'no session' : 'nothing fits'];
  const selected = findSelected(state, known);
  const index = Math.max(
    0,
    shown.findIndex(({ id }) => id === selected?.id),
  );
  // The selected one is always in sight.
  const room = Math.max(1, frame.rows - 1);
  const first = Math.max(0, Math.min(index - Math.floor(room / 2), shown.length - room));
  const part = shown.slice(first, first + room);
  const table: TableContext = {
    ...toLayout(frame),
    width: frame.columns - 2,
    nowMs: frame.nowMs,
  };
  const lines = renderSessions(part, table);
  const hasHead = lines.length > part.length;
  return lines.map((line, at) => {
    const isSelected = at - (hasHead ? 1 : 0) === index - first;
    return `${isSelected ? '›' : ' '} ${line}`;
  });
}

function renderContext(state: TopState, known: Known, frame: Frame): string[] {
  const view = findSelected(state, known);
  if (view === undefined) return ['no session'];
  const calls = known.events.filter(({ type }) => type === 'model.completed');
  const newest = usageOf(calls.at(-1)?.data);
  const compactions = known.events.filter(({ type }) => type === 'context.compacted').length;
  return renderFields(
    [
      ['state', `${view.state}: ${view.state_reason}`],
      ['agent, model', `${view.agent}, ${view.model}`],
      [
        'turn',
        `${view.turn}${view.last_outcome === undefined ? '' : `, last ${view.last_outcome}`}`,
      ],
      ['last request', newest === undefined ? 'none here' : `${formatCount(newest)} tokens`],
      ['all requests', toUsage(view)],
      ['cost', formatCost(view.cost_usd)],
      ['compactions', `${compactions} in the newest events`],
      ['waiting inputs', `${view.queued_inputs}`],
      ['worker', `${view.residency}, generation ${view.generation}, ${view.restarts} restarts`],
      ['workspace', view.workspace],
    ],
    toLayout(frame),
  );
}

function usageOf(data: unknown): number | undefined {
  const usage =
    typeof data === 'object' && data !== null && 'usage' in data ? data.usage : undefined;
  if (typeof usage !== 'object' || usage === null || !('input_tokens' in usage)) return undefined;
  return typeof usage.input_tokens === 'number' ? usage.input_tokens : undefined;
}

function toUsage({ usage }: SessionView): string {
  return `${formatCount(usage.input_tokens)} in, ${formatCount(usage.output_tokens)} out`;
}

/** What a person wants to know: no deltas, no output. */
const quiet = new Set(['model.delta', 'tool.output', 'tool.decided', 'model.started']);

function renderLogs(state: TopState, known: Known, frame: Frame): string[] {
  const lines = known.events
    .filter(({ type }) => !quiet.has(type))
    .map(({ time, type, data }) => `${formatClock(time)} ${type} ${toWords(data)}`);
  return toWindow(lines, state, frame);
}

function renderEvents(state: TopState, known: Known, frame: Frame): string[] {
  const lines = known.events.map(
    ({ seq, time, type, data }) => `${seq} ${formatClock(time)} ${type} ${JSON.stringify(data)}`,
  );
  return toWindow(lines, state, frame);
}

function toWindow(lines: readonly string[], { search, scroll }: TopState, frame: Frame): string[] {
  const found = lines.filter((line) => line.toLowerCase().includes(search.toLowerCase()));
  if (found.length === 0) return ['no event'];
  const end = Math.max(Math.min(found.length, frame.rows), found.length - scroll);
  const part = found.slice(Math.max(0, end - frame.rows), end);
  return part.map((line) => truncate(sanitizeLine(line), frame.columns));
}

function toWords(data: unknown): string {
  if (typeof data !== 'object' || data === null) return '';
  return Object.entries(data)
    .filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value))
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');
}

function renderCommands(state: TopState, known: Known, frame: Frame): string[] {
  const view = findSelected(state, known);
  const rows = commands.map(({ key, name, does, isConfirmed }) => [
    key,
    name,
    does,
    isConfirmed ? 'press twice' : 'at once',
  ]);
  const columns = [
    { title: 'KEY' },
    { title: 'COMMAND' },
    { title: 'DOES', flexible: true },
    { title: '' },
  ];
  const on =
    view === undefined ? 'There is no session.' : `On ${view.name ?? view.id}, from any tab:`;
  const table = { ...toLayout(frame), width: frame.columns };
  return [
    on,
    '',
    ...renderTable(columns, rows, table),
    '',
    'Enter answers the call that waits. prx-supervisor attach opens a session.',
  ];
}
