/** One session as a client follows it, each event with the time of its arrival. */
import type { EventEnvelope } from '../protocol/events.ts';
import type { Client } from '../test/integration/harness.ts';

export interface Seen {
  readonly event: EventEnvelope;
  readonly atMs: number;
}

export interface Feed {
  readonly session: string;
  readonly seen: readonly Seen[];
  /** The first event from place `from` that is so. @throws Error when none comes in time. */
  until(is: (event: EventEnvelope) => boolean, from?: number): Promise<Seen>;
  close(): void;
}

/** A guard against an event that never comes, no statement of how long one takes. */
const PATIENCE_MS = 120_000;

interface Waiter {
  readonly from: number;
  readonly is: (event: EventEnvelope) => boolean;
  found(seen: Seen): void;
}

export function openFeed(client: Client, session: string): Feed {
  const seen: Seen[] = [];
  const waiters = new Set<Waiter>();
  const stop = new AbortController();
  async function read(): Promise<void> {
    for await (const event of client.followEvents(session, { signal: stop.signal })) {
      const item = { event, atMs: performance.now() };
      seen.push(item);
      for (const waiter of waiters) {
        if (seen.length <= waiter.from || !waiter.is(event)) continue;
        waiters.delete(waiter);
        waiter.found(item);
      }
    }
  }
  // A feed that broke shows as an event that never came.
  void read().catch(() => undefined);
  return {
    session,
    seen,
    until(is, from = 0) {
      const known = seen.slice(from).find(({ event }) => is(event));
      if (known !== undefined) return Promise.resolve(known);
      return new Promise((resolve, reject) => {
        const patience = setTimeout(() => {
          waiters.delete(waiter);
          const last = seen.slice(-3).map(({ event }) => JSON.stringify(event).slice(0, 200));
          reject(new Error(`not within ${PATIENCE_MS} ms: ${is}; last: ${last.join(' ')}`));
        }, PATIENCE_MS);
        const waiter: Waiter = {
          from,
          is,
          found(item) {
            clearTimeout(patience);
            resolve(item);
          },
        };
        waiters.add(waiter);
      });
    },
    close: () => stop.abort(),
  };
}

export const isType =
  (type: string) =>
  (event: EventEnvelope): boolean =>
    event.type === type;
