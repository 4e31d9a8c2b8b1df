/** A hundred deaths in one moment: each is one exit and one replacement; and the gate that keeps
 *  their starts apart. */
import { afterEach, expect, test } from '@jest/globals';
import { createStartGate } from '../../../supervisor/children/start-gate.ts';
import { createHouse, demolish } from '../house.ts';
import { answers, createLatch, dataOf, say } from '../script.ts';

afterEach(demolish);

test('lets so many in, the rest in order, and those behind one that fails', async () => {
  const gate = createStartGate(2);
  const latches = [createLatch(), createLatch(), createLatch(), createLatch()];
  const begun: number[] = [];
  const runs = latches.map((latch, index) =>
    gate.run(async () => {
      begun.push(index);
      await latch.opened;
      if (index === 0) throw new Error('it died');
      return index;
    }),
  );
  const settled = Promise.allSettled(runs);
  const look = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  await look();
  expect(begun).toEqual([0, 1]);
  latches[0]?.open();
  await look();
  expect(begun).toEqual([0, 1, 2]);
  for (const latch of latches) latch.open();
  const ends = await settled;
  expect(begun).toEqual([0, 1, 2, 3]);
  expect(ends.map(({ status }) => status)).toEqual([
    'rejected',
    ...['fulfilled', 'fulfilled', 'fulfilled'],
  ]);
});

test('a hundred workers die at once: a hundred exits, a hundred replacements (FAULTS 9)', async () => {
  const COUNT = 100;
  const held = createLatch();
  const plan = { '1.1': async () => held.opened.then(() => say('done')) };
  const house = await createHouse({
    toml: `[agent.limits]\nmax_concurrent_sessions = ${COUNT}\n[agent.worker]\nwarm_pool = 0`,
    script: { gateway: answers(plan) },
  });
  const ids = await Promise.all(Array.from({ length: COUNT }, () => house.create()));
  await Promise.all(ids.map((id) => house.send(id, 'hello')));
  await Promise.all(ids.map((id) => house.until(id, 'model.started')));
  const before = house.machine.live('worker');
  expect(before).toHaveLength(COUNT);
  for (const worker of before) worker.die();
  await Promise.all(ids.map((id) => house.until(id, 'worker.started', 2)));
  held.open();
  await Promise.all(ids.map((id) => house.turnDone(id)));
  for (const id of ids) {
    const events = await house.events(id);
    expect(dataOf(events, 'worker.exited')).toHaveLength(1);
    expect(dataOf(events, 'worker.started')).toHaveLength(2);
  }
  expect(house.machine.of('worker')).toHaveLength(2 * COUNT);
});
