/** The store over the simulated disk, as one supervisor holds it: group commit, syncs that take
 *  their time, answers that never show a power-durable event before it is synced. It dies with
 *  its supervisor: what is in its queue then is lost, or written and never answered. */
import { PrxError } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import { type EventEnvelope, SYSTEM_SESSION } from '../../protocol/events.ts';
import type {
  AppendRequest,
  AppendResult,
  GlobalPage,
  ReadOptions,
  SessionRecord,
  Store,
} from '../../store/contract.ts';
import { foldHistory, historyTypes } from '../../store/fold-history.ts';
import { foldSession, isUnfinished } from '../../store/fold-session.ts';
import { SafeMark } from '../../store/safe-mark.ts';
import type { Disk } from './disk.ts';
import type { Row } from './facts.ts';
import type { ClockView } from './time.ts';

export interface StoreSettings {
  readonly commitMsMax: number;
  readonly syncMsMax: number;
}

export interface SimulatedStore extends Store {
  /** The supervisor dies: a batch that is under way is written or not. */
  crash(): void;
}

export interface StoreDeps {
  readonly disk: Disk;
  readonly clock: ClockView;
  readonly random: Random;
  readonly settings: () => StoreSettings;
}

interface Waiting {
  readonly request: AppendRequest;
  readonly timeMs: number;
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: unknown) => void;
}

const READ_MS_MAX = 2;
const PROBE_MS = 1000;
const FULL = 'the disk is full (simulated)';
const streamTypes = ['model.delta', 'tool.output'];

