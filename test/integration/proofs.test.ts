/** The campaigns of `npm run prove` that kill, small: whatever is not a matter of time must hold in
 *  them too. Those that stop are in proofs-of-stops.test.ts, the bombs in limits.test.ts. */
import { expect, test } from '@jest/globals';
import { killsBelowHost } from '../../prove/kills-below-host.ts';
import { supervisorKills } from '../../prove/supervisor-kills.ts';
import { PATIENCE_MS, prove } from './small-proof.ts';

const isRoot = process.getuid?.() === 0;

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
