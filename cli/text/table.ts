/** Listings: aligned columns for people, tab-free plain lines when piped, flat labelled lines for
 *  a screen reader. Pure. */
import type { Style } from './style.ts';
import { padEnd, padStart, sanitizeLine, truncate, widthOf } from './width.ts';

export interface Column {
  readonly title: string;
  readonly align?: 'right';
  /** Gives way first when the terminal is too narrow; never below 6 columns. */
  readonly flexible?: boolean;
}

export interface TableOptions {
  /** labelled: one line per row, every value with its name. */
  readonly layout: 'columns' | 'labelled';
  /** Columns of the terminal; Infinity when piped: then nothing is cut. */
  readonly width: number;
  readonly style: Style;
  /** Colours a cell after it was padded. */
  readonly paint?: (title: string, value: string, cell: string) => string;
}

const GAP_CHARS = 2;
/** Tried before a value is cut. */
const NARROW_GAP_CHARS = 1;
const FLEXIBLE_MIN = 6;

export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  options: TableOptions,
): string[] {
  const cells = rows.map((row) => row.map((cell) => sanitizeLine(cell) || '-'));
  if (options.layout === 'labelled') return cells.map((row) => labelled(columns, row));
  const { widths, gapChars } = fitWidths(columns, cells, options.width);
  const paint = options.paint ?? ((_title, _value, cell) => cell);
  const line = (row: readonly string[], finish: typeof paint): string =>
    columns
      .map((column, index) => {
        const value = row[index] ?? '';
        const width = widths[index] ?? 0;
        const shown = truncate(value, width);
        const cell = column.align === 'right' ? padStart(shown, width) : padEnd(shown, width);
        return finish(column.title, value, cell);
      })
      .join(' '.repeat(gapChars))
      .trimEnd();
  const titles = columns.map((column) => column.title);
  return [
    line(titles, (_title, _value, cell) => options.style.bold(cell)),
    ...cells.map((row) => line(row, paint)),
  ];
}

function labelled(columns: readonly Column[], row: readonly string[]): string {
  return columns
    .map((column, index) => `${column.title.toLowerCase()}: ${row[index] ?? '-'}`)
    .join(', ');
}

function fitWidths(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number,
): { readonly widths: readonly number[]; readonly gapChars: number } {
  const widths = columns.map((column, index) =>
    Math.max(widthOf(column.title), ...rows.map((row) => widthOf(row[index] ?? ''))),
  );
  const total = (gapChars: number): number =>
    widths.reduce((sum, value) => sum + value, 0) + gapChars * (columns.length - 1);
  const gapChars = total(GAP_CHARS) <= width ? GAP_CHARS : NARROW_GAP_CHARS;
  // One column at a time from the widest flexible one: a name stays readable as long as possible.
  while (total(gapChars) > width) {
    const widest = columns
      .map((column, index) => ({ flexible: column.flexible === true, index }))
      .filter(({ flexible, index }) => flexible && (widths[index] ?? 0) > FLEXIBLE_MIN)
      .sort((a, b) => (widths[b.index] ?? 0) - (widths[a.index] ?? 0))[0];
    if (widest === undefined) break;
    widths[widest.index] = (widths[widest.index] ?? 0) - 1;
  }
  return { widths, gapChars };
}

/** `key: value` lines with the values aligned; flat when labelled. */
export function renderFields(
  fields: readonly (readonly [string, string])[],
  options: Pick<TableOptions, 'layout' | 'style'>,
): string[] {
  const width = Math.max(0, ...fields.map(([key]) => widthOf(key) + 1));
  return fields.map(([key, value]) =>
    options.layout === 'labelled'
      ? `${key}: ${sanitizeLine(value)}`
      : `${options.style.dim(padEnd(`${key}:`, width))} ${sanitizeLine(value)}`,
  );
}
