/** The machine's disk: the journal with its projections, and the spools. What is written stands
 *  whatever process dies; what is not synced may be gone after a power loss. The folds are the
 *  real ones. */

import type { LogRecord, LogSlice } from '../../base/append-log.ts';
import { assert } from '../../base/assert.ts';
import { PrxError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import { durabilityOf, type EventEnvelope, parseEvent } from '../../protocol/events.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type {
  AppendRequest,
  NewEvent,
  ProcessRecord,
  SessionRecord,
} from '../../store/contract.ts';
import { foldSession } from '../../store/fold-session.ts';
import type { Fact, Row } from './facts.ts';

export interface Claim {
  readonly digest: string;
  readonly row: Row;
}

interface Spool {
  readonly records: LogRecord[];
  bytes: number;
  /** Records that survive a power loss. */
  synced: number;
}

export interface Epoch {
  readonly epoch: number;
  readonly firstId: number;
}

export interface Fork {
  readonly from: SessionId;
  readonly to: SessionId;
  readonly seq: number;
}

export type Committed =
  | { readonly kind: 'appended'; readonly rows: readonly Row[] }
  | { readonly kind: 'duplicate'; readonly claim: Claim; readonly sameDigest: boolean };

export interface Disk {
  readonly rows: Row[];
  readonly sessions: Map<string, Row[]>;
  readonly records: Map<string, SessionRecord>;
  readonly claims: Map<string, Claim>;
  readonly processes: Map<string, ProcessRecord>;
  readonly epochs: Epoch[];
  epoch: number;
  bootId: string;
  syncedId: number;
  isFull: boolean;
  /** Writes one request, all or nothing. Throws SESSION_NOT_FOUND. */
  commit(request: AppendRequest, timeMs: number): Committed;
  /** Copies the first events of a session and appends the copy's own first one, all or nothing. */
  fork(fork: Fork, timeMs: number): SessionRecord;
  /** As the real one: safe when it is answered. */
  remove(session: string): void;
  sync(upToId: number): void;
  /** An empty spool: it is there before its effect begins. Throws ENOSPC. */
  createSpool(path: string): void;
  hasSpool(path: string): boolean;
  /** Offset behind the record, bytes. Throws ENOSPC. */
  appendSpool(path: string, record: unknown): number;
  syncSpool(path: string): void;
  readSpool(path: string, offset: number): LogSlice;
  /** Those whose path begins so, and whose name then passes. */
  removeSpools(prefix: string, isMeant?: (name: string) => boolean): void;
  /** The machine dies: what is not synced is gone, but for a random prefix. */
  losePower(random: Random): void;
}

/** Checksum, space and line feed of a real record. */
const RECORD_OVERHEAD_BYTES = 10;

