/** What `sandbox run` says where its level cannot be had. */
import { PassThrough } from 'node:stream';
import { expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import { realRandom } from '../../base/random.ts';
import { probePolicy } from '../../sandbox/launch/probe.ts';
import { runOrdered } from '../../sandbox/order.ts';

test.each([
  [{}, 'no bwrap; or accept less: --level unshare or landlock\n'],
  [{ minimum: 'bubblewrap' }, 'no bwrap\n'],
])('a refusal names the option that accepts less, where that is allowed: %j', async (own, said) => {
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() };
  const order = { policy: probePolicy, command: ['true'], raw: false, json: false };
  const exit = await runOrdered({
    ...{ text: JSON.stringify({ ...order, levels: ['bubblewrap'], ...own }), env: {}, streams },
    ...{ clock: realClock, random: realRandom, onSignal: () => undefined },
    createBackend: async () => {
      throw new PrxError('SANDBOX_UNAVAILABLE', 'no bwrap');
    },
    probe: async () => ({ level: 'none', uid: 0 }),
  });
  expect(exit).not.toBe(0);
  expect(String(streams.stderr.read())).toBe(`prx-supervisor: ${said}`);
});
