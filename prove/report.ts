/** How an outcome is shown, and whether it holds. */
import type { Figure, Outcome, Proof } from './proof.ts';

const HEAD = ['figure', 'p50', 'p99', 'max', 'n', 'promised (p99)'];
const VIOLATIONS_SHOWN_MAX = 20;

export function isHeld({ violations, figures }: Outcome): boolean {
  return violations.length === 0 && figures.every(isWithin);
}

function isWithin({ samples, bound, judged }: Figure): boolean {
  if (bound === undefined) return true;
  return samples.length > 0 && toQuantile(samples, judged === 'median' ? 0.5 : 0.99) <= bound;
}

/** The nearest rank: with 20 samples the 99th percentile is the worst one. NaN of none. */
export function toQuantile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export function toText({ name, claim }: Proof, outcome: Outcome): string {
  const { counts, figures, violations, notes } = outcome;
  const shown = violations.slice(0, VIOLATIONS_SHOWN_MAX);
  const lines = [
    `${name}: ${claim}`,
    ...Object.entries(counts).map(([what, count]) => `  ${String(count).padStart(7)}  ${what}`),
    ...toTable(figures),
    ...notes.map((note) => `  note: ${note}`),
    ...shown.map((violation) => `  VIOLATION ${violation}`),
    ...(violations.length > shown.length
      ? [`  … and ${violations.length - shown.length} more`]
      : []),
    `  ${isHeld(outcome) ? 'holds' : 'DOES NOT HOLD'}: ${violations.length} violations`,
  ];
  return `${lines.join('\n')}\n`;
}

function toTable(figures: readonly Figure[]): readonly string[] {
  if (figures.length === 0) return [];
  const cells = [HEAD, ...figures.map(toCells)];
  const widths = HEAD.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells.map((row) => {
    const padded = row.map((cell, column) => {
      const width = widths[column] ?? 0;
      return column === 0 ? cell.padEnd(width) : cell.padStart(width);
    });
    return `  ${padded.join('  ')}`.trimEnd();
  });
}

function toCells(figure: Figure): string[] {
  const { name, unit, samples, bound, judged } = figure;
  const show = (value: number): string => `${format(value)} ${unit}`;
  const of = judged === undefined ? '' : `${judged} `;
  const verdict =
    bound === undefined ? '' : `${of}≤ ${bound} ${unit} ${isWithin(figure) ? '✓' : '✗'}`;
  const quantiles = [0.5, 0.99, 1].map((share) => show(toQuantile(samples, share)));
  return [name, ...quantiles, String(samples.length), verdict];
}

function format(value: number): string {
  return value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
}
