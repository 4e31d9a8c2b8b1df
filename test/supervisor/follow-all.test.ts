/** The events of all sessions as one stream, and the system's own. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { createHouse, demolish, type House } from './house.ts';

afterEach(demolish);

interface Step {
  readonly event: EventEnvelope;
  readonly cursor: string;
}

async function take(house: House, count: number, cursor?: string): Promise<Step[]> {
  const leaving = new AbortController();
  const steps: Step[] = [];
  for await (const step of house.supervisor.followAll(cursor, leaving.signal)) {
    steps.push(step);
    if (steps.length === count) break;
  }
  leaving.abort();
  return steps;
}

describe('the stream of all sessions', () => {
  test('goes on behind any of its events, also within what was read at once', async () => {
    const house = await createHouse();
    const [one, two] = [await house.create(), await house.create()];
    await house.send(one, 'hi');
    await house.send(two, 'hi');
    await Promise.all([house.turnDone(one), house.turnDone(two)]);
    const page = await house.supervisor.readAllEvents(undefined, 1000);
    const whole = await take(house, page.events.length);
    expect(whole.map(({ event }) => event)).toEqual(page.events);
    expect(new Set(whole.map(({ cursor }) => cursor)).size).toBe(whole.length);
    for (const [at, { cursor }] of whole.slice(0, -1).entries()) {
      expect(await take(house, 1, cursor)).toEqual([whole[at + 1]]);
    }
  });
});

describe('the events of the system', () => {
  test('are read and followed like those of a session: the past, then live', async () => {
    const house = await createHouse();
    const append = async (reason: string): Promise<void> => {
      const event = { session: 'system', type: 'store.repaired', data: { reason } } as const;
      await house.store.append({ events: [event] });
      house.runtime.hearChange();
    };
    await append('one');
    const past = await house.supervisor.readEvents('system', { since: 0, limit: 100 });
    const last = past.events.at(-1);
    expect(last).toMatchObject({ session: 'system', data: { reason: 'one' } });
    expect(last?.seq).toBe(past.last_seq);
    const leaving = new AbortController();
    const options = { since: past.last_seq - 1, signal: leaving.signal };
    const seen: EventEnvelope[] = [];
    for await (const event of await house.supervisor.followEvents('system', options)) {
      seen.push(event);
      if (seen.length === 1) await append('two');
      else leaving.abort();
    }
    expect(seen.map(({ seq, data }) => [seq, data])).toEqual([
      [past.last_seq, { reason: 'one' }],
      [past.last_seq + 1, { reason: 'two' }],
    ]);
    const beyond = { since: past.last_seq + 9, signal: leaving.signal };
    await expect(house.supervisor.followEvents('system', beyond)).rejects.toMatchObject({
      code: 'CURSOR_SUPERSEDED',
    });
  });
});
