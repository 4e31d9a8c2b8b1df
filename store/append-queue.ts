/** Group commit. Appends of one tick become one transaction, and while two are under way the rest
 *  waits here, so the busier the disk, the larger the groups. Order is call order, for appends
 *  and for the other writing tasks alike. Bounded; what does not fit is refused at once with
 *  STORE_DEGRADED, and one session can fill only its share. */

import { assert } from '../base/assert.ts';
import type { Clock } from '../base/clock.ts';
import { toTimestamp } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { AppendRequest, AppendResult } from './contract.ts';
import type { SafeMark } from './safe-mark.ts';
import {
  type CommitReport,
  fromWireError,
  type Outcome,
  type Reply,
  type WireError,
} from './thread-protocol.ts';
import type { WriterThread } from './threads.ts';
import { type PreparedRequest, prepareRequest } from './wire.ts';

const WAITING_MAX = 20_000;
const WAITING_BYTES_MAX = 64 * 1024 * 1024;
const SESSION_WAITING_MAX = 4000;
const SESSION_BYTES_MAX = 34 * 1024 * 1024;
const BATCH_EVENTS_MAX = 1000;
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** Batches and other tasks: one is written while the next one is on its way to the thread. */
const TASKS_UNDER_WAY_MAX = 2;
/** One runs; one waits in the thread, and covers all that is committed before it starts. */
const SYNCS_UNDER_WAY_MAX = 2;

interface Waiting extends PreparedRequest {
  readonly request: AppendRequest;
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: unknown) => void;
}

/** Another task of the writer, in its place among the appends. */
type Entry = Waiting | { readonly run: () => Promise<void> };

export interface AppendQueueDeps {
  readonly writer: WriterThread;
  readonly mark: SafeMark;
  readonly clock: Clock;
  readonly epoch: number;
  /** The writer could not commit, or not sync. */
  readonly onTrouble: (error: WireError) => void;
  readonly onCommit: (report: CommitReport) => void;
}

export class AppendQueue {
  readonly #deps: AppendQueueDeps;
  #entries: Entry[] = [];
  readonly #load = new Map<string, { count: number; bytes: number }>();
  #waitingCount = 0;
  #waitingBytes = 0;
  #underWay = 0;
  /** One commit whose answer waits for its sync. */
  #isSyncing = false;
  readonly #syncs: Promise<void>[] = [];
  #nextSync: Promise<void> | undefined;
  #isScheduled = false;

  constructor(deps: AppendQueueDeps) {
    this.#deps = deps;
  }