export function createDisk(record: (fact: Fact) => void): Disk {
  let lastId = 0;
  let transactions = 0;
  const spools = new Map<string, Spool>();

  function toRow(event: NewEvent, timeMs: number, seq: number): Row {
    const data: unknown = JSON.parse(JSON.stringify(event.data));
    const envelope: EventEnvelope = {
      session: event.session,
      seq,
      epoch: disk.epoch,
      time: new Date(timeMs).toISOString(),
      type: event.type,
      ...(event.turn === undefined ? {} : { turn: event.turn }),
      data,
    };
    assert(parseEvent(envelope) !== undefined, 'only known events are journaled');
    lastId += 1;
    return {
      id: lastId,
      transaction: transactions,
      power: durabilityOf(event.type) === 'power',
      effect: event.effect,
      event: envelope,
    };
  }

  function add(row: Row): void {
    const { session } = row.event;
    disk.rows.push(row);
    const rows = disk.sessions.get(session);
    if (rows === undefined) disk.sessions.set(session, [row]);
    else rows.push(row);
    if (session !== 'system') {
      disk.records.set(session, foldSession(disk.records.get(session), row.event));
    }
  }

  const disk: Disk = {
    rows: [],
    sessions: new Map(),
    records: new Map(),
    claims: new Map(),
    processes: new Map(),
    epochs: [{ epoch: 1, firstId: 1 }],
    epoch: 1,
    bootId: 'boot-1',
    syncedId: 0,
    isFull: false,
    commit({ events, unique }, timeMs) {
      const key = unique === undefined ? '' : `${unique.scope} ${unique.key}`;
      const claim = disk.claims.get(key);
      if (unique !== undefined && claim !== undefined) {
        return { kind: 'duplicate', claim, sameDigest: claim.digest === unique.digest };
      }
      for (const { session, type } of events) {
        const isThere = disk.sessions.has(session) || session === 'system';
        if (isThere || type === 'session.created' || events[0]?.type === 'session.created')
          continue;
        throw notThere(session);
      }
      transactions += 1;
      const rows = events.map((event) => {
        const seq = (disk.sessions.get(event.session)?.at(-1)?.event.seq ?? 0) + 1;
        const row = toRow(event, timeMs, seq);
        add(row);
        return row;
      });
      const [first] = rows;
      assert(first !== undefined, 'an append has at least one event');
      if (unique !== undefined) disk.claims.set(key, { digest: unique.digest, row: first });
      for (const row of rows) record({ kind: 'written', row });
      return { kind: 'appended', rows };
    },
    fork({ from, to, seq }, timeMs) {
      const source = disk.sessions.get(from);
      if (source === undefined) throw notThere(from);
      transactions += 1;
      for (const { effect, power, event } of source.slice(0, seq)) {
        lastId += 1;
        const copy = { ...event, session: to, epoch: disk.epoch };
        const row = { id: lastId, transaction: transactions, effect, power, event: copy };
        add(row);
        record({ kind: 'copied', from, row });
      }
      const { agent, workspace, labels, limits, approve } = disk.records.get(to) ?? {};
      const place = { agent, workspace, private_workspace: false, labels, limits, approve };
      const data = { ...place, source: 'fork', forked_from: { session: from, seq } };
      const created = toRow({ session: to, type: 'session.created', data }, timeMs, seq + 1);
      add(created);
      record({ kind: 'written', row: created });
      const forked = disk.records.get(to);
      assert(forked !== undefined, 'a session that was written is there');
      return forked;
    },
    remove(session) {
      if (!disk.sessions.delete(session)) return;
      disk.records.delete(session);
      const kept = disk.rows.filter(({ event }) => event.session !== session);
      disk.rows.splice(0, disk.rows.length, ...kept);
      for (const [key, { row }] of disk.claims) {
        if (row.event.session === session) disk.claims.delete(key);
      }
      record({ kind: 'removed', session });
    },
    sync(upToId) {
      if (upToId <= disk.syncedId) return;
      disk.syncedId = upToId;
      record({ kind: 'synced', id: upToId });
    },
    appendSpool(path, value) {
      if (disk.isFull) throw noSpace();
      const spool = spools.get(path) ?? { records: [], bytes: 0, synced: 0 };
      spools.set(path, spool);
      const json = JSON.stringify(value);
      spool.bytes += Buffer.byteLength(json) + RECORD_OVERHEAD_BYTES;
      spool.records.push({ offset: spool.bytes, value: JSON.parse(json) as unknown });
      return spool.bytes;
    },
    syncSpool(path) {
      const spool = spools.get(path);
      if (spool !== undefined) spool.synced = spool.records.length;
    },
    readSpool(path, offset) {
      const spool = spools.get(path);
      const records = (spool?.records ?? []).filter((each) => each.offset > offset);
      return { records, nextOffset: records.at(-1)?.offset ?? offset, tail: 'clean' };
    },
    createSpool(path) {
      if (disk.isFull) throw noSpace();
      if (!spools.has(path)) spools.set(path, { records: [], bytes: 0, synced: 0 });
    },
    hasSpool: (path) => spools.has(path),
    removeSpools(prefix, isMeant = () => true) {
      for (const path of spools.keys()) {
        if (path.startsWith(prefix) && isMeant(path.slice(prefix.length))) spools.delete(path);
      }
    },
    losePower(random) {
      loseRows(disk, random, record);
      lastId = disk.rows.at(-1)?.id ?? lastId;
      for (const spool of spools.values()) {
        const kept = drawKept(random, spool.synced, spool.records.length);
        spool.records.splice(kept);
        spool.bytes = spool.records.at(-1)?.offset ?? 0;
        spool.synced = kept;
      }
      disk.epoch += 1;
      disk.epochs.push({ epoch: disk.epoch, firstId: lastId + 1 });
      disk.bootId = `boot-${disk.epoch}`;
      disk.syncedId = lastId;
    },
  };
  return disk;
}

/** A log loses its end, never its middle; and transactions go whole. */
function loseRows(disk: Disk, random: Random, record: (fact: Fact) => void): void {
  const synced = disk.rows.filter(({ id }) => id <= disk.syncedId).length;
  const kept = drawKept(random, synced, disk.rows.length);
  const cut = disk.rows[kept]?.transaction;
  let size = kept;
  while (cut !== undefined && disk.rows[size - 1]?.transaction === cut) size -= 1;
  disk.rows.splice(size);
  const behindId = disk.rows.at(-1)?.id ?? 0;
  disk.sessions.clear();
  disk.records.clear();
  for (const row of disk.rows) {
    const { session } = row.event;
    disk.sessions.set(session, [...(disk.sessions.get(session) ?? []), row]);
    if (session === 'system') continue;
    disk.records.set(session, foldSession(disk.records.get(session), row.event));
  }
  for (const [key, { row }] of disk.claims) if (row.id > behindId) disk.claims.delete(key);
  record({ kind: 'lost', behindId });
}

const notThere = (session: string): PrxError =>
  new PrxError('SESSION_NOT_FOUND', `there is no session ${session}`);

const noSpace = (): Error => Object.assign(new Error('no space'), { code: 'ENOSPC' });

function drawKept(random: Random, safe: number, all: number): number {
  return safe + Math.floor(random.next() * (all - safe + 1));
}
