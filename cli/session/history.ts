/** What already happened in a session, read in pages and without its token stream: a finished
 *  step's text is in its last event. What is still streaming is left for the live view, which
 *  begins behind `resumeFrom`. */
import type { ApiClient } from '../../api/client.ts';
import type { EventEnvelope, EventType } from '../../protocol/events.ts';
import type { EventPage } from '../../protocol/resources.ts';
import { findStart, toStart } from '../../protocol/retained.ts';

/** All that a view shows, but the pieces that a later event repeats as a whole. */
const WHOLE_TYPES: readonly EventType[] = [
  'input.accepted',
  'input.steered',
  'input.quarantined',
  'turn.started',
  'turn.completed',
  'model.started',
  'model.completed',
  'model.failed',
  'tool.requested',
  'tool.decided',
  'approval.requested',
  'approval.resolved',
  'tool.started',
  'tool.completed',
  'session.state',
  'session.residency',
  'worker.exited',
  'worker.restarting',
  'effect.resolved',
  'limit.exceeded',
  'store.degraded',
  'store.repaired',
  'context.compacted',
];

const PAGE_EVENTS_MAX = 1000;

export interface HistoryRequest {
  readonly client: Pick<ApiClient, 'readEvents'>;
  readonly sessionId: string;
  readonly since: number;
  readonly types?: readonly string[];
}

export interface History {
  readonly events: readonly EventEnvelope[];
  /** Sequence number behind which the live stream begins. */
  readonly resumeFrom: number;
}

export async function readHistory(request: HistoryRequest): Promise<History> {
  const events: EventEnvelope[] = [];
  for await (const event of pageEvents({ types: WHOLE_TYPES, ...request })) events.push(event);
  const last = events.at(-1)?.seq ?? request.since;
  const at = events.findLastIndex((event) => CALL_TYPES.has(event.type));
  const open = events[at];
  // A model call that has not ended: from there on its deltas matter.
  if (open?.type !== 'model.started') return { events, resumeFrom: last };
  return { events: events.slice(0, at), resumeFrom: open.seq - 1 };
}

/** What begins or ends a model call. */
const CALL_TYPES: ReadonlySet<string> = new Set([
  'model.started',
  'model.completed',
  'model.failed',
  'turn.completed',
]);

/** Every event behind `since` up to the newest at the time of the last page. From the start (0)
 *  means from the first that retention left. */
export async function* pageEvents(request: HistoryRequest): AsyncGenerator<EventEnvelope> {
  let { since } = request;
  for (;;) {
    const page = await readPage(request, since);
    yield* page.events;
    const next = page.events.at(-1)?.seq ?? page.next;
    if (page.events.length === 0 || next <= since) return;
    since = next;
  }
}

async function readPage(request: HistoryRequest, since: number): Promise<EventPage> {
  const { client, sessionId, types } = request;
  const options = { since, limit: PAGE_EVENTS_MAX, ...(types === undefined ? {} : { types }) };
  try {
    return await client.readEvents(sessionId, options);
  } catch (error) {
    if (since > 0) throw error;
    return client.readEvents(sessionId, { ...options, since: toStart(error) });
  }
}

/** Where a stream of all there is begins. */
export function findFirst(client: HistoryRequest['client'], sessionId: string): Promise<number> {
  return findStart((since) => client.readEvents(sessionId, { since, limit: 1 }));
}
