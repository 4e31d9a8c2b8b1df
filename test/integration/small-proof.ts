/** A campaign of `npm run prove` as a test: small, and without its times, which are for a quiet
 *  machine. */
import { expect } from '@jest/globals';
import { realRandom } from '../../base/random.ts';
import type { Outcome, Proof } from '../../prove/proof.ts';

export const PATIENCE_MS = 600_000;

export async function prove(proof: Proof, runs: number, asUser = false): Promise<Outcome> {
  const seed = process.env['SEED'] ?? realRandom.hex(6);
  const outcome = await proof.run({ runs, seed, asUser, onProgress: () => undefined });
  expect({ seed, violations: outcome.violations }).toEqual({ seed, violations: [] });
  return outcome;
}
