/** The campaigns of `npm run prove` that stop, small: in a file of their own, so that the longest
 *  test of a clean clone is not the last one and alone. */
import { expect, test } from '@jest/globals';
import { interrupt } from '../../prove/interrupt.ts';
import { stop } from '../../prove/stop.ts';
import { PATIENCE_MS, prove } from './small-proof.ts';

test(
  'interrupt, suspend and close reach their state whatever runs (FAULTS 15, 25, 26, 27)',
  async () => {
    const { counts } = await prove(interrupt, 1);
    expect(counts).toMatchObject({ 'times interrupt': 12, 'times suspend': 12, 'times close': 12 });
  },
  PATIENCE_MS,
);

test(
  'SIGTERM under load leaves only what is written down; a second one does not wait (FAULTS 22)',
  async () => {
    const { counts } = await prove(stop, 1);
    expect(counts['turns that the next supervisor ended well']).toBe(16);
  },
  PATIENCE_MS,
);
