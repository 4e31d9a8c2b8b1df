/** The events of one session as the frames of a stream, SSE or WebSocket. */
import type { EventEnvelope, EventType } from '../../protocol/events.ts';
import type { Supervisor } from '../../supervisor/index.ts';
import type { LiveSource, StreamFrame } from '../route.ts';

interface Position {
  readonly since: number;
  readonly epoch?: number;
  readonly types?: EventType[];
}

export interface SessionStream {
  open(signal: AbortSignal): Promise<AsyncIterable<StreamFrame>>;
  readonly live: LiveSource & { readonly since: number };
}

export function toSessionStream(
  supervisor: Pick<Supervisor, 'followEvents'>,
  { id: session, last_seq: lastSeq }: { readonly id: string; readonly last_seq: number },
  position: Position,
): SessionStream {
  const { since } = position;
  // The epoch was asked of where the client was; what it was given since stands.
  const open = async (from: number, signal: AbortSignal) =>
    toFrames(await supervisor.followEvents(session, { since: from, signal }));
  return {
    open: async (signal) =>
      toFrames(await supervisor.followEvents(session, { ...position, signal })),
    live: { session, since, lastSeq, open },
  };
}

async function* toFrames(events: AsyncIterable<EventEnvelope>): AsyncGenerator<StreamFrame> {
  for await (const event of events) yield toSharedFrame(event);
}

/** Readers of one session are given the same events: each is made a frame once, however many
 *  read it, and the frame goes with the event. */
const frameOf = new WeakMap<EventEnvelope, StreamFrame>();

function toSharedFrame(event: EventEnvelope): StreamFrame {
  const known = frameOf.get(event);
  if (known !== undefined) return known;
  const frame = toFrame(String(event.seq), event);
  frameOf.set(event, frame);
  return frame;
}

export function toFrame(id: string, event: EventEnvelope): StreamFrame {
  return { id, event: event.type, data: JSON.stringify(event) };
}
