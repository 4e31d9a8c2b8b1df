/** A server that says again and again that its list has changed, and takes its time to tell it. */
import { expect, test } from '@jest/globals';
import { createRelisting } from '../../sandbox/mcp/relisting.ts';
import { createSteppedClock } from '../supervisor/stepped-clock.ts';

function create() {
  const clock = createSteppedClock();
  const asked: (() => void)[] = [];
  const relisting = createRelisting(clock, () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    asked.push(resolve);
    return promise;
  });
  return { clock, asked, relisting };
}

test('it is asked once for all that it says in a while, and not before it has answered', async () => {
  const { clock, asked, relisting } = create();
  for (let times = 0; times < 100; times += 1) relisting.changed();
  clock.advance(1999);
  expect(asked).toHaveLength(0);
  clock.advance(1);
  expect(asked).toHaveLength(1);
  for (let times = 0; times < 100; times += 1) {
    relisting.changed();
    clock.advance(2000);
  }
  expect(asked).toHaveLength(1);
  asked[0]?.();
  await clock.armed(2000);
  clock.advance(2000);
  expect(asked).toHaveLength(2);
  asked[1]?.();
  await Promise.resolve();
  clock.advance(60_000);
  expect(asked).toHaveLength(2);
});

test('it is not asked any more when it is closed', async () => {
  const { clock, asked, relisting } = create();
  relisting.changed();
  clock.advance(2000);
  relisting.changed();
  relisting.stop();
  asked[0]?.();
  await Promise.resolve();
  clock.advance(60_000);
  expect(asked).toHaveLength(1);
  expect(clock.waiting()).toBe(0);
});
