/** The reserve of an effect, and whatever else runs between an answer and whoever awaits it. */
import { describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../../protocol/events.ts';
import { toModelEffectId } from '../../../protocol/ids.ts';
import type { Permission } from '../../../supervisor/effects/ports.ts';
import { mayGoOn, reserve } from '../../../supervisor/effects/reserve.ts';
import { type Draft, draft } from '../../../supervisor/sessions/journal.ts';

/** A turn whose permission the test sets, and what was written under which. */
function createTurn(first: Permission) {
  let permission = first;
  let wake: () => void = () => undefined;
  const abort = new AbortController();
  const written: [type: string, under: Permission, aborted: boolean][] = [];
  const append = (...drafts: readonly Draft[]): Promise<readonly EventEnvelope[]> => {
    for (const { type } of drafts) written.push([type, permission, abort.signal.aborted]);
    return Promise.resolve([]);
  };
  const unused = (): never => {
    throw new Error('a reserve only appends');
  };
  const journal = {
    ...{ append, appendUnique: unused, record: unused, state: unused, isStopped: unused },
    ...{ outstanding: unused, nextLanding: unused, close: unused, assertOpen: unused },
  };
  const permissionChanged = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  const deps = { permission: () => permission, permissionChanged, journal };
  return {
    starting: { deps, signal: abort.signal },
    written,
    abort,
    become(next: Permission): void {
      permission = next;
      wake();
    },
  };
}

const EFFECT = draft('effect.resolved', { id: toModelEffectId(1, 1), how: 'sent' });
const toDrafts = (): Draft[] => [EFFECT];
/** More than there are between any two steps of a reserve. */
const TICKS = Array.from({ length: 12 }, (_, tick) => tick);

async function afterTicks(count: number, act: () => void): Promise<void> {
  for (let left = count; left > 0; left -= 1) await Promise.resolve();
  act();
}

describe('a reserve', () => {
  test.each(TICKS)(
    'is never behind a tombstone that comes %d steps later (regression)',
    async (tick) => {
      const { starting, written, become } = createTurn('go');
      const reserved = reserve(starting, toDrafts);
      await afterTicks(tick, () => become('stop'));
      const isReserved = await reserved;
      expect(written).toEqual(isReserved ? [['effect.resolved', 'go', false]] : []);
    },
  );

  test.each(TICKS)('is never in a pause that comes %d steps later', async (tick) => {
    const { starting, written, become } = createTurn('go');
    const reserved = reserve(starting, toDrafts);
    await afterTicks(tick, () => become('wait'));
    await afterTicks(TICKS.length, () => become('go'));
    expect(await reserved).toBe(true);
    expect(written).toEqual([['effect.resolved', 'go', false]]);
  });

  test.each(TICKS)('is never made for a turn that was cancelled %d steps later', async (tick) => {
    const { starting, written, abort } = createTurn('go');
    const reserved = reserve(starting, toDrafts);
    await afterTicks(tick, () => abort.abort());
    const isReserved = await reserved;
    expect(written).toEqual(isReserved ? [['effect.resolved', 'go', false]] : []);
  });

  test('waits for the end of a pause, and says then what it is', async () => {
    const { starting, written, become } = createTurn('wait');
    let said = 0;
    const reserved = reserve(starting, () => {
      said += 1;
      return [EFFECT];
    });
    await afterTicks(TICKS.length, () => expect([said, written]).toEqual([0, []]));
    become('go');
    expect(await reserved).toBe(true);
    expect(said).toBe(1);
  });

  test('of nothing writes nothing', async () => {
    const { starting, written } = createTurn('go');
    expect(await reserve(starting, () => [])).toBe(true);
    expect(written).toEqual([]);
  });

  test.each([
    ['go', true],
    ['stop', false],
  ] as const)('may go on: %s', async (permission, expected) => {
    expect(await mayGoOn(createTurn(permission).starting)).toBe(expected);
  });
});
