/** The pen of a session over a store that answers when the test says so. */
import { expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../../protocol/events.ts';
import type { AppendRequest, AppendResult, SessionRecord, Store } from '../../../store/contract.ts';
import { createBus } from '../../../supervisor/sessions/bus.ts';
import { draft, openSessionJournal } from '../../../supervisor/sessions/journal.ts';

const id = 's_0123456789abcdef';

test('an append is answered when it is published, not when it is stored', async () => {
  const waiting: (() => void)[] = [];
  let seq = 0;
  const append = ({ events }: AppendRequest): Promise<AppendResult> => {
    const stored = events.map(({ type, data }) => {
      seq += 1;
      return { session: id, seq, epoch: 1, time: '', type, data } as EventEnvelope;
    });
    return new Promise((resolve) => {
      waiting.push(() => resolve({ kind: 'appended', events: stored }));
    });
  };
  const store = { append } as unknown as Store; // nothing else is asked for
  const published: number[] = [];
  const initial = { id, last_seq: 0, state: 'running' } as SessionRecord;
  const journal = openSessionJournal({ store, bus: createBus(4) }, initial, (_, event) => {
    published.push(event.seq);
  });
  const renamed = (name: string) => journal.append(draft('session.renamed', { name }));
  let isAnswered = false;
  const first = renamed('first');
  const second = renamed('second').then(() => {
    isAnswered = true;
  });
  const [storeFirst, storeSecond] = waiting;
  storeSecond?.();
  await new Promise(setImmediate);
  expect([isAnswered, published]).toEqual([false, []]);
  storeFirst?.();
  await Promise.all([first, second]);
  expect(published).toEqual([1, 2]);
});
