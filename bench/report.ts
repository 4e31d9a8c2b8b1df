/** How figures are shown: aligned text for a terminal, or the table of docs/benchmarks.md. */
import { type Summary, summarize } from './stats.ts';

export type Unit = 'ms' | '×' | 'MB' | '%' | 'µs' | 'processes' | 'req/s' | 'kB';

export interface Row {
  readonly name: string;
  readonly unit: Unit;
  readonly samples: readonly number[];
  /** The median should be at most this, in the same unit. Absent: shown for comparison. */
  readonly aim?: number;
}

export interface Section {
  readonly title: string;
  readonly rows: readonly Row[];
}

const HEAD = ['figure', 'median', 'min', 'p95', 'n', 'aim'];

export function toText({ title, rows }: Section): string {
  const cells = [HEAD, ...rows.map(toCells)];
  const widths = HEAD.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return column === 0 ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd(),
  );
  return `${title}\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

export function toMarkdown(sections: readonly Section[]): string {
  const lines = [HEAD, HEAD.map((_, column) => (column === 0 ? '---' : '---:'))];
  for (const { title, rows } of sections) {
    lines.push([`**${title}**`, '', '', '', '', ''], ...rows.map(toCells));
  }
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('');
}

function toCells({ name, unit, samples, aim }: Row): string[] {
  const { median, min, p95, n }: Summary = summarize(samples);
  const show = (value: number): string => `${format(value)} ${unit}`;
  const verdict = aim === undefined ? '' : `≤ ${aim} ${unit} ${median <= aim ? '✓' : '✗'}`;
  return [name, show(median), show(min), show(p95), String(n), verdict];
}

function format(value: number): string {
  return value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
}