export function openSimulatedStore(deps: StoreDeps): SimulatedStore {
  const { disk, clock, random } = deps;
  // As the real one: what an earlier process left unsynced is visible from now on.
  disk.sync(disk.rows.at(-1)?.id ?? 0);
  const mark = new SafeMark(disk.syncedId);
  let waiting: Waiting[] = [];
  let underWay: Waiting[] = [];
  let syncing = false;
  let syncAsked = false;
  let degraded: string | undefined;
  let ordered: Promise<void> = Promise.resolve();
  let closed = false;
  let dead = false;

  const sleep = (msMax: number): Promise<void> =>
    random.next() < 0.5 ? Promise.resolve() : clock.sleep(random.next() * msMax);

  function append(request: AppendRequest): Promise<AppendResult> {
    if (closed) return Promise.reject(closedError());
    return new Promise((resolve, reject) => {
      waiting.push({ request, timeMs: clock.wallMs(), resolve, reject });
      if (underWay.length === 0 && waiting.length === 1) queueMicrotask(() => void pump());
    });
  }

  async function pump(): Promise<void> {
    while (waiting.length > 0 && underWay.length === 0 && !dead) {
      underWay = waiting;
      waiting = [];
      await sleep(deps.settings().commitMsMax);
      if (dead) return;
      const batch = underWay;
      underWay = [];
      if (disk.isFull) refuse(batch);
      else write(batch);
    }
  }

  function refuse(batch: readonly Waiting[]): void {
    for (const { reject } of batch) reject(new PrxError('STORE_DEGRADED', FULL));
    if (degraded !== undefined) return;
    degraded = FULL;
    const probe = (): void => {
      if (disk.isFull) clock.setTimer(PROBE_MS, probe);
      else degraded = undefined;
    };
    clock.setTimer(PROBE_MS, probe);
  }

  function write(batch: readonly Waiting[]): void {
    degraded = undefined;
    for (const { request, timeMs, resolve, reject } of batch) {
      try {
        const done = disk.commit(request, timeMs);
        if (done.kind === 'duplicate') {
          const { row } = done.claim;
          const event = copy(row.event);
          const result = { kind: 'duplicate', event, sameDigest: done.sameDigest } as const;
          void mark.whenSafe(row.id).then(() => resolve(result));
          continue;
        }
        const result = {
          kind: 'appended',
          events: done.rows.map((row) => copy(row.event)),
        } as const;
        if (done.rows.some(({ power }) => power)) {
          void mark.whenSafe(done.rows.at(-1)?.id ?? 0).then(() => resolve(result));
        } else resolve(result);
      } catch (error) {
        reject(error);
      }
    }
    void sync();
  }

  /** One sync at a time; it covers what was written before it began. */
  async function sync(): Promise<void> {
    syncAsked = true;
    if (syncing) return;
    syncing = true;
    while (syncAsked && !dead) {
      syncAsked = false;
      const upToId = disk.rows.at(-1)?.id ?? 0;
      await sleep(deps.settings().syncMsMax);
      if (dead) return;
      disk.sync(upToId);
      mark.advance(upToId);
    }
    syncing = false;
  }

  /** A snapshot, held back until it is safe to be shown. */
  async function read<T>(look: () => T, rowsOf: () => readonly Row[]): Promise<T> {
    if (closed) throw closedError();
    await sleep(READ_MS_MAX);
    const found = look();
    const answer = found === undefined ? found : copy(found);
    await mark.whenSafe(rowsOf().findLast(({ power }) => power)?.id ?? 0);
    if (dead) return new Promise(() => undefined);
    return answer;
  }

  /** The process table is written in the order of the calls. */
  function inOrder<T>(act: () => T): Promise<T> {
    if (closed) return Promise.reject(closedError());
    const done = ordered.then(async () => {
      await sleep(deps.settings().commitMsMax);
      if (dead) return new Promise<T>(() => undefined);
      if (disk.isFull) throw new PrxError('STORE_DEGRADED', FULL);
      return act();
    });
    ordered = done.then(
      () => undefined,
      () => undefined,
    );
    return done;
  }

  const rowsOf = (session: string): readonly Row[] => disk.sessions.get(session) ?? [];
  const ofEffect = (session: string, effect: string): readonly Row[] =>
    rowsOf(session).filter((row) => row.effect === effect);
  const records = (): SessionRecord[] =>
    [...disk.records.values()].sort((one, other) => firstId(disk, other) - firstId(disk, one));

  return {
    epoch: disk.epoch,
    append,
    async findClaim(scope, key) {
      const claim = (): { event: EventEnvelope; digest: string } | undefined => {
        const found = disk.claims.get(`${scope} ${key}`);
        return found && { event: found.row.event, digest: found.digest };
      };
      return read(claim, () => {
        const found = disk.claims.get(`${scope} ${key}`);
        return found === undefined ? [] : [found.row];
      });
    },
    readEvents: (session, options) =>
      read(
        () => readPage(disk, session, options),
        () => rowsOf(session),
      ),
    readAll: (cursor, limit) =>
      read(
        () => readGlobal(disk, cursor, limit),
        () => disk.rows,
      ),
    readHistory: (session) => {
      const known: readonly string[] = historyTypes;
      const rows = () => rowsOf(session).filter(({ event }) => known.includes(event.type));
      return read(() => foldHistory(rows().map(({ event }) => event)), rows);
    },
    readEffect: (session, effect) =>
      read(
        () =>
          ofEffect(session, effect)
            .filter(({ power }) => power)
            .map(({ event }) => event),
        () => ofEffect(session, effect),
      ),
    readTurn: (session, { turn, since, until, limit, types }) => {
      const rows = () =>
        rowsOf(session)
          .filter(({ event }) => event.seq > since && event.seq <= until)
          .filter(({ event }) => event.turn === turn && types.includes(event.type));
      return read(
        () =>
          rows()
            .slice(0, limit)
            .map(({ event }) => event),
        rows,
      );
    },
    readSpoolOffset: (session, effect, attempt) =>
      read(
        () =>
          ofEffect(session, effect)
            .filter(({ event }) => streamTypes.includes(event.type))
            .map(({ event }) => event.data as { attempt?: number; offset?: number })
            .filter((data) => (data.attempt ?? 1) === attempt)
            .reduce((highest, { offset = 0 }) => Math.max(highest, offset), 0),
        () => ofEffect(session, effect),
      ),
    readInput: (session, input) =>
      read(
        () => {
          const found = rowsOf(session).find(
            ({ event }) =>
              event.type === 'input.accepted' &&
              (event.data as { input_id: string }).input_id === input,
          );
          if (found === undefined) throw new PrxError('NOT_FOUND', `no input ${input}`);
          return found.event;
        },
        () => rowsOf(session),
      ),
    getSession: (id) =>
      read(
        () => disk.records.get(id),
        () => rowsOf(id),
      ),
    listSessions: () => read(records, () => disk.rows),
    readCensus: () =>
      read(
        () => {
          const removed = { input_tokens: 0, output_tokens: 0, cost_usd: 0 };
          return { sessions: records(), removed };
        },
        () => disk.rows,
      ),
    countSessions: () =>
      read(
        () => {
          const byState = Object.groupBy(records(), ({ state }) => state);
          return Object.fromEntries(
            Object.entries(byState).map(([state, each]) => [state, each.length]),
          );
        },
        () => disk.rows,
      ),
    resolveSession: (ref) =>
      read(
        () => {
          const record = disk.records.get(ref) ?? records().find(({ name }) => name === ref);
          if (record === undefined) throw new PrxError('SESSION_NOT_FOUND', `no session ${ref}`);
          return record;
        },
        () => rowsOf(ref),
      ),
    listUnfinished: () =>
      read(
        () => records().filter(isUnfinished).reverse(),
        () => disk.rows,
      ),
    deleteSession: (id) => inOrder(() => disk.remove(id)),
    async forkSession(from, seq, to) {
      const forked = await inOrder(() => disk.fork({ from, seq, to }, clock.wallMs()));
      void sync();
      await mark.whenSafe(disk.sessions.get(to)?.at(-1)?.id ?? 0);
      return copy(forked);
    },
    exportEvents: () => Promise.reject(new PrxError('UNSUPPORTED', 'not simulated')),
    backup: () => Promise.reject(new PrxError('UNSUPPORTED', 'not simulated')),
    listExpired: async () => [],
    trim: async () => ({ sessions: 0, events: 0 }),
    putProcess: (entry) =>
      inOrder(() => void disk.processes.set(`${entry.pid} ${entry.startTicks}`, entry)),
    removeProcess: ({ pid, startTicks }) =>
      inOrder(() => void disk.processes.delete(`${pid} ${startTicks}`)),
    listProcesses: () =>
      read(
        () => [...disk.processes.values()],
        () => [],
      ),
    verify: async () => verify(disk),
    health: () => ({ degraded, damaged: [] }),
    shrink: async () => undefined,
    async close() {
      if (closed) return;
      while (waiting.length > 0 || underWay.length > 0) await clock.sleep(1);
      closed = true;
      disk.sync(disk.rows.at(-1)?.id ?? 0);
    },
    crash() {
      if (dead) return;
      if (underWay.length > 0 && !disk.isFull && random.next() < 0.5) {
        for (const { request, timeMs } of underWay) writeUnanswered(disk, request, timeMs);
      }
      dead = true;
      closed = true;
    },
  };
}

