/** A cell that dies while it starts: whoever asked may ask again, and nothing of it is left. */
import { expect, test } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import { realRandom } from '../../base/random.ts';
import { startCell } from '../../sandbox/launch/cell.ts';
import { listProcesses, readCommandLine } from '../../sandbox/launch/process-tree.ts';

/** Says that it is ready, and has a child without a stage, as one whose mounts are gone. */
const UNSTAGED = '(exec "$0" -e "setTimeout(String, 60_000)" -- "$@") & echo ready; wait';

test('between its word that it is ready and our first file is no fault of the machine (regression)', async () => {
  const limitScript = `: ${realRandom.hex(8)}`;
  const started = startCell({
    programs: {
      builder: ['/bin/sh', '-c', UNSTAGED, process.execPath],
      mkfifo: '/x',
      perl: undefined,
    },
    identity: { uid: 1, gid: 1, drops: false },
    ...{ items: [], etc: { items: [], copies: [], places: [] }, limitScript },
    ...{ filter: Buffer.alloc(0), network: 'none' as const },
    ...{ clock: realClock, random: realRandom },
  });
  await expect(started).rejects.toMatchObject({
    code: 'SANDBOX_UNAVAILABLE',
    message: expect.stringMatching(/stage could not be filled/),
  });
  const left = listProcesses().filter((pid) => readCommandLine(pid).includes(limitScript));
  expect(left).toEqual([]);
});
