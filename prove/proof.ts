/** What a proof is: a campaign against real processes that counts what it did, and names whatever
 *  broke a promise. It judges by what the machine shows, never by asking the supervisor alone. */

export interface ProofOptions {
  /** How often the main act is done; each proof says what one run is. */
  readonly runs: number;
  /** Fixes what is drawn; the machine schedules as it likes. */
  readonly seed: string;
  /** The supervisor is started as an unprivileged user; needs root. */
  readonly asUser: boolean;
  readonly onProgress: (line: string) => void;
}

export interface Figure {
  readonly name: string;
  readonly unit: 'ms' | '×' | 'MB';
  readonly samples: readonly number[];
  /** What is promised: this quantile is at most `bound`. Absent: shown only. */
  readonly bound?: number;
  /** Absent: the 99th percentile. The median where each sample is a verdict of its own and the
   *  machine stops now and then. */
  readonly judged?: 'median';
}

export interface Outcome {
  /** What was done, and seen. */
  readonly counts: Readonly<Record<string, number>>;
  readonly figures: readonly Figure[];
  /** Promises that were broken, each with its place; empty: none was. */
  readonly violations: readonly string[];
  /** What this machine could not show, and why. */
  readonly notes: readonly string[];
}

export interface Proof {
  readonly name: string;
  /** One line: what is done, and what must hold. */
  readonly claim: string;
  /** The count that was promised. */
  readonly runs: number;
  run(options: ProofOptions): Promise<Outcome>;
}
