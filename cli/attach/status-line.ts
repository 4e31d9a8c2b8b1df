/** The line below the input: state, model, tokens, cost, and how to get out. Pure. */
import { formatCost, formatCount } from '../text/format.ts';
import type { Style } from '../text/style.ts';
import { sanitizeLine, truncate, widthOf } from '../text/width.ts';
import { spinnerAt, type View } from './view.ts';

export interface StatusOptions {
  readonly style: Style;
  readonly columns: number;
  readonly nowMs: number;
  readonly readOnly: boolean;
  readonly detachHint: string;
  /** A short-lived message, or that the supervisor is away. */
  readonly message: string | undefined;
}

/** 0 is never left out; the greatest is left out first. */
type Fact = readonly [text: string, rank: number];

export function toStatusLine(view: View, options: StatusOptions): string {
  const { feed } = view;
  const { style } = options;
  const isWaiting = feed.approvals.size > 0;
  const activity = isWaiting ? 'your answer is needed' : feed.inTurn ? `turn ${feed.turn}` : 'idle';
  const mark = isWaiting ? '?' : feed.inTurn ? spinnerAt(options.nowMs) : '●';
  const hint = ` · ${options.detachHint}`;
  const room = options.columns - hint.length - 1;
  const tokens = `${formatCount(feed.inputTokens)} in ${formatCount(feed.outputTokens)} out`;
  const state = feed.state === 'running' || feed.state === 'awaiting' ? activity : feed.state;
  const keys = options.readOnly ? 'read-only' : feed.inTurn ? 'Ctrl-C interrupts' : '/help';
  const facts: readonly Fact[] = [
    [`${mark} ${state}`, 0],
    [options.message === undefined ? '' : sanitizeLine(options.message), 0],
    [feed.queuedInputs > 0 ? `${feed.queuedInputs} queued` : '', 2],
    [sanitizeLine(feed.model), 3],
    [feed.inputTokens + feed.outputTokens === 0 ? '' : tokens, 4],
    [feed.costUsd > 0 ? formatCost(feed.costUsd) : '', 4],
    [keys, 1],
  ];
  // The way out is never what is cut.
  return style.dim(
    truncate(
      fitFacts(
        facts.filter(([text]) => text !== ''),
        room,
      ),
      room,
    ) + hint,
  );
}

/** Whole facts, without the least important ones where they do not fit. */
function fitFacts(facts: readonly Fact[], room: number): string {
  const line = facts.map(([text]) => text).join(' · ');
  const least = Math.max(...facts.map(([, rank]) => rank));
  if (widthOf(line) <= room || least === 0) return line;
  return fitFacts(
    facts.filter(([, rank]) => rank !== least),
    room,
  );
}
