/** Append requests as the writer takes them: checked against the schema of their type (what is
 *  wrong is never written) and turned into the JSON text that is stored. */
import { PrxError } from '../base/errors.ts';
import { durabilityOf, eventTable, isEventType } from '../protocol/events.ts';
import type { AppendRequest, NewEvent } from './contract.ts';
import type { WireEvent, WireRequest } from './thread-protocol.ts';

/** One request may be this large: several of the largest inputs. */
const REQUEST_BYTES_MAX = 32 * 1024 * 1024;
const REQUEST_EVENTS_MAX = 1000;

export interface PreparedRequest {
  readonly wire: WireRequest;
  readonly isPower: boolean;
  /** Characters of JSON, about its bytes. */
  readonly bytes: number;
}

/** Throws INTERNAL for an event of another shape than its type's, PAYLOAD_TOO_LARGE. */
export function prepareRequest({ events, unique }: AppendRequest, timeMs: number): PreparedRequest {
  if (events.length === 0 || events.length > REQUEST_EVENTS_MAX) {
    throw new PrxError(
      'INTERNAL',
      `an append takes 1 to ${REQUEST_EVENTS_MAX} events, got ${events.length}`,
    );
  }
  const wireEvents = events.map(toWireEvent);
  const bytes = wireEvents.reduce((sum, event) => sum + event.data.length, 0);
  if (bytes > REQUEST_BYTES_MAX) {
    throw new PrxError(
      'PAYLOAD_TOO_LARGE',
      `an append of ${bytes} bytes is larger than ${REQUEST_BYTES_MAX} bytes`,
      { data: { bytes, max: REQUEST_BYTES_MAX } },
    );
  }
  return {
    wire: { timeMs, events: wireEvents, unique: unique ?? null },
    isPower: wireEvents.some(({ power }) => power),
    bytes,
  };
}

function toWireEvent(event: NewEvent): WireEvent {
  const { session, type, turn, data } = event;
  const parsed = eventTable[type][1].safeParse(data);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue?.path.join('.') || 'data';
    throw new PrxError('INTERNAL', `event ${type}: ${where}: ${issue?.message ?? 'wrong shape'}`);
  }
  return {
    session,
    type,
    turn: turn ?? null,
    ref: refOf(event),
    power: isEventType(type) && durabilityOf(type) === 'power',
    data: JSON.stringify(data),
  };
}

/** By what the event is found without a scan; see schema.ts. */
function refOf({ type, effect, data }: NewEvent): string | null {
  if (type === 'context.compacted') return 'compaction';
  if (type === 'turn.started') return `turn:${field(data, 'turn')}`;
  if (type.startsWith('input.')) return field(data, 'input_id');
  return effect ?? null;
}

function field(data: unknown, name: string): string {
  // The schema of the type was applied by the caller, and it has this field.
  return String((data as Readonly<Record<string, unknown>>)[name]);
}
