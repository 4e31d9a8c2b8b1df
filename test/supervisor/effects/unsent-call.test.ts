/** A tool call whose supervisor died between its reserve and its host: the journal has it, nobody
 *  ran it. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../../protocol/events.ts';
import { demolish, type House } from '../house.ts';
import { answers, createLatch, dataOf, runsEverything } from '../script.ts';
import { behind, reserved } from './reserved.ts';

afterEach(demolish);

const ends = (events: readonly EventEnvelope[]) => ({
  attempts: dataOf(events, 'tool.started').map(({ attempt }) => attempt),
  resolved: dataOf(events, 'effect.resolved').map(({ how }) => how),
  completed: dataOf(events, 'tool.completed').map(({ status }) => status),
});

describe('a call that was reserved and never sent', () => {
  test('is sent by the next supervisor, once', async () => {
    const { house, id } = await reserved();
    const host = runsEverything();
    const script = { gateway: answers({}), host };
    const next = await house.again({ script, wrapStore: (store) => store });
    await next.turnDone(id);
    expect(host.runs).toEqual(['1.1.1']);
    expect(ends(await next.events(id))).toEqual({
      attempts: [1],
      resolved: ['sent (it was reserved and never sent)'],
      completed: ['ok'],
    });
  });

  test('and whose turn is interrupted just then, is not sent (regression)', async () => {
    const { house, id } = await reserved();
    const host = runsEverything();
    const isUp = Promise.withResolvers<House>();
    const tombstone = createLatch();
    const next = await house.again({
      script: { gateway: answers({}), host },
      wrapStore: (store) => {
        const told = behind('interrupt.accepted', async () => tombstone.open())(store);
        return behind('effect.resolved', async () => {
          const { supervisor } = await isUp.promise;
          supervisor.interrupt(id, 'test').catch(() => undefined);
          await tombstone.opened;
        })(told);
      },
    });
    isUp.resolve(next);
    expect((await next.turnDone(id)).data).toMatchObject({ outcome: 'interrupted' });
    expect(host.runs).toEqual([]);
    expect(ends(await next.events(id)).completed).toEqual(['cancelled']);
  });
});
