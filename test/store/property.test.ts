import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { NewEvent } from '../../store/contract.ts';
import { withStore } from './setup.ts';
import { accepted, created, delta, renamed, sessionId } from './setup-events.ts';

const SESSIONS = 3;

interface Said {
  readonly n: number;
  readonly kind: string;
  readonly text: string;
}

/** One append: events of one or more sessions, and whether to wait for it before the next. */
const stepArb = fc.record({
  events: fc.array(
    fc.record({
      n: fc.integer({ min: 1, max: SESSIONS }),
      kind: fc.constantFrom('delta', 'rename', 'input'),
      text: fc.string({ unit: 'binary', maxLength: 40 }),
    }),
    { minLength: 1, maxLength: 5 },
  ),
  wait: fc.boolean(),
});

let inputs = 0;
function toEvent({ n, kind, text }: Said): NewEvent {
  if (kind === 'delta') return delta(text, n);
  if (kind === 'rename') return renamed(text, n);
  inputs += 1;
  return accepted(`in_${inputs}`, text, n);
}

describe('any interleaving of appends', () => {
  it('is gapless in each session, in call order, and verifies', () =>
    withStore(async (store) => {
      await store.append({ events: Array.from({ length: SESSIONS }, (_, i) => created(i + 1)) });
      const expected = new Map<number, unknown[]>();
      const run = async (
        steps: readonly { readonly events: readonly Said[]; readonly wait: boolean }[],
      ): Promise<void> => {
        const pending: Promise<unknown>[] = [];
        for (const { events, wait } of steps) {
          const drafts = events.map(toEvent);
          for (const [i, { n }] of events.entries()) {
            expected.set(n, [...(expected.get(n) ?? []), drafts[i]?.data]);
          }
          pending.push(store.append({ events: drafts }));
          if (wait) await pending.at(-1);
        }
        await Promise.all(pending);
      };
      await fc.assert(fc.asyncProperty(fc.array(stepArb, { maxLength: 12 }), run), {
        numRuns: 40,
      });
      for (let n = 1; n <= SESSIONS; n += 1) {
        const read: unknown[] = [];
        for (let since = 0; ; ) {
          const page = await store.readEvents(sessionId(n), { since, limit: 7 });
          expect(page.events.map(({ seq }) => seq)).toEqual(
            page.events.map((_, index) => since + index + 1),
          );
          read.push(...page.events.map(({ data }) => data));
          since = page.next;
          if (since === page.last_seq) break;
        }
        expect(read.slice(1)).toEqual(expected.get(n) ?? []);
      }
      expect((await store.verify()).problems).toEqual([]);
    }));
});
