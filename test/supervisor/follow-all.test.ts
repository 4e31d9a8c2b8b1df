/** The events of all sessions as one stream. */
import { describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { createHouse, type House } from './house.ts';

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
