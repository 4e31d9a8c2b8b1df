/** Figures of a sample: the median says what is usual, p95 what is rare, and the minimum what is
 *  left when nobody else uses the machine. No mean: one pause of a shared core would own it. */

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly p95: number;
  readonly n: number;
}

/** @throws RangeError for an empty sample. */
export function summarize(samples: readonly number[]): Summary {
  const sorted = samples.toSorted((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    min: quantile(sorted, 0),
    p95: quantile(sorted, 0.95),
    n: sorted.length,
  };
}

/** Between the two nearest samples, linearly. */
function quantile(sorted: readonly number[], share: number): number {
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  if (low === undefined || high === undefined)
    throw new RangeError('an empty sample has no figures');
  return low + (high - low) * (at - Math.floor(at));
}

/** Each sample over (or minus) the one of the other side that was taken right beside it, so that
 *  what the machine did meanwhile happened to both. */
export function pairwise(
  a: readonly number[],
  b: readonly number[],
  combine: (a: number, b: number) => number,
): number[] {
  if (a.length !== b.length) throw new RangeError(`pairs of ${a.length} and ${b.length} samples`);
  return a.flatMap((value, index) => {
    const other = b[index];
    return other === undefined ? [] : [combine(value, other)];
  });
}

export const ratio = (a: number, b: number): number => a / b;
export const difference = (a: number, b: number): number => a - b;

/** A clock that all processes of a machine share: monotonic, from its boot. */
export const nowSharedMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** What that clock showed at a time of this process's `performance.now()`. */
export const toSharedMs = (atMs: number): number => nowSharedMs() - performance.now() + atMs;
