/** A region at the bottom of the terminal that is redrawn, below lines that are written once and
 *  scroll away. No alternate screen: what was said stays in the scroll-back. Each update is one
 *  write, inside a synchronized update where the terminal knows it, so nothing flickers. */
import { columnsOf, type Output, rowsOf } from '../machine.ts';
import { fitLine, widthOf, wrapLine } from '../text/width.ts';

export interface LiveRegion {
  /** Each at most one row; longer ones are cut. */
  readonly lines: readonly string[];
  /** Where the cursor stands in `lines`; absent: hidden. */
  readonly cursor: { readonly row: number; readonly column: number } | undefined;
}

export interface Screen {
  readonly columns: number;
  readonly rows: number;
  /** Writes `committed` for good and the region below it. */
  draw(committed: readonly string[], live: LiveRegion): void;
  /** Removes the region; the cursor is at the start of an empty line and visible. */
  close(): void;
}

const SYNC_START = '\u001b[?2026h';
const SYNC_END = '\u001b[?2026l';
const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';

export function createScreen(output: Output): Screen {
  let drawn: readonly string[] = [];
  let cursorRow = 0;
  const toTop = (): string => {
    // Lines of an earlier width may take more rows now: the terminal has wrapped them.
    const columns = columnsOf(output);
    const above = drawn.slice(0, cursorRow);
    const rows = above.reduce((sum, line) => sum + rowsOfLine(line, columns), 0);
    return `${rows > 0 ? `\u001b[${rows}A` : ''}\r`;
  };
  return {
    get columns() {
      return columnsOf(output);
    },
    get rows() {
      return rowsOf(output);
    },
    draw(committed, live) {
      const columns = columnsOf(output);
      const wrapped = committed.flatMap((line) => wrapLine(line, columns));
      const lines = live.lines.map((line) => fitLine(line, columns - 1));
      const text = [
        SYNC_START,
        HIDE_CURSOR,
        toTop(),
        // Row by row: what is cleared from the first row of the terminal at once is put into the
        // scroll-back by tmux, a copy for each draw.
        ...wrapped.map((line) => `${CLEAR_LINE}${line}\r\n`),
        lines.map((line) => `${CLEAR_LINE}${line}`).join('\r\n'),
        CLEAR_BELOW,
      ];
      cursorRow = Math.max(0, lines.length - 1);
      if (live.cursor !== undefined) {
        const up = cursorRow - live.cursor.row;
        cursorRow = live.cursor.row;
        const right = live.cursor.column > 0 ? `\u001b[${live.cursor.column}C` : '';
        text.push(`${up > 0 ? `\u001b[${up}A` : ''}\r${right}${SHOW_CURSOR}`);
      }
      drawn = lines;
      output.write(`${text.join('')}${SYNC_END}`);
    },
    close() {
      output.write(`${toTop()}${CLEAR_BELOW}${SHOW_CURSOR}`);
      drawn = [];
      cursorRow = 0;
    },
  };
}

function rowsOfLine(line: string, columns: number): number {
  return Math.max(1, Math.ceil(widthOf(line) / columns));
}
