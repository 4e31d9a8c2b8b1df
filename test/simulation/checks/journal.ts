/** The journal as an observer of the disk knows it, indexed for the checkers. */
import type { EventData, EventType } from '../../../protocol/events.ts';
import type { Row } from '../facts.ts';

export interface Journal {
  readonly rows: readonly Row[];
  syncedId(): number;
  /** Synced, and not only at this very instant: whoever acts now knows of it. */
  isKnown(row: Row): boolean;
  /** What was written of it; of a fork: since it was made. */
  session(session: string): readonly Row[];
  /** From its first event on: also what a fork has from its original. */
  whole(session: string): readonly Row[];
  isRemoved(session: string): boolean;
  /** Events of one effect, in order. */
  effect(session: string, effect: string): readonly Row[];
  /** Events that name this turn. */
  turn(session: string, turn: number): readonly Row[];
}

export interface WritableJournal extends Journal {
  add(row: Row): void;
  addCopy(row: Row): void;
  remove(session: string): void;
  sync(id: number): void;
  /** Withdraws the rows behind this id. */
  cut(behindId: number): void;
}

export function createJournal(nowMs: () => number): WritableJournal {
  const rows: Row[] = [];
  const index = new Map<string, Row[]>();
  const copies = new Map<string, Row[]>();
  const removed = new Set<string>();
  let syncedId = 0;
  let syncedMs = 0;
  let knownId = 0;

  function put(key: string, row: Row): void {
    const found = index.get(key);
    if (found === undefined) index.set(key, [row]);
    else found.push(row);
  }

  function addToIndex(row: Row): void {
    const { session, turn } = row.event;
    put(session, row);
    if (row.effect !== undefined) put(`${session} effect ${row.effect}`, row);
    if (turn !== undefined) put(`${session} turn ${turn}`, row);
  }

  function keep(isKept: (row: Row) => boolean): void {
    rows.splice(0, rows.length, ...rows.filter(isKept));
    index.clear();
    for (const row of rows) addToIndex(row);
  }

  return {
    rows,
    syncedId: () => syncedId,
    isKnown: ({ id }) => id <= (syncedMs < nowMs() ? syncedId : knownId),
    session: (session) => index.get(session) ?? [],
    whole: (session) => [...(copies.get(session) ?? []), ...(index.get(session) ?? [])],
    isRemoved: (session) => removed.has(session),
    effect: (session, effect) => index.get(`${session} effect ${effect}`) ?? [],
    turn: (session, turn) => index.get(`${session} turn ${turn}`) ?? [],
    add(row) {
      rows.push(row);
      addToIndex(row);
    },
    addCopy(row) {
      const { session } = row.event;
      copies.set(session, [...(copies.get(session) ?? []), row]);
    },
    remove(session) {
      removed.add(session);
      copies.delete(session);
      keep(({ event }) => event.session !== session);
    },
    sync(id) {
      if (syncedMs < nowMs()) knownId = syncedId;
      syncedMs = nowMs();
      syncedId = id;
    },
    cut(behindId) {
      keep(({ id }) => id <= behindId);
      for (const [session, [first]] of copies) {
        if (first !== undefined && first.id > behindId) copies.delete(session);
      }
      // What survived a power loss is as safe as it can be.
      syncedId = Math.max(syncedId, behindId);
    },
  };
}

/** The data of a row of this type. Rows are validated by their schema before they are written. */
export function dataOf<T extends EventType>(row: Row, _type: T): EventData<T> {
  return row.event.data as EventData<T>;
}

export const ofType = (rows: readonly Row[], ...types: readonly EventType[]): Row[] =>
  rows.filter(({ event }) => (types as readonly string[]).includes(event.type));
