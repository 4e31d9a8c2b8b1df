/** The line below the input: state, model, tokens, cost, and how to get out. Pure. */
import { formatCost, formatCount } from '../text/format.ts';
import type { Style } from '../text/style.ts';
import { sanitizeLine, truncate } from '../text/width.ts';
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

export function toStatusLine(view: View, options: StatusOptions): string {
  const { feed } = view;
  const { style } = options;
  const isWaiting = feed.approvals.size > 0;
  const activity = isWaiting ? 'approval needed' : feed.inTurn ? `turn ${feed.turn}` : 'idle';
  const mark = isWaiting ? '?' : feed.inTurn ? spinnerAt(options.nowMs) : '●';
  const facts = [
    `${mark} ${feed.state === 'running' || feed.state === 'awaiting' ? activity : feed.state}`,
    ...(options.message === undefined ? [] : [sanitizeLine(options.message)]),
    ...(feed.queuedInputs > 0 ? [`${feed.queuedInputs} queued`] : []),
    ...(feed.model === '' ? [] : [sanitizeLine(feed.model)]),
    ...(feed.inputTokens + feed.outputTokens === 0
      ? []
      : [`${formatCount(feed.inputTokens)} in ${formatCount(feed.outputTokens)} out`]),
    ...(feed.costUsd > 0 ? [formatCost(feed.costUsd)] : []),
    ...(options.readOnly ? ['read-only'] : feed.inTurn ? ['Ctrl-C interrupts'] : ['/help']),
  ];
  // The way out is never what is cut.
  const hint = ` · ${options.detachHint}`;
  return style.dim(truncate(facts.join(' · '), options.columns - hint.length - 1) + hint);
}