  /** Resolves when the durability class of the request's events holds. */
  async append(request: AppendRequest): Promise<AppendResult> {
    const prepared = prepareRequest(request, this.#deps.clock.wallMs());
    this.#admit(request, prepared.bytes);
    try {
      return await new Promise((resolve, reject) => {
        this.#entries.push({ ...prepared, request, resolve, reject });
        this.#schedule();
      });
    } finally {
      this.#release(request, prepared.bytes);
    }
  }

  /** Runs another task of the writer behind all appends made so far. */
  runInOrder<T>(task: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#entries.push({ run: () => task().then(resolve, reject) });
      this.#schedule();
    });
  }

  /** Resolves when a sync that started after this call has been answered; see `mark` for what is
   *  synced. Few are under way, however many ask. */
  sync(): Promise<void> {
    if (this.#nextSync !== undefined) return this.#nextSync;
    const [oldest] = this.#syncs;
    if (oldest === undefined || this.#syncs.length < SYNCS_UNDER_WAY_MAX) return this.#postSync();
    this.#nextSync = oldest.then(() => {
      this.#nextSync = undefined;
      return this.#postSync();
    });
    return this.#nextSync;
  }

  #admit({ events }: AppendRequest, bytes: number): void {
    const session = events[0]?.session ?? '';
    const load = this.#load.get(session) ?? { count: 0, bytes: 0 };
    const isFull =
      this.#waitingCount >= WAITING_MAX || this.#waitingBytes + bytes > WAITING_BYTES_MAX;
    if (isFull || load.count >= SESSION_WAITING_MAX || load.bytes + bytes > SESSION_BYTES_MAX) {
      throw new PrxError(
        'STORE_DEGRADED',
        `${load.count} appends of ${session} (${load.bytes} bytes) wait for the journal, ` +
          `${this.#waitingBytes} bytes in all; the disk does not keep up, try again later`,
        { data: { session, waiting: load.count, bytes: load.bytes } },
      );
    }
    this.#load.set(session, { count: load.count + 1, bytes: load.bytes + bytes });
    this.#waitingCount += 1;
    this.#waitingBytes += bytes;
  }

  #release({ events }: AppendRequest, bytes: number): void {
    const session = events[0]?.session ?? '';
    const load = this.#load.get(session) ?? { count: 1, bytes };
    if (load.count === 1) this.#load.delete(session);
    else this.#load.set(session, { count: load.count - 1, bytes: load.bytes - bytes });
    this.#waitingCount -= 1;
    this.#waitingBytes -= bytes;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#underWay < TASKS_UNDER_WAY_MAX) {
      const [first] = this.#entries;
      if (first === undefined) return;
      this.#underWay += 1;
      const task = 'run' in first ? this.#takeTask(first) : this.#commit(this.#takeBatch());
      void task.finally(() => {
        this.#underWay -= 1;
        this.#pump();
      });
    }
  }

  /** Resolves when the thread may be given more. A batch of which everybody waits for the sync is
   *  one task where it is alone, and then holds up nothing that comes behind it. */
  async #commit(batch: readonly Waiting[]): Promise<void> {
    const isAlone = this.#underWay === 1 && !this.#isSyncing;
    if (!isAlone || !batch.every(({ isPower }) => isPower)) return this.#send(batch, 'commit');
    this.#isSyncing = true;
    void this.#send(batch, 'commitSynced').finally(() => {
      this.#isSyncing = false;
    });
  }

  #takeTask(entry: Extract<Entry, { run: unknown }>): Promise<void> {
    this.#entries = this.#entries.slice(1);
    return entry.run();
  }

  #takeBatch(): readonly Waiting[] {
    const batch: Waiting[] = [];
    let events = 0;
    let bytes = 0;
    for (const entry of this.#entries) {
      if ('run' in entry) break;
      events += entry.wire.events.length;
      bytes += entry.bytes;
      if (batch.length > 0 && (events > BATCH_EVENTS_MAX || bytes > BATCH_BYTES_MAX)) break;
      batch.push(entry);
    }
    this.#entries = this.#entries.slice(batch.length);
    return batch;
  }

  /** A sync of its own is asked for right behind the commit, without waiting for its answer. */
  async #send(batch: readonly Waiting[], kind: 'commit' | 'commitSynced'): Promise<void> {
    const { writer } = this.#deps;
    const commit = this.#settle(() =>
      writer.run(
        kind,
        batch.map(({ wire }) => wire),
      ),
    );
    if (kind === 'commit' && batch.some(({ isPower }) => isPower)) void this.sync();
    const reply = await commit;
    if (!reply.ok) {
      this.#deps.onTrouble(reply.error);
      for (const { reject } of batch) reject(fromWireError(reply.error));
      return;
    }
    this.#deps.mark.advance(reply.value.safeId);
    this.#deps.onCommit(reply.value);
    for (const [index, waiting] of batch.entries()) {
      this.#answer(waiting, reply.value.outcomes[index]);
    }
  }

  #postSync(): Promise<void> {
    const sync = this.#runSync();
    this.#syncs.push(sync);
    void sync.finally(() => this.#syncs.splice(this.#syncs.indexOf(sync), 1));
    return sync;
  }

  /** Never rejects: who waits for a failed one hears of it from the mark. */
  async #runSync(): Promise<void> {
    const reply = await this.#settle(() => this.#deps.writer.run('sync', null));
    if (reply.ok) this.#deps.mark.advance(reply.value);
    else this.#deps.onTrouble(reply.error);
  }

  /** A thread that died answers nothing: its journal must be opened anew. */
  async #settle<T>(run: () => Promise<Reply<T>>): Promise<Reply<T>> {
    try {
      return await run();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const message = `the thread that writes the journal died: ${reason}; restart prx-supervisor`;
      return {
        ok: false,
        error: { code: 'STORE_DEGRADED', message, data: { reason }, trouble: 'fatal' },
      };
    }
  }

  #answer(waiting: Waiting, outcome: Outcome | undefined): void {
    const { resolve, reject, request, wire, isPower } = waiting;
    const { mark, epoch } = this.#deps;
    assert(outcome !== undefined, 'each request of a batch has an outcome');
    if (outcome.kind === 'refused') {
      reject(fromWireError(outcome.error));
      return;
    }
    if (outcome.kind === 'duplicate') {
      // The first claim may be on its way to the disk still.
      const event = JSON.parse(outcome.event) as EventEnvelope;
      const result = { kind: 'duplicate', event, sameDigest: outcome.sameDigest } as const;
      mark.whenSafe(outcome.id).then(() => resolve(result), reject);
      return;
    }
    const time = toTimestamp(wire.timeMs);
    const events = request.events.map(({ session, type, turn, data }, index) => ({
      session,
      seq: outcome.seqs[index] ?? 0,
      epoch,
      time,
      type,
      ...(turn === undefined ? {} : { turn }),
      data,
    }));
    const result = { kind: 'appended', events } as const;
    // Who need not wait for a sync does not.
    if (isPower) mark.whenSafe(outcome.id).then(() => resolve(result), reject);
    else resolve(result);
  }
}
