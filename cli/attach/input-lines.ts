/** The rows of the input line, and where its cursor stands in them. Pure. */
import type { Style } from '../text/style.ts';
import { sanitize, toGraphemes, widthOf } from '../text/width.ts';
import { type Editor, textOf } from './editor.ts';

const INPUT_ROWS_MAX = 8;

export interface InputLines {
  readonly lines: readonly string[];
  readonly row: number;
  readonly column: number;
}

/** @param label  one column and a blank, in front of the first row. */
export function toInputLines(
  editor: Editor,
  { style, columns, label }: { style: Style; columns: number; label: string },
): InputLines {
  const width = Math.max(10, columns - 4);
  const before = editor.graphemes.slice(0, editor.cursor).join('');
  // Split hard at the width, not at words: the cursor's place is then a plain division.
  const rowsOf = (text: string): string[] =>
    sanitize(text)
      .split('\n')
      .flatMap((line) => splitHard(line, width));
  const all = rowsOf(textOf(editor));
  const head = rowsOf(before);
  const row = head.length - 1;
  const from = Math.max(0, Math.min(row - INPUT_ROWS_MAX + 1, all.length - INPUT_ROWS_MAX));
  const shown = all.slice(from, from + INPUT_ROWS_MAX);
  return {
    lines: shown.map((line, at) => `${at === 0 ? style.cyan(label) : '  '}${line}`),
    row: row - from,
    column: 2 + widthOf(head.at(-1) ?? ''),
  };
}

/** Rows of exactly the width, wherever words end; at least one. */
function splitHard(line: string, width: number): string[] {
  const rows = [''];
  for (const grapheme of toGraphemes(line)) {
    const row = rows.at(-1) ?? '';
    if (row !== '' && widthOf(row) + widthOf(grapheme) > width) rows.push(grapheme);
    else rows[rows.length - 1] = row + grapheme;
  }
  return rows;
}
