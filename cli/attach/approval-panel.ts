/** The call that waits, above the input of an attached terminal: what it is and which keys answer.
 *  Pure. It never takes more rows than it is given: what is cut is named, with where to read it. */
import { findQuestion } from '../../protocol/approval-words.ts';
import { toApprovalLines, toScopeLines } from '../session/approval-lines.ts';
import type { PendingApproval } from '../session/pieces.ts';
import type { Style } from '../text/style.ts';
import { wrapIndented } from '../text/width.ts';

export interface PanelOptions {
  readonly style: Style;
  readonly columns: number;
  /** At most this many lines, the blank one at the top included; at least 4. */
  readonly rows: number;
  readonly readOnly: boolean;
  /** Its arguments are in the input line. */
  readonly isEditing: boolean;
  /** Other calls that wait too. */
  readonly moreCount: number;
}

export function toPanelLines(approval: PendingApproval, options: PanelOptions): string[] {
  const { style, columns, moreCount } = options;
  const wrap = (line: string): string[] => wrapIndented(line, columns - 1);
  const more = moreCount > 0 ? style.dim(` · ${moreCount} more`) : '';
  const keys = wrap(`  ${style.bold(toKeys(approval, options))}${more}`);
  const call = toApprovalLines(approval, style).flatMap(wrap);
  const canAnswer = !options.readOnly && !options.isEditing;
  const scopes = canAnswer ? toScopeLines(approval, style).flatMap(wrap) : [];
  const room = Math.max(2, options.rows - 1 - keys.length);
  // What is asked goes before what the wider answers would mean.
  const shown = cut(call, room, '  … more: prx-supervisor approvals --json');
  const rest = cut(scopes, Math.max(0, room - shown.length), '  … more: approvals --json');
  return ['', ...shown, ...keys, ...rest];
}

function toKeys(approval: PendingApproval, { readOnly, isEditing }: PanelOptions): string {
  if (readOnly) return '(read-only: decide elsewhere)';
  if (isEditing) return 'Enter allows it with these arguments · Escape keeps the old ones';
  const question = findQuestion(approval);
  if (question === undefined) {
    const rule = approval.keeps === undefined ? '' : 'r by a rule · ';
    return `y once · a for this session · ${rule}n deny · e edit`;
  }
  const choose = question.options.length === 0 ? '' : 'or a number, ';
  return `type the answer, ${choose}and Enter · /deny declines`;
}

function cut(lines: readonly string[], rows: number, tail: string): readonly string[] {
  if (lines.length <= rows) return lines;
  return rows === 0 ? [] : [...lines.slice(0, rows - 1), tail];
}
