/** A session of which retention removed the first events does all that another one does. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { createHouse, demolish } from '../house.ts';
import { answers, call, createLatch, dataOf, say } from '../script.ts';

afterEach(demolish);

const LONG = 'x'.repeat(9000);
/** More than retention leaves standing so that not each new event costs a removal. */
const DELTAS = 150;

const toml = `
[agent.loop]
compaction_threshold_tokens = 2500
[agent.worker]
warm_pool = 0
`;

describe('a turn of a session whose first events are gone', () => {
  test('goes on behind its compaction when its worker dies (regression)', async () => {
    const [asked, answer] = [createLatch(), createLatch()];
    const gateway = answers({
      '1.1': async (_, handle) => {
        for (let count = 0; count < DELTAS; count += 1) handle.delta(`${count}`, count + 1);
        return say(LONG, [call('a', 'ls')]);
      },
      '1.2': say('more', [call('b', 'ls')]),
      '1.3': say('a summary'),
      '1.4': say('the end'),
      '2.1': say(LONG, [call('c', 'ls')]),
      '2.2': say('more', [call('d', 'ls')]),
      '2.3': say('another summary'),
      '2.4': async () => {
        asked.open();
        await answer.opened;
        return say('the end again');
      },
    });
    const house = await createHouse({ toml, script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    expect(await house.store.trim(1)).toMatchObject({ sessions: 1 });
    const { last_seq: since } = house.session(id).record();
    await house.send(id, 'and now?');
    await asked.opened;
    house.machine.live('worker')[0]?.die();
    answer.open();
    const end = new AbortController();
    const followed = await house.supervisor.followEvents(id, { since, signal: end.signal });
    for await (const { type } of followed) if (type === 'turn.completed') break;
    end.abort();
    const { events } = await house.store.readEvents(id, { since, limit: 1000 });
    expect(dataOf(events, 'turn.completed')).toMatchObject([{ turn: 2, outcome: 'completed' }]);
    expect(dataOf(events, 'context.compacted').map(({ step }) => step)).toEqual([1, 2, 3]);
  });
});
