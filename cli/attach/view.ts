/** What an attached terminal shows: lines that are written once, and what is still moving. Pure:
 *  events and the time come in, lines go out. */
import type { KnownEvent } from '../../protocol/events.ts';
import { advance, emptyFeed, type FeedState } from '../session/feed.ts';
import type { Piece, ToolCall } from '../session/pieces.ts';
import { toSupersededLine, toToolDetails, toToolLine, toTurnLine } from '../session/plain.ts';
import { formatDuration } from '../text/format.ts';
import { renderMarkdown, splitBlocks } from '../text/markdown.ts';
import type { Style } from '../text/style.ts';
import { sanitize, truncate, wrapLine } from '../text/width.ts';

export interface View {
  readonly feed: FeedState;
  /** Markdown of the block that is being written. */
  readonly open: string;
  /** What the last written line belongs to: a blank line separates kinds. */
  readonly lastKind: string;
  /** The last line of what the model thinks, while it has not begun to answer. */
  readonly thinking: string;
  /** When a running call began, monotonic ms. */
  readonly startedAtMs: ReadonlyMap<string, number>;
}

export const emptyView: View = {
  feed: emptyFeed,
  open: '',
  lastKind: '',
  thinking: '',
  startedAtMs: new Map(),
};

export interface ViewOptions {
  readonly style: Style;
  readonly columns: number;
  readonly nowMs: number;
}

export interface ViewStep {
  readonly view: View;
  readonly committed: readonly string[];
}

export function stepView(view: View, event: KnownEvent, options: ViewOptions): ViewStep {
  const step = advance(view.feed, event);
  let next: View = { ...view, feed: step.state };
  const committed: string[] = [];
  for (const piece of step.pieces) {
    const shown = showPiece(next, piece, options);
    next = shown.view;
    committed.push(...shown.committed);
  }
  return { view: next, committed };
}

const silent = (view: View): ViewStep => ({ view, committed: [] });

/** Lines of one kind stand together; a blank line parts them from what came before. */
function commit(view: View, kind: string, lines: readonly string[]): ViewStep {
  if (lines.length === 0) return silent(view);
  const isParted = view.lastKind !== '' && (view.lastKind !== kind || kind === 'text');
  return { view: { ...view, lastKind: kind }, committed: [...(isParted ? [''] : []), ...lines] };
}

function showPiece(view: View, piece: Piece, options: ViewOptions): ViewStep {
  const { style } = options;
  switch (piece.kind) {
    case 'user':
      return commit(view, `user ${piece.inputId}`, toUserLines(piece.text, options));
    case 'turn-started':
      return silent({ ...view, thinking: '' });
    case 'text':
      return addText(view, piece.text, options);
    case 'text-end':
      return commit({ ...view, open: '' }, 'text', renderMarkdown(view.open, options));
    case 'superseded':
      return voidText(view, toSupersededLine(piece.attempt, piece.reason), options);
    case 'reasoning':
      return silent({ ...view, thinking: lastLine(view.thinking + piece.text) });
    case 'tool-started': {
      const startedAtMs = new Map(view.startedAtMs).set(piece.call.callId, options.nowMs);
      return silent({ ...view, startedAtMs });
    }
    case 'tool':
      return showTool(view, piece.call, options);
    case 'approval':
      return silent(view);
    case 'approval-resolved': {
      const line = `approval of ${piece.callId}: ${piece.decision} by ${sanitize(piece.by)}`;
      return commit(view, 'tool', [style.dim(line)]);
    }
    case 'notice': {
      const mark = { info: style.dim('i'), warn: style.yellow('!'), error: style.red('✗') };
      return commit(view, 'notice', [`${mark[piece.level]} ${sanitize(piece.text)}`]);
    }
    case 'turn':
      return endTurn(view, toTurnLine(piece.end), options);
    case 'state':
      return isEnd(piece.to) ? commit(view, 'notice', [`! session ${piece.to}`]) : silent(view);
  }
}

