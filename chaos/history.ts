/** Everything a run left to judge: what the journal says, what clients saw, what the model server
 *  and the file system saw, what was done to the processes. The checkers are pure functions of
 *  this; a doctored one shows that each of them can fail. */
import { createHash } from 'node:crypto';
import {
  type EventEnvelope,
  type EventType,
  type KnownEvent,
  parseEvent,
} from '../protocol/events.ts';
import type { ServedRequest } from './model-server.ts';
import type { FaultKind } from './plan.ts';

export interface Violation {
  /** Which promise is broken, in a word or two. */
  readonly check: string;
  readonly message: string;
  readonly session?: string;
  /** The first events that show it. */
  readonly events?: readonly EventEnvelope[];
}

/** One stream client's view of a session: a digest for each event, in the order they came. */
export interface ClientLog {
  readonly session: string;
  readonly client: string;
  readonly digests: readonly string[];
  /** What it found wrong itself: a gap, a repetition, a refused cursor. */
  readonly problems: readonly string[];
}

/** One input as its sender knows it. */
export interface SentInput {
  readonly session: string;
  readonly key: string;
  /** The 202, the first one and every later one of the same key. */
  readonly answers: readonly { readonly input_id: string; readonly seq: number }[];
  /** A final refusal: then it must not be in the journal. */
  readonly refused: boolean;
}

export interface InjectedFault {
  readonly kind: FaultKind;
  readonly pid: number;
  readonly fromMs: number;
  /** Wall time; a kill lasts no time. */
  readonly toMs: number;
}

export interface History {
  /** By session; each from its first event. */
  readonly journals: ReadonlyMap<string, readonly EventEnvelope[]>;
  /** The same, read: see `toFacts`. */
  readonly facts: readonly SessionFacts[];
  readonly clients: readonly ClientLog[];
  readonly inputs: readonly SentInput[];
  /** Runs of each counted call, by token, as the world shows them. */
  readonly effects: ReadonlyMap<string, number>;
  readonly requests: readonly ServedRequest[];
  readonly faults: readonly InjectedFault[];
  /** Wall times at which a supervisor was started. */
  readonly startsMs: readonly number[];
}

export type EventOf<T extends EventType> = Extract<KnownEvent, { type: T }>;

/** A session's journal as the checkers read it. */
export interface SessionFacts {
  readonly session: string;
  /** Events of its own: of a fork, those behind the copy. */
  readonly own: readonly EventEnvelope[];
  readonly known: readonly KnownEvent[];
}

function toFacts(session: string, journal: readonly EventEnvelope[]): SessionFacts {
  const born = journal.findLastIndex((event) => event.type === 'session.created');
  const own = journal.slice(Math.max(0, born));
  const known = own.flatMap((event) => parseEvent(event) ?? []);
  return { session, own, known };
}

/** A journal whose events have shapes of no version of ours throws a ZodError. */
export function createHistory(seen: Omit<History, 'facts'>): History {
  const facts = [...seen.journals].map(([session, journal]) => toFacts(session, journal));
  return { ...seen, facts };
}

export function ofType<T extends EventType>(
  events: readonly KnownEvent[],
  type: T,
): readonly EventOf<T>[] {
  return events.filter((event): event is EventOf<T> => event.type === type);
}

/** The same for equal events, whatever the order of their keys. */
export function digestEvent(event: EventEnvelope): string {
  return createHash('sha1').update(toCanonical(event)).digest('base64').slice(0, 16);
}

function toCanonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toCanonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${toCanonical(field)}`);
  return `{${fields.join(',')}}`;
}

const EVENTS_SHOWN_MAX = 6;

/** A violation with the first of the events that show it. */
export function violate(
  check: string,
  message: string,
  place: { readonly session?: string; readonly events?: readonly EventEnvelope[] } = {},
): Violation {
  const { session, events = [] } = place;
  return {
    check,
    message,
    ...(session === undefined ? {} : { session }),
    ...(events.length === 0 ? {} : { events: events.slice(0, EVENTS_SHOWN_MAX) }),
  };
}
