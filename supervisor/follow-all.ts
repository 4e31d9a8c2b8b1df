/** Events that are followed past their session's channel: those of all sessions in commit order,
 *  and the system's own. From a place on, then live. */
import { type EventEnvelope, SYSTEM_SESSION } from '../protocol/events.ts';
import type { Store } from '../store/contract.ts';
import type { Bus } from './sessions/bus.ts';

const PAGE_EVENTS = 500;

export async function* followAll(
  { store, bus }: { readonly store: Pick<Store, 'readAll'>; readonly bus: Bus },
  cursorAtStart: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<{ event: EventEnvelope; cursor: string }> {
  let cursor = cursorAtStart;
  let changed = bus.nextChange(signal);
  while (!signal.aborted) {
    const page = await store.readAll(cursor, PAGE_EVENTS);
    for (const [at, event] of page.events.entries()) {
      // Not the page's: a client that leaves within it would lose the rest.
      yield { event, cursor: page.cursors[at] ?? page.cursor };
    }
    cursor = page.cursor;
    if (page.events.length > 0) continue;
    await changed;
    changed = bus.nextChange(signal);
  }
}

/** The system's events have no channel of their own: they are few, and whoever writes one says that
 *  something has changed. */
export async function* followSystem(
  { store, bus }: { readonly store: Pick<Store, 'readEvents'>; readonly bus: Bus },
  sinceAtStart: number,
  signal: AbortSignal,
): AsyncGenerator<EventEnvelope> {
  let since = sinceAtStart;
  let changed = bus.nextChange(signal);
  while (!signal.aborted) {
    const { events } = await store.readEvents(SYSTEM_SESSION, { since, limit: PAGE_EVENTS });
    yield* events;
    since = events.at(-1)?.seq ?? since;
    if (events.length > 0) continue;
    await changed;
    changed = bus.nextChange(signal);
  }
}
