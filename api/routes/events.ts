/** Events of one session and of all: a page, or a live stream that starts with the past. */
import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import {
  type EventEnvelope,
  type EventType,
  eventEnvelopeSchema,
  eventTable,
  SYSTEM_SESSION,
} from '../../protocol/events.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import { defineRoute, parseInput, type Route, type StreamFrame, toJsonAnswer } from '../route.ts';
import { toFrame, toSessionStream } from './frames.ts';
import {
  flagSchema,
  limitSchema,
  listSchema,
  naturalSchema,
  PAGE_LIMIT_DEFAULT,
  sessionParams,
} from './params.ts';

// The keys of a table are of its key type; Object.keys cannot say so.
const eventTypes = Object.keys(eventTable) as [EventType, ...EventType[]];

const followSchema = flagSchema
  .optional()
  .describe('true, or Accept: text/event-stream, for a live stream.');

const sessionEventsQuery = z.strictObject({
  since: naturalSchema
    .optional()
    .describe('Events after this sequence number; default 0. Last-Event-ID wins over it.'),
  epoch: naturalSchema
    .optional()
    .describe('Epoch of the event at `since`: a stale position is refused, not spliced.'),
  limit: limitSchema.optional(),
  types: listSchema.pipe(z.array(z.enum(eventTypes))).optional(),
  follow: followSchema,
});

const CURSOR_CHARS_MAX = 512;

const allEventsQuery = z.strictObject({
  cursor: z
    .string()
    .max(CURSOR_CHARS_MAX)
    .optional()
    .describe('Opaque; as a page or stream gave it. Absent: from the oldest event.'),
  limit: limitSchema.optional(),
  follow: followSchema,
});

export const eventRoutes: readonly Route[] = [
  defineRoute({
    id: 'readEvents',
    method: 'GET',
    path: '/api/v1/sessions/{id}/events',
    scope: 'read',
    status: 200,
    summary:
      'Events of a session, or of `system`: a page (X-Prx-Next is the next `since`, X-Prx-Last-Seq the newest), ' +
      'or with follow=true server-sent events whose id is the sequence number',
    params: sessionParams,
    query: sessionEventsQuery,
    response: z.array(eventEnvelopeSchema),
    canStream: true,
    handle: async ({ supervisor, params, query, headers }) => {
      const { epoch, types } = query;
      const position = {
        since: lastEventId(headers, naturalSchema) ?? query.since ?? 0,
        ...(epoch === undefined ? {} : { epoch }),
        ...(types === undefined ? {} : { types }),
      };
      if (!wantsStream(headers, query)) {
        const limit = query.limit ?? PAGE_LIMIT_DEFAULT;
        const page = await supervisor.readEvents(params.id, { ...position, limit });
        return toJsonAnswer(page.events, {
          headers: { 'x-prx-next': `${page.next}`, 'x-prx-last-seq': `${page.last_seq}` },
        });
      }
      const journal = await findJournal(supervisor, params.id, position.since);
      const { open, live } = toSessionStream(supervisor, journal, position);
      const all = {
        kind: 'stream',
        headers: { 'x-prx-last-seq': `${live.lastSeq}` },
        open,
      } as const;
      // A choice of types is a client's own.
      return types === undefined ? { ...all, live } : all;
    },
  }),
  defineRoute({
    id: 'readAllEvents',
    method: 'GET',
    path: '/api/v1/events',
    scope: 'read',
    status: 200,
    summary:
      'Events of all sessions in commit order: a page (X-Prx-Next-Cursor is the next `cursor`), ' +
      'or with follow=true server-sent events whose id is the cursor',
    query: allEventsQuery,
    response: z.array(eventEnvelopeSchema),
    canStream: true,
    handle: async ({ supervisor, query, headers }) => {
      const cursor = lastEventId(headers, z.string().max(CURSOR_CHARS_MAX)) ?? query.cursor;
      if (!wantsStream(headers, query)) {
        const page = await supervisor.readAllEvents(cursor, query.limit ?? PAGE_LIMIT_DEFAULT);
        return toJsonAnswer(page.events, { headers: { 'x-prx-next-cursor': page.cursor } });
      }
      // A stream finds out about a stale cursor only once it is open: a page of one asks before.
      if (cursor !== undefined) await supervisor.readAllEvents(cursor, 1);
      return {
        kind: 'stream',
        open: async (signal) => toCursorFrames(supervisor.followAll(cursor, signal)),
      };
    },
  }),
];

/** A session's, or the system's own, which belongs to no session. */
async function findJournal(
  supervisor: Supervisor,
  ref: string,
  since: number,
): Promise<{ readonly id: string; readonly last_seq: number }> {
  if (ref !== SYSTEM_SESSION) return supervisor.getSession(ref);
  const { last_seq } = await supervisor.readEvents(ref, { since, limit: 1 });
  return { id: ref, last_seq };
}

/** @throws INVALID_REQUEST for a stream with a limit: it would be taken for the end of one. */
function wantsStream(
  headers: IncomingHttpHeaders,
  { follow, limit }: { follow?: boolean | undefined; limit?: number | undefined },
): boolean {
  const isStream = follow ?? /\btext\/event-stream\b/i.test(headers.accept ?? '');
  if (!isStream || limit === undefined) return isStream;
  throw new PrxError(
    'INVALID_REQUEST',
    'query.limit: it is of a page, and a stream goes on until it is closed; leave it out, ' +
      'or ask for a page with follow=false',
  );
}

/** What an EventSource sends when it connects again: newer than the query of its first URL. */
function lastEventId<T>(headers: IncomingHttpHeaders, schema: z.ZodType<T>): T | undefined {
  const header = headers['last-event-id'];
  if (header === undefined || header === '') return undefined;
  if (Array.isArray(header)) throw new PrxError('INVALID_REQUEST', 'two Last-Event-ID headers');
  return parseInput(schema, header, 'header.last-event-id');
}

async function* toCursorFrames(
  items: AsyncIterable<{ event: EventEnvelope; cursor: string }>,
): AsyncGenerator<StreamFrame> {
  for await (const { event, cursor } of items) yield toFrame(cursor, event);
}
