/** Pieces as plain lines, each with a label in front: for pipes, screen readers and logs. The
 *  answer's text is streamed as it comes. Pure but for the `write` it is given. */
import { formatCost, formatCount, formatDuration } from '../text/format.ts';
import type { Style } from '../text/style.ts';
import { sanitize, truncate } from '../text/width.ts';
import { toApprovalLines } from './approval-lines.ts';
import type { Piece, ToolCall, TurnEnd } from './pieces.ts';

const SUMMARY_COLUMNS = 100;

/** ✓ shell ls -la · ok · 1.2s · exit 0 · bubblewrap: a mark and a word, never colour alone. */
export function toToolLine(call: ToolCall, style: Style, columns = SUMMARY_COLUMNS): string {
  const summary = truncate(call.summary, Math.max(12, columns));
  const facts = [
    call.status,
    ...(call.durationMs === undefined ? [] : [formatDuration(call.durationMs)]),
    ...(call.exitCode === undefined ? [] : [`exit ${call.exitCode}`]),
    ...(call.level === undefined ? [] : [call.level]),
  ];
  const mark = markOf(call, style);
  return `${mark} ${style.bold(call.tool)} ${summary} ${style.dim(`· ${facts.join(' · ')}`)}`;
}

function markOf(call: ToolCall, style: Style): string {
  if (call.status === 'ok') return style.green('✓');
  if (call.status === 'requested' || call.status === 'running') return style.cyan('→');
  return call.status === 'awaiting' ? style.yellow('?') : style.red('✗');
}

/** Lines below a finished call: why it was denied, what it said first, its notice. */
export function toToolDetails(call: ToolCall, style: Style): string[] {
  const lines: string[] = [];
  if (call.status === 'denied' && call.deniedBy !== undefined) {
    lines.push(`  denied by ${sanitize(call.deniedBy)}`);
  }
  for (const line of call.head) lines.push(style.dim(`  ${line}`));
  const hidden = call.lineCount - call.head.length;
  if (hidden > 0) lines.push(style.dim(`  … ${hidden} more ${hidden === 1 ? 'line' : 'lines'}`));
  if (call.notice !== undefined) lines.push(style.yellow(`  ! ${sanitize(call.notice)}`));
  return lines;
}

/** turn 3 completed · 2 steps · 1.2k in, 340 out · $0.01 */
export function toTurnLine(end: TurnEnd): string {
  const facts = [
    `turn ${end.turn} ${end.outcome}`,
    `${end.steps} ${end.steps === 1 ? 'step' : 'steps'}`,
    `${formatCount(end.usage.input_tokens)} in, ${formatCount(end.usage.output_tokens)} out`,
    formatCost(end.costUsd),
  ];
  const why = end.error === undefined ? end.reason : `${end.error.message} (${end.error.code})`;
  const tail = end.outcome === 'completed' || why === undefined ? '' : `: ${sanitize(why)}`;
  return `${facts.join(' · ')}${tail}`;
}

export function toSupersededLine(attempt: number, reason: string): string {
  return `[the text above is void: ${reason}; attempt ${attempt} follows]`;
}

export interface PlainWriter {
  /** Writes one piece; `stamp` is put in front of labelled lines. */
  write(piece: Piece, stamp?: string): void;
  /** Ends an open line. */
  finish(): void;
}

export interface PlainOptions {
  readonly style: Style;
  readonly write: (text: string) => void;
  /** Show what the model thinks before it answers. */
  readonly reasoning?: boolean;
}

/** A line-by-line writer: `you:`, `agent:`, `tool:`, `turn:` … */
export function createPlainWriter(options: PlainOptions): PlainWriter {
  const { style } = options;
  let open: 'text' | 'reasoning' | undefined;
  let lineOpen = false;
  const finish = (): void => {
    if (lineOpen) options.write('\n');
    lineOpen = false;
    open = undefined;
  };
  const line = (text: string): void => {
    finish();
    options.write(`${text}\n`);
  };
  const stream = (kind: 'text' | 'reasoning', label: string, text: string): void => {
    if (open !== kind) {
      finish();
      options.write(label);
      open = kind;
    }
    const safe = sanitize(text);
    options.write(safe);
    lineOpen = !safe.endsWith('\n');
  };
  return {
    finish,
    write: (piece, stamp = '') => {
      if (piece.kind === 'text')
        return stream('text', `${stamp}${style.bold('agent:')} `, piece.text);
      if (piece.kind === 'reasoning') {
        if (options.reasoning) stream('reasoning', `${stamp}thinking: `, piece.text);
        return;
      }
      if (piece.kind === 'text-end') return finish();
      for (const text of toLabelledLines(piece, style)) line(`${stamp}${text}`);
    },
  };
}

type Labelled = Exclude<Piece, { kind: 'text' | 'text-end' | 'reasoning' }>;

function toLabelledLines(piece: Labelled, style: Style): string[] {
  switch (piece.kind) {
    case 'user':
      return sanitize(piece.text)
        .split('\n')
        .map((text, index) => (index === 0 ? `${style.bold('you:')} ${text}` : `  ${text}`));
    case 'turn-started':
    case 'tool-started':
      return [];
    case 'superseded':
      return [toSupersededLine(piece.attempt, piece.reason)];
    case 'tool':
      return [`tool: ${toToolLine(piece.call, style)}`, ...toToolDetails(piece.call, style)];
    case 'approval':
      return toApprovalLines(piece.approval, style);
    case 'approval-resolved':
      return [`approval: ${piece.callId} ${piece.decision} by ${sanitize(piece.by)}`];
    case 'notice':
      return [`${piece.level}: ${sanitize(piece.text)}`];
    case 'turn':
      return [style.dim(`turn: ${toTurnLine(piece.end)}`)];
    case 'state':
      return [style.dim(`state: ${piece.to} (${sanitize(piece.reason)})`)];
  }
}
