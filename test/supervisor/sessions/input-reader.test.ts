/** What an input says comes from memory or from the journal, and is the same either way. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { createHouse, demolish, type House } from '../house.ts';
import { overStore } from '../over-store.ts';
import { answers, createLatch, dataOf, say } from '../script.ts';

afterEach(demolish);

/** A house that says which inputs were read from the journal. */
async function counted() {
  const read: string[] = [];
  const held = createLatch();
  const gateway = answers({
    '1.1': async () => {
      await held.opened;
      return say('done');
    },
  });
  const house: House = await createHouse({
    script: { gateway },
    wrapStore: (store) =>
      overStore(store, {
        readInput(session, input) {
          read.push(input);
          return store.readInput(session, input);
        },
      }),
  });
  const id = await house.create();
  const said = (): string[] =>
    gateway.seen.map(({ messages }) => {
      const last = messages.at(-1);
      return last?.role === 'user' ? JSON.stringify(last.content) : '';
    });
  const accepted = async (): Promise<unknown[]> =>
    dataOf(await house.events(id), 'input.accepted').map(({ input_id }) => input_id);
  return { house, id, read, held, said, accepted };
}

const asText = (text: string): string => JSON.stringify([{ type: 'text', text }]);

describe('an input', () => {
  test('that finds its session idle is not read again', async () => {
    const { house, id, read, held, said } = await counted();
    held.open();
    await house.send(id, 'hello');
    await house.turnDone(id);
    expect(said()).toEqual([asText('hello')]);
    expect(read).toEqual([]);
  });

  test('that another one followed is read from the journal, the newest is not', async () => {
    const { house, id, read, held, said, accepted } = await counted();
    await house.send(id, 'one');
    await house.until(id, 'model.started');
    for (const text of ['two', 'three']) await house.send(id, text);
    held.open();
    await house.turnDone(id, 3);
    expect(said()).toEqual([asText('one'), asText('two'), asText('three')]);
    expect(read).toEqual([(await accepted())[1]]);
  });

  test('that is large is not kept in memory', async () => {
    const { house, id, read, held, said, accepted } = await counted();
    held.open();
    const large = 'x'.repeat(70_000);
    await house.send(id, large);
    await house.turnDone(id);
    expect(said()).toEqual([asText(large)]);
    expect(read).toEqual(await accepted());
  });
});
