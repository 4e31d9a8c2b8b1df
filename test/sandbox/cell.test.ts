/** A cell that dies while it starts: whoever asked may ask again, and nothing of it is left. */
import { expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { realRandom } from '../../base/random.ts';
import { type Cell, startCell } from '../../sandbox/launch/cell.ts';
import { findProcesses, waitUntilGone } from './processes.ts';

/** Says that it is ready, and has a child without a stage, as one whose mounts are gone. */
const startUnstaged = (child: string, limitScript: string): Promise<Cell> =>
  startCell({
    programs: {
      builder: ['/bin/sh', '-c', `(exec ${child}) & echo ready; wait`, process.execPath],
      mkfifo: '/x',
      perl: undefined,
    },
    identity: { uid: 1, gid: 1, drops: false },
    ...{ system: [], items: [], etc: { items: [], copies: [], places: [] }, limitScript },
    ...{ filter: Buffer.alloc(0), network: 'none' as const },
    ...{ clock: realClock, random: realRandom },
  });

const asStageless = {
  code: 'SANDBOX_UNAVAILABLE',
  message: expect.stringMatching(/stage could not be filled/),
};

test('between its word that it is ready and our first file is no fault of the machine (regression)', async () => {
  const limitScript = `: ${realRandom.hex(8)}`;
  const child = '"$0" -e "setTimeout(String, 3600_000)" -- "$@"';
  await expect(startUnstaged(child, limitScript)).rejects.toMatchObject(asStageless);
  await waitUntilGone(() => findProcesses(new RegExp(limitScript)));
});

test('takes along what has another command line, or none while it becomes another program (regression)', async () => {
  await expect(startUnstaged('sleep 4891.75', ':')).rejects.toMatchObject(asStageless);
  await waitUntilGone(() => findProcesses(/^sleep 4891\.75$/));
});