export function isEnd(state: string): boolean {
  return state === 'stopped' || state === 'failed';
}

function toUserLines(text: string, { style, columns }: ViewOptions): string[] {
  const lines = sanitize(text)
    .split('\n')
    .flatMap((line) => wrapLine(line, columns - 2));
  return lines.map((line, index) => `${index === 0 ? style.cyan('›') : ' '} ${style.bold(line)}`);
}

function addText(view: View, text: string, options: ViewOptions): ViewStep {
  const { complete, open } = splitBlocks(view.open + text);
  const next = { ...view, open, thinking: '' };
  return complete === '' ? silent(next) : commit(next, 'text', renderMarkdown(complete, options));
}

function voidText(view: View, marker: string, options: ViewOptions): ViewStep {
  const rest = view.open === '' ? [] : renderMarkdown(view.open, options);
  const { style } = options;
  const lines = [...rest.map((line) => style.dim(line)), style.yellow(marker)];
  return commit({ ...view, open: '' }, 'text', lines);
}

const TOOL_FACTS_COLUMNS = 46;

function showTool(view: View, call: ToolCall, { style, columns }: ViewOptions): ViewStep {
  const startedAtMs = new Map(view.startedAtMs);
  startedAtMs.delete(call.callId);
  const line = toToolLine(call, style, columns - call.tool.length - TOOL_FACTS_COLUMNS);
  const details = toToolDetails(call, style).map((one) => clip(one, columns));
  return commit({ ...view, startedAtMs }, 'tool', [line, ...details]);
}

/** Output is shown to recognize it, not to read it: one row a line. */
function clip(line: string, columns: number): string {
  return wrapLine(line, columns)[0] ?? line;
}

function endTurn(view: View, line: string, options: ViewOptions): ViewStep {
  const rest = view.open === '' ? [] : renderMarkdown(view.open, options);
  const text = commit({ ...view, open: '', thinking: '', startedAtMs: new Map() }, 'text', rest);
  const end = commit(text.view, 'turn', [options.style.dim(`── ${line}`)]);
  return { view: end.view, committed: [...text.committed, ...end.committed] };
}

function lastLine(text: string): string {
  return text.slice(text.trimEnd().lastIndexOf('\n') + 1).slice(-400);
}

const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'] as const;
const SPINNER_STEP_MS = 120;

export interface LiveOptions extends ViewOptions {
  /** Rows that what is moving may take. */
  readonly rows: number;
}

/** The block being written (its end), the calls that run, the approvals that wait. */
export function toLiveLines(view: View, options: LiveOptions): string[] {
  const { style, columns, nowMs } = options;
  const text = sanitize(view.open).trimEnd();
  const open = text === '' ? [] : text.split('\n').flatMap((line) => wrapLine(line, columns - 1));
  const calls = [...view.feed.calls.values()]
    .filter((call) => call.status === 'running')
    .map((call) => {
      const sinceMs = nowMs - (view.startedAtMs.get(call.callId) ?? nowMs);
      const facts = `· running ${formatDuration(sinceMs)}${call.level ? ` · ${call.level}` : ''}`;
      const summary = truncate(call.summary, Math.max(10, columns - call.tool.length - 40));
      const last = call.head.at(-1);
      const tail = last === undefined ? '' : style.dim(` · ${truncate(last, 30)}`);
      return `${spinnerAt(nowMs)} ${style.bold(call.tool)} ${summary} ${style.dim(facts)}${tail}`;
    });
  const thinking =
    view.thinking === ''
      ? []
      : [style.dim(truncate(`… ${sanitize(view.thinking).trim()}`, columns - 1))];
  const parts = [...thinking, ...open, ...calls];
  const shown = parts.slice(-Math.max(1, options.rows));
  return shown.length > 0 && view.lastKind !== '' ? ['', ...shown] : shown;
}

export function spinnerAt(nowMs: number): string {
  return SPINNER[Math.floor(nowMs / SPINNER_STEP_MS) % SPINNER.length] ?? '·';
}
