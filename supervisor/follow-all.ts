/** The events of all sessions in commit order: from a cursor on, then live. */
import type { EventEnvelope } from '../protocol/events.ts';
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
