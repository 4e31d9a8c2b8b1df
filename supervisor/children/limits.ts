/** The memory ladder of one worker: soft mark → it is asked to collect; still over at the next safe
 *  point → it is replaced between two turns; hard limit → it is killed at once. Pure. */

/** Share of the limit from which a worker is asked to collect. */
const SOFT = 0.85;
/** Share under which the soft mark is armed again: a worker that sways around it is told once. */
const REARM = 0.75;
/** Share from which a second source is asked, so that no single one is trusted near the limit. */
const NEAR = 0.7;
/** Samples in a row over the soft mark until it counts as pressed. */
const PRESSED_SAMPLES = 3;
/** The fastest growth we plan for on one core, bytes per second (measured: 0.9 to 1.8 GB/s). */
const GROWTH_BYTES_PER_SECOND = 2e9;
const INTERVAL_MS_MIN = 50;
export const INTERVAL_MS_MAX = 1000;

export interface Ladder {
  /** The soft mark was passed and not yet left behind. */
  readonly isSoft: boolean;
  /** Samples in a row over the soft mark. */
  readonly samplesOver: number;
}

export type LadderAction = 'none' | 'collect' | 'kill';

export const GROUND: Ladder = { isSoft: false, samplesOver: 0 };

/** One more sample. The hard limit needs no second one. */
export function stepLadder(
  ladder: Ladder,
  bytes: number,
  limitBytes: number,
): { readonly ladder: Ladder; readonly action: LadderAction } {
  if (bytes > limitBytes) return { ladder, action: 'kill' };
  if (bytes < limitBytes * REARM) return { ladder: GROUND, action: 'none' };
  if (bytes < limitBytes * SOFT) return { ladder: { ...ladder, samplesOver: 0 }, action: 'none' };
  const next = { isSoft: true, samplesOver: ladder.samplesOver + 1 };
  return { ladder: next, action: ladder.isSoft ? 'none' : 'collect' };
}

/** It has been asked to collect, and that did not help: replace it between two turns. */
export function isPressed({ isSoft, samplesOver }: Ladder): boolean {
  return isSoft && samplesOver >= PRESSED_SAMPLES;
}

export function isNear(bytes: number, limitBytes: number): boolean {
  return bytes >= limitBytes * NEAR;
}

/** The next sample comes before the fastest growth could use up what is left: 50 ms to 1 s. */
export function toIntervalMs(headroomBytes: number): number {
  const plain = (headroomBytes / GROWTH_BYTES_PER_SECOND) * 1000;
  return Math.round(Math.min(INTERVAL_MS_MAX, Math.max(INTERVAL_MS_MIN, plain)));
}
