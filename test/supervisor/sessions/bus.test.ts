/** Readers of one session: gapless, each event once, in sequence, whatever the order in which
 *  commits become durable and however slow they read. */
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { EventEnvelope } from '../../../protocol/events.ts';
import { type Bus, createBus, type FollowSource } from '../../../supervisor/sessions/bus.ts';

const SESSION = 's_0123456789abcdef';

function event(seq: number): EventEnvelope {
  return { session: SESSION, seq, epoch: 1, time: '', type: 'model.delta', data: {} } as never;
}

/** A journal: what is committed, read up to what is published, as the supervisor reads it. */
function createJournal(bus: Bus): FollowSource & { events: EventEnvelope[]; reads: number } {
  const journal = {
    events: [] as EventEnvelope[],
    reads: 0,
    async read(since: number, limit: number) {
      journal.reads += 1;
      const published = bus.publishedSeq(SESSION) ?? journal.events.length;
      const page = journal.events.filter(({ seq }) => seq > since && seq <= published);
      const events = page.sort((a, b) => a.seq - b.seq).slice(0, limit);
      return { events, next: events.at(-1)?.seq ?? since, last_seq: published };
    },
  };
  return journal;
}

interface Reader {
  readonly seen: number[];
  readonly done: Promise<void>;
}

function startReader(
  bus: Bus,
  source: FollowSource,
  { since, until, pauses }: { since: number; until: number; pauses: readonly number[] },
  signal: AbortSignal,
): Reader {
  const seen: number[] = [];
  const read = async (): Promise<void> => {
    for await (const { seq } of bus.follow(SESSION, since, source, signal)) {
      seen.push(seq);
      if (seq >= until) return;
      // A slow reader: lets others go on for some turns of the event loop.
      const turns = pauses[seen.length % Math.max(1, pauses.length)] ?? 0;
      for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
    }
  };
  return { seen, done: since >= until ? Promise.resolve() : read() };
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index + 1);

/** A run of batches in the order in which they become durable. */
const runs = fc
  .array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 12 })
  .chain((sizes) =>
    fc.record({
      sizes: fc.constant(sizes),
      order: fc.shuffledSubarray(range(-1, sizes.length - 1), { minLength: sizes.length }),
      gaps: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 5 }),
      bufferSize: fc.integer({ min: 1, max: 4 }),
      readers: fc.array(
        fc.record({
          since: fc.integer({ min: 0, max: 6 }),
          pauses: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
        }),
        { minLength: 1, maxLength: 3 },
      ),
    }),
  );

function cut(sizes: readonly number[]): EventEnvelope[][] {
  let last = 0;
  return sizes.map((size) => {
    const batch = range(last, last + size).map(event);
    last += size;
    return batch;
  });
}

describe('[promise:gapless-sequence] the bus', () => {
  test('shows every reader since+1 … last, each once, whatever the order of commits (FAULTS 63)', async () => {
    await fc.assert(
      fc.asyncProperty(runs, async ({ sizes, order, gaps, bufferSize, readers }) => {
        const bus = createBus(bufferSize);
        const journal = createJournal(bus);
        bus.open(SESSION, 0);
        const batches = cut(sizes);
        const last = sizes.reduce((sum, size) => sum + size, 0);
        const end = new AbortController();
        const started = readers.map(({ since, pauses }) =>
          startReader(
            bus,
            journal,
            { since: Math.min(since, last), until: last, pauses },
            end.signal,
          ),
        );
        const applied: number[] = [];
        for (const [index, position] of order.entries()) {
          const batch = batches[position] ?? [];
          journal.events.push(...batch);
          bus.commit(batch, ({ seq }) => applied.push(seq));
          const turns = gaps[index % gaps.length] ?? 0;
          for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
        }
        await bus.reached(SESSION, last);
        await Promise.all(started.map(({ done }) => done));
        end.abort();
        expect(applied).toEqual(range(0, last));
        for (const [index, { seen }] of started.entries()) {
          expect(seen).toEqual(range(Math.min(readers[index]?.since ?? 0, last), last));
        }
      }),
      { numRuns: 150 },
    );
  });

  test('reads the same past once for a crowd, which shares its events', async () => {
    const bus = createBus(8);
    const journal = createJournal(bus);
    bus.open(SESSION, 0);
    const past = range(0, 250).map(event);
    journal.events.push(...past);
    bus.commit(past, () => undefined);
    const end = new AbortController();
    const crowd = range(0, 50).map(() =>
      startReader(bus, journal, { since: 0, until: 250, pauses: [] }, end.signal),
    );
    await Promise.all(crowd.map(({ done }) => done));
    end.abort();
    for (const { seen } of crowd) expect(seen).toEqual(range(0, 250));
    expect(journal.reads).toBe(3);
  });

  test('asks the journal itself where the reading of another failed', async () => {
    const bus = createBus(8);
    const journal = createJournal(bus);
    bus.open(SESSION, 0);
    const past = range(0, 5).map(event);
    journal.events.push(...past);
    bus.commit(past, () => undefined);
    const end = new AbortController();
    const failing = { read: () => Promise.reject(new Error('no descriptor')) };
    const unlucky = startReader(bus, failing, { since: 0, until: 5, pauses: [] }, end.signal);
    const lucky = startReader(bus, journal, { since: 0, until: 5, pauses: [] }, end.signal);
    await expect(unlucky.done).rejects.toThrow('no descriptor');
    await lucky.done;
    end.abort();
    expect(lucky.seen).toEqual(range(0, 5));
  });

  test('[config:agent.stream_buffer_size] a reader that stands still costs that many events, then reads the journal (FAULTS 38)', async () => {
    const bus = createBus(3);
    const journal = createJournal(bus);
    bus.open(SESSION, 0);
    const end = new AbortController();
    const reader = bus.follow(SESSION, 0, journal, end.signal);
    const first = reader.next();
    const add = (seq: number): void => {
      journal.events.push(event(seq));
      bus.commit([event(seq)], () => undefined);
    };
    await new Promise(setImmediate);
    add(1);
    expect((await first).value).toMatchObject({ seq: 1 });
    const readsBefore = journal.reads;
    for (const seq of range(1, 10)) add(seq);
    const seen: number[] = [];
    while (seen.length < 9) seen.push((await reader.next()).value?.seq ?? 0);
    expect(seen).toEqual(range(1, 10));
    expect(journal.reads).toBeGreaterThan(readsBefore);
    end.abort();
  });

  test.each([
    ['at', 3, 0],
    ['over', 4, 1],
  ])(
    '%s its bound: of %d events that wait, the journal is asked for %d more page',
    async (_, count, more) => {
      const bus = createBus(3);
      const journal = createJournal(bus);
      bus.open(SESSION, 0);
      const end = new AbortController();
      const reader = bus.follow(SESSION, 0, journal, end.signal);
      const first = reader.next();
      await new Promise(setImmediate);
      const before = journal.reads;
      for (const seq of range(0, count)) {
        journal.events.push(event(seq));
        bus.commit([event(seq)], () => undefined);
      }
      const seen = [(await first).value?.seq];
      while (seen.length < count) seen.push((await reader.next()).value?.seq);
      expect(seen).toEqual(range(0, count));
      expect(journal.reads - before).toBe(more);
      end.abort();
    },
  );

  test('an event is held back until those before it are durable', async () => {
    const bus = createBus(4);
    bus.open(SESSION, 5);
    const applied: number[] = [];
    const reached = bus.reached(SESSION, 7);
    bus.commit([event(7)], ({ seq }) => applied.push(seq));
    expect(bus.publishedSeq(SESSION)).toBe(5);
    bus.commit([event(6)], ({ seq }) => applied.push(seq));
    await reached;
    expect(applied).toEqual([6, 7]);
    expect(() => bus.commit([event(6)], () => undefined)).toThrow('published once');
  });
});

