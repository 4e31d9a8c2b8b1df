/** One session's pen: appends to the store, folds what was committed into the record in memory,
 *  and publishes it. The order is the invariant: durable, then folded, then visible, then
 *  answered. */
import { PrxError } from '../../base/errors.ts';
import type { EventData, EventEnvelope, EventType } from '../../protocol/events.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { SessionState } from '../../protocol/states.ts';
import type {
  AppendRequest,
  AppendResult,
  NewEvent,
  SessionRecord,
  Store,
} from '../../store/contract.ts';
import { foldSession } from '../../store/index.ts';
import type { Bus } from './bus.ts';

export interface Draft<T extends EventType = EventType> {
  readonly type: T;
  readonly data: EventData<T>;
  readonly turn?: number;
  readonly effect?: EffectId;
}

export interface SessionJournal {
  /** The projection as published so far. */
  record(): SessionRecord;
  /** The state behind all appends under way: from where the next transition starts. */
  state(): SessionState;
  /** The open turn has a tombstone, or will have it when what is under way is durable. */
  isStopped(): boolean;
  /** Appends in one transaction; resolves with the envelopes when they are published. */
  append(...drafts: readonly Draft[]): Promise<readonly EventEnvelope[]>;
  /** As append, with a claim on a key (see the store's contract). */
  appendUnique(
    unique: NonNullable<AppendRequest['unique']>,
    ...drafts: readonly Draft[]
  ): Promise<AppendResult>;
  /** Appends not yet published: the measure for back-pressure. */
  outstanding(): number;
  /** Resolves when the next of them is published or has failed; at once when there is none. */
  nextLanding(): Promise<void>;
  /** The session is removed: who appends, also who waits for an append, gets SESSION_NOT_FOUND. */
  close(): void;
  /** @throws SESSION_NOT_FOUND behind `close`. */
  assertOpen(): void;
}

/** A typed draft of one event. */
export function draft<T extends EventType>(
  type: T,
  data: EventData<T>,
  at: { readonly turn?: number; readonly effect?: EffectId } = {},
): Draft<T> {
  return { type, data, ...at };
}

export interface JournalDeps {
  readonly store: Store;
  readonly bus: Bus;
  /** Events held for one live reader; absent: the bus's own. */
  readonly bufferSize?: () => number;
}

/** The journal of one open session. `onRecord` hears every change of the projection. */
export function openSessionJournal(
  deps: JournalDeps,
  initial: SessionRecord,
  onRecord: (record: SessionRecord, event: EventEnvelope) => void,
): SessionJournal {
  const { store, bus } = deps;
  const session: SessionId = initial.id;
  let record = initial;
  const underWay = new Set<readonly NewEvent[]>();
  let waiting: (() => void)[] = [];
  let isClosed = false;
  bus.open(session, initial.last_seq, deps.bufferSize);

  function apply(event: EventEnvelope): void {
    record = foldSession(record, event);
    onRecord(record, event);
  }

  function assertOpen(): void {
    if (!isClosed) return;
    const message = `session ${session} was removed while this was asked of it`;
    throw new PrxError('SESSION_NOT_FOUND', message, { data: { session } });
  }

  async function send(request: AppendRequest): Promise<AppendResult> {
    assertOpen();
    underWay.add(request.events);
    try {
      const result = await store.append(request);
      // Its channel is gone, or is that of an object that was opened since.
      assertOpen();
      if (result.kind === 'duplicate') return result;
      bus.commit(result.events, apply);
      const last = result.events.at(-1);
      if (last !== undefined) await bus.reached(session, last.seq);
      return result;
    } finally {
      underWay.delete(request.events);
      const woken = waiting;
      waiting = [];
      for (const wake of woken) wake();
    }
  }

  const findUnderWay = (type: EventType): NewEvent[] =>
    [...underWay].flat().filter((event) => event.type === type);

  const toEvents = (drafts: readonly Draft[]): NewEvent[] =>
    drafts.map((each) => ({ session, ...each }));

  return {
    record: () => record,
    state() {
      const next = findUnderWay('session.state').at(-1)?.data;
      // The drafts of this type carry this shape; see `draft`.
      return (next as EventData<'session.state'> | undefined)?.to ?? record.state;
    },
    isStopped() {
      const open = record.open_turn;
      if (open === undefined) return false;
      const stops = findUnderWay('interrupt.accepted');
      return open.interrupted || stops.some((event) => event.turn === open.turn);
    },
    outstanding: () => underWay.size,
    nextLanding() {
      if (underWay.size === 0) return Promise.resolve();
      return new Promise((resolve) => waiting.push(resolve));
    },
    async append(...drafts) {
      const result = await send({ events: toEvents(drafts) });
      return result.kind === 'appended' ? result.events : [];
    },
    close() {
      isClosed = true;
    },
    assertOpen,
    appendUnique: (unique, ...drafts) => send({ events: toEvents(drafts), unique }),
  };
}
