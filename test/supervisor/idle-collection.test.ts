/** When the supervisor collects: when it is quiet, and there is something to gain. */
import { expect, test } from '@jest/globals';
import { startIdleCollection } from '../../supervisor/idle-collection.ts';
import { createSteppedClock } from './stepped-clock.ts';

const MB = 2 ** 20;

/** Each look is [busy share, heap in MB before it]; the heap is 20 MB after a collection. */
async function run(looks: readonly (readonly [busy: number, usedMb: number])[]): Promise<number[]> {
  const clock = createSteppedClock();
  let used = 20;
  let busy = 0;
  let at = 0;
  const collected: number[] = [];
  const stop = startIdleCollection(clock, {
    usedBytes: () => used * MB,
    busyShare: () => busy,
    collect: () => {
      collected.push(at);
      used = 20;
    },
  });
  for (const [share, usedMb] of looks) {
    at += 1;
    [busy, used] = [share, usedMb];
    clock.advance(5000);
    await clock.armed(5000);
  }
  stop();
  return collected;
}

test.each([
  [
    'two quiet looks and growth: once',
    [
      [0, 40],
      [0, 40],
      [0, 20],
      [0, 20],
    ] as const,
    [2],
  ],
  [
    'while it works: never',
    [
      [0.5, 90],
      [0.03, 90],
      [0.5, 90],
      [0, 90],
    ] as const,
    [],
  ],
  [
    'no growth: never',
    [
      [0, 23],
      [0, 23],
      [0, 23],
    ] as const,
    [],
  ],
  [
    'again when it has grown again',
    [
      [0, 40],
      [0, 40],
      [0.9, 60],
      [0, 60],
      [0, 60],
    ] as const,
    [2, 5],
  ],
])('%s', async (_name, looks, expected) => {
  expect(await run(looks)).toEqual(expected);
});
