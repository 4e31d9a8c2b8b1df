/** When a workspace is looked through. The guard is made up: only so can a test hold a scan in its
 *  middle, which on a disk takes as long as the workspace is large. */
import { expect, test } from '@jest/globals';
import { silentLogger } from '../../base/logger.ts';
import { createScanner } from '../../sandbox/scanner.ts';
import { createSteppedClock } from '../supervisor/stepped-clock.ts';

test('the end of a host waits for the scan that has begun (regression)', async () => {
  const clock = createSteppedClock();
  const steps: string[] = [];
  let finish: () => void = () => undefined;
  const guard = {
    watch: () => undefined,
    async scan() {
      steps.push('begun');
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      steps.push('renamed');
      return [];
    },
  };
  const activity = { isIdle: () => true, hasProcesses: () => false };
  const scanner = createScanner({ guard, clock, logger: silentLogger }, activity);
  scanner.scanLater();
  clock.advance(1000);
  await Promise.resolve();
  expect(steps).toEqual(['begun']);
  const ended = scanner.scan().then(() => steps.push('ended'));
  await new Promise((resolve) => setImmediate(resolve));
  finish();
  await ended;
  expect(steps).toEqual(['begun', 'renamed', 'ended']);
});