describe('the end of a stream', () => {
  const opened = (): { bus: Bus; journal: FollowSource } => {
    const bus = createBus(4);
    bus.open(SESSION, 0);
    return { bus, journal: createJournal(bus) };
  };

  test('an abort ends it, also one that waits', async () => {
    const { bus, journal } = opened();
    const end = new AbortController();
    const next = bus.follow(SESSION, 0, journal, end.signal).next();
    await new Promise(setImmediate);
    end.abort();
    expect((await next).done).toBe(true);
  });

  test('a deleted session ends it, and frees who waits for a number', async () => {
    const { bus, journal } = opened();
    const next = bus.follow(SESSION, 0, journal, new AbortController().signal).next();
    const reached = bus.reached(SESSION, 3);
    await new Promise(setImmediate);
    bus.drop(SESSION);
    expect((await next).done).toBe(true);
    await reached;
  });

  test('the last reader of a session not open here leaves nothing (regression)', async () => {
    const bus = createBus(4);
    const journal = createJournal(bus);
    const end = new AbortController();
    const next = bus.follow(SESSION, 0, journal, end.signal).next();
    await new Promise(setImmediate);
    expect(bus.publishedSeq(SESSION)).toBe(0);
    end.abort();
    await next;
    expect(bus.publishedSeq(SESSION)).toBeUndefined();
  });

  test('a session that closes under a reader goes with the reader', async () => {
    const { bus, journal } = opened();
    const end = new AbortController();
    const next = bus.follow(SESSION, 0, journal, end.signal).next();
    await new Promise(setImmediate);
    bus.close(SESSION);
    expect(bus.publishedSeq(SESSION)).toBe(0);
    end.abort();
    await next;
    expect(bus.publishedSeq(SESSION)).toBeUndefined();
  });

  test('who watches everything is woken once by a publication, or by the abort', async () => {
    const { bus } = opened();
    const end = new AbortController();
    const changed = bus.nextChange(end.signal);
    bus.commit([event(1)], () => undefined);
    await changed;
    const aborted = bus.nextChange(end.signal);
    end.abort();
    await aborted;
    await bus.nextChange(end.signal);
  });
});

test('a page that is cut by its bytes, behind a round number, is read on (regression)', async () => {
  const bus = createBus(8);
  const journal = createJournal(bus);
  bus.open(SESSION, 0);
  for (const seq of range(0, 10)) {
    const events = [event(seq)];
    bus.commit(events, (one) => void journal.events.push(one));
  }
  // Two large events fill a page.
  const large: FollowSource = { read: (since, limit) => journal.read(since, Math.min(limit, 2)) };
  const end = new AbortController();
  const { seen, done } = startReader(bus, large, { since: 0, until: 10, pauses: [] }, end.signal);
  await done;
  expect(seen).toEqual(range(0, 10));
});