function writeUnanswered(disk: Disk, request: AppendRequest, timeMs: number): void {
  try {
    disk.commit(request, timeMs);
  } catch {
    // Refused: nobody is left to hear of it.
  }
}

function verify(disk: Disk) {
  const problems = [...disk.records].flatMap(([session, record]) => {
    let folded: SessionRecord | undefined;
    for (const { event } of disk.sessions.get(session) ?? []) folded = foldSession(folded, event);
    if (JSON.stringify(folded) === JSON.stringify(record)) return [];
    return [{ session, seq: record.last_seq, problem: 'the record is not the fold of its events' }];
  });
  return { sessions: disk.records.size, events: disk.rows.length, problems };
}

function readPage(disk: Disk, session: string, { since, limit, epoch, types }: ReadOptions) {
  const rows = disk.sessions.get(session) ?? [];
  const last = rows.at(-1)?.event;
  // The supervisor's own session is there before its first event.
  if (last === undefined && session === SYSTEM_SESSION) return { events: [], next: 0, last_seq: 0 };
  if (last === undefined) throw new PrxError('SESSION_NOT_FOUND', `there is no session ${session}`);
  const at = rows[since - 1]?.event;
  const isLost = since > last.seq || (epoch !== undefined && (at?.epoch ?? 0) > epoch);
  if (isLost) {
    const good = rows.findLast(({ event }) => epoch === undefined || event.epoch <= epoch);
    const lastGood = Math.min(good?.event.seq ?? 0, last.seq);
    const message = `the cursor is beyond what the journal holds; go on from event ${lastGood}`;
    throw new PrxError('CURSOR_SUPERSEDED', message, { data: { last_good_seq: lastGood } });
  }
  const page = rows
    .slice(since)
    .map(({ event }) => event)
    .filter(({ type }) => types === undefined || types.includes(type))
    .slice(0, limit);
  const next = page.length < limit ? last.seq : (page.at(-1)?.seq ?? last.seq);
  return { events: page, next, last_seq: last.seq };
}

function readGlobal(disk: Disk, cursor: string | undefined, limit: number): GlobalPage {
  const [epoch = 0, id = 0] = (cursor ?? `${disk.epoch}.0`).split('.').map(Number);
  const later = disk.epochs.find((each) => each.epoch > epoch);
  if (later !== undefined && id >= later.firstId) {
    throw new PrxError('CURSOR_SUPERSEDED', `the cursor is of epoch ${epoch}`);
  }
  const rows = disk.rows.filter((row) => row.id > id).slice(0, limit);
  const cursors = rows.map((row) => `${disk.epoch}.${row.id}`);
  const events = rows.map(({ event }) => event);
  return { events, cursors, cursor: cursors.at(-1) ?? `${disk.epoch}.${id}` };
}

function firstId(disk: Disk, record: SessionRecord): number {
  return disk.sessions.get(record.id)?.[0]?.id ?? 0;
}

function closedError(): PrxError {
  return new PrxError('SHUTTING_DOWN', 'the journal is closed');
}

const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;
