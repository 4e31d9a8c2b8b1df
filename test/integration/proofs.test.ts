/** The campaigns of `npm run prove`, small: whatever is not a matter of time must hold in them too.
 *  Their times are for a quiet machine, and for the full counts. The bombs are in
 *  limits.test.ts. */
import { expect, test } from '@jest/globals';
import { realRandom } from '../../base/random.ts';
import { interrupt } from '../../prove/interrupt.ts';
import { killsBelowHost } from '../../prove/kills-below-host.ts';
import type { Outcome, Proof } from '../../prove/proof.ts';
import { stop } from '../../prove/stop.ts';
import { supervisorKills } from '../../prove/supervisor-kills.ts';

const PATIENCE_MS = 600_000;
const isRoot = process.getuid?.() === 0;

async function prove(proof: Proof, runs: number, asUser = false): Promise<Outcome> {
  const seed = process.env['SEED'] ?? realRandom.hex(6);
  const outcome = await proof.run({ runs, seed, asUser, onProgress: () => undefined });
  expect({ seed, violations: outcome.violations }).toEqual({ seed, violations: [] });
  return outcome;
}

test(
  '[promise:sandbox-dies] kills below a host leave no survivor, as an unprivileged user too',
  async () => {
    const { counts } = await prove(killsBelowHost, 12, isRoot);
    expect(counts['SIGKILL of a cell']).toBeGreaterThan(0);
  },
  PATIENCE_MS,
);

test(
  '[promise:supervisor-dies] its kills cost nothing twice, as an unprivileged user too (FAULTS 23, 24)',
  async () => {
    const { counts } = await prove(supervisorKills, 4, isRoot);
    expect(counts['model steps completed']).toBeGreaterThan(0);
  },
  PATIENCE_MS,
);

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
