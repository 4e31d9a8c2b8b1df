/** The store as the supervisor sees it: appends go to the writer through the queue, questions to
 *  the readers, and no answer shows a power-durable event before it is synced. */

import { type Clock, toTimestamp } from '../base/clock.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import type { SessionHistory } from '../protocol/content.ts';
import type { EventEnvelope } from '../protocol/events.ts';
import type { EffectId, InputId, SessionId } from '../protocol/ids.ts';
import type { EventPage } from '../protocol/resources.ts';
import type { AppendQueue } from './append-queue.ts';
import type { Condition } from './condition.ts';
import type {
  AppendRequest,
  AppendResult,
  BackupSummary,
  Census,
  ExportOptions,
  ForkOptions,
  GlobalPage,
  JournalKey,
  JournalPage,
  ProcessRecord,
  ReadOptions,
  SessionFilter,
  SessionProblem,
  SessionRecord,
  Store,
  StoreHealth,
  TurnRange,
  VerifyReport,
} from './contract.ts';
import type { DamageList } from './damage-list.ts';
import type { Lock } from './lock.ts';
import type { SafeMark } from './safe-mark.ts';
import {
  fromReply,
  fromWireError,
  type ReaderTasks,
  type StepReport,
  type TrimPoint,
  type TrimReport,
  type TrimTarget,
  type VerifyStep,
  type WriterTasks,
} from './thread-protocol.ts';
import type { ReaderPool, WriterThread } from './threads.ts';
import type { Upkeep } from './upkeep.ts';

/** Checked and folded in one step of a removal. */
const TRIM_STEP_EVENTS = 2000;

export interface StoreParts {
  readonly epoch: number;
  readonly stateDir: string;
  readonly clock: Clock;
  readonly lock: Lock;
  readonly writer: WriterThread;
  readonly readers: () => ReaderPool;
  readonly stopReaders: () => Promise<void>;
  readonly queue: AppendQueue;
  readonly mark: SafeMark;
  readonly condition: Condition;
  readonly upkeep: Upkeep;
  readonly damage: DamageList;
}

interface Claim {
  readonly event: EventEnvelope;
  readonly digest: string;
}

interface WireGlobalPage extends GlobalPage {
  readonly damaged: readonly SessionProblem[];
}

interface ProcessRow {
  readonly pid: number;
  readonly start_ticks: number;
  readonly boot_id: string;
  readonly kind: ProcessRecord['kind'];
  readonly session: SessionId | null;
  readonly started_at: string;
}

export class JournalStore implements Store {
  readonly epoch: number;
  readonly #parts: StoreParts;
  #closing: Promise<void> | undefined;
  /** One at a time: it keeps a reader busy, and there are two; of one name, two would meet in the
   *  same unfinished file. */
  #backupPath: string | undefined;

  constructor(parts: StoreParts) {
    this.epoch = parts.epoch;
    this.#parts = parts;
  }

  async append(request: AppendRequest): Promise<AppendResult> {
    this.#assertWritable();
    const { queue, damage } = this.#parts;
    const refusal = damage.findRefusal(request.events);
    if (refusal !== undefined) throw refusal;
    return queue.append(request).catch((error: unknown) => {
      damage.hear(error);
      throw error;
    });
  }

  readEvents(session: JournalKey, options: ReadOptions): Promise<EventPage> {
    const { since, limit, types, epoch } = options;
    return this.#read('events', {
      session,
      since,
      limit,
      types: types ?? null,
      epoch: epoch ?? null,
    });
  }

  async readAll(cursor: string | undefined, limit: number): Promise<GlobalPage> {
    const input = { cursor: cursor ?? null, limit };
    const { damaged, ...page } = await this.#read<WireGlobalPage>('all', input);
    for (const problem of damaged) this.#parts.damage.report(problem);
    return page;
  }

  readHistory(session: SessionId): Promise<SessionHistory> {
    return this.#read('history', session);
  }

  readEffect(session: SessionId, effect: EffectId): Promise<readonly EventEnvelope[]> {
    return this.#read('effect', { session, effect });
  }

  readTurn(session: SessionId, range: TurnRange): Promise<readonly EventEnvelope[]> {
    return this.#read('turn', { session, ...range });
  }

  async findClaim(scope: string, key: string): Promise<Claim | undefined> {
    return (await this.#read<Claim | null>('claim', { scope, key })) ?? undefined;
  }

  readSpoolOffset(session: SessionId, effect: EffectId, attempt: number): Promise<number> {
    return this.#read('spoolOffset', { session, effect, attempt });
  }

  readInput(session: SessionId, input: InputId): Promise<EventEnvelope> {
    return this.#read('input', { session, input });
  }

  async getSession(id: SessionId): Promise<SessionRecord | undefined> {
    return (await this.#read<SessionRecord | null>('session', id)) ?? undefined;
  }

  listSessions(filter: SessionFilter = {}): Promise<readonly SessionRecord[]> {
    const { states = null, labels = {}, workspace = null, name = null } = filter;
    return this.#read('sessions', { states, labels, workspace, name });
  }

  readCensus(): Promise<Census> {
    return this.#read('census', null);
  }

  countSessions(): Promise<Readonly<Record<string, number>>> {
    return this.#read('counts', null);
  }

  resolveSession(ref: string): Promise<SessionRecord> {
    return this.#read('resolve', ref);
  }

  listUnfinished(): Promise<readonly SessionRecord[]> {
    return this.#read('unfinished', null);
  }

  async deleteSession(id: SessionId): Promise<void> {
    this.#assertWritable();
    await this.#removeSession(id);
    this.#parts.damage.forget(id);
    // What was overwritten in the database still stands in the WAL until then.
    await this.#sync();
    // The first one does the work and holds up nobody; the second one has little left to do.
    await this.#parts.upkeep.checkpoint('PASSIVE');
    await this.#parts.upkeep.checkpoint('TRUNCATE');
  }

  #removeSession(id: SessionId): Promise<null> {
    return this.#runSteps<null>(() => this.#inOrder('delete', id));
  }

  async forkSession(
    from: SessionId,
    seq: number,
    to: SessionId,
    { name, workspace }: ForkOptions = {},
  ): Promise<SessionRecord> {
    this.#assertWritable();
    const timeMs = this.#parts.clock.wallMs();
    const place = { name: name ?? null, workspace: workspace ?? null };
    const step = { from, to, seq, ...place, timeMs };
    let isBegun = false;
    try {
      return await this.#runSteps<SessionRecord>((before) => {
        isBegun = before !== undefined;
        return this.#inOrder('fork', { ...step, record: before ?? null });
      });
    } catch (error) {
      // Where that cannot be written either, the next start removes what is left of the copy.
      if (isBegun) await this.#removeSession(to).catch(() => undefined);
      throw error;
    } finally {
      // Also when it failed half-way: what is written must not stay unsynced for ever.
      await this.#sync();
    }
  }

  async putProcess(record: ProcessRecord): Promise<void> {
    this.#assertWritable();
    const { pid, startTicks, bootId, kind, session, started_at } = record;
    const row = [pid, startTicks, bootId, kind, session ?? null, started_at];
    await this.#inOrder('putProcess', row);
  }

  async removeProcess({
    pid,
    startTicks,
  }: Pick<ProcessRecord, 'pid' | 'startTicks'>): Promise<void> {
    this.#assertWritable();
    await this.#inOrder('removeProcess', [pid, startTicks]);
  }

  async listProcesses(): Promise<readonly ProcessRecord[]> {
    const rows = await this.#read<readonly ProcessRow[]>('processes', null);
    return rows.map(({ pid, start_ticks, boot_id, kind, session, started_at }) => ({
      pid,
      startTicks: start_ticks,
      bootId: boot_id,
      kind,
      session: session ?? undefined,
      started_at,
    }));
  }

  async verify(session?: JournalKey): Promise<VerifyReport> {
    const report = await this.#parts.upkeep.verify(session, false);
    for (const problem of report.problems) this.#parts.damage.report(problem);
    return report;
  }

  exportEvents({ session, after, limit, aside }: ExportOptions): Promise<JournalPage> {
    const input = { session: session ?? null, after, limit, aside: aside ?? false };
    return this.#read('export', input);
  }

  async shrink(): Promise<void> {
    await Promise.all([this.#parts.writer.run('shrink', null), this.#read('shrink', null)]);
  }

  async backup(path: string): Promise<BackupSummary> {
    if (this.#backupPath !== undefined) {
      const message = `the backup ${this.#backupPath} is being written; try again when it is done`;
      throw new PrxError('AT_CAPACITY', message);
    }
    const { clock, stateDir } = this.#parts;
    this.#backupPath = path;
    try {
      const createdAt = toTimestamp(clock.wallMs());
      return await this.#read<BackupSummary>('backup', { path, stateDir, createdAt });
    } finally {
      this.#backupPath = undefined;
    }
  }

  listExpired(beforeMs: number, limit: number): Promise<readonly SessionId[]> {
    return this.#read('expired', { beforeMs, limit });
  }

  async trim(keep: number): Promise<{ readonly sessions: number; readonly events: number }> {
    this.#assertWritable();
    const total = { sessions: 0, events: 0 };
    for (const { session } of await this.#read<readonly TrimTarget[]>('trimTargets', keep)) {
      const events = await this.#trimSession(session, keep);
      if (events > 0) total.sessions += 1;
      total.events += events;
    }
    return total;
  }

  /** @returns how many events were removed. */
  async #trimSession(session: string, keep: number): Promise<number> {
    const point = await this.#read<TrimPoint | null>('trimPoint', { session, keep });
    if (point === null) return 0;
    let step: VerifyStep = { session, seq: 0, link: '', record: null, limit: TRIM_STEP_EVENTS };
    for (;;) {
      const report: TrimReport = await this.#read<TrimReport>('trim', { point, step });
      if (report.kind === 'next') {
        step = report.step;
        continue;
      }
      if (report.kind === 'damaged') this.#parts.damage.report(report.problem);
      if (report.kind !== 'done') return 0;
      const { snapshot } = report;
      await this.#runSteps<null>(() => this.#inOrder('trim', snapshot));
      await this.#sync();
      return report.events;
    }
  }

  health(): StoreHealth {
    const { condition, damage } = this.#parts;
    return { degraded: condition.reason, damaged: damage.list() };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { lock, writer, stopReaders, condition, upkeep, queue } = this.#parts;
    upkeep.close();
    condition.close();
    try {
      await stopReaders();
      // A writer that failed cannot mark the stop as clean; it was told so already.
      const reply = await queue.runInOrder(() => writer.run('close', null));
      if (!condition.isFailed) fromReply(reply);
    } finally {
      await writer.stop();
      lock.release();
    }
  }

  /** Asks a reader, and holds the answer back until all it shows is synced. */
  async #read<T>(kind: keyof ReaderTasks, input: ReaderTasks[keyof ReaderTasks]): Promise<T> {
    if (this.#closing !== undefined) throw closedError();
    const { readers, mark, damage } = this.#parts;
    const reply = await readers()
      .run(kind, input, mark.id)
      .catch((error: unknown) => {
        // A thread that is stopped drops what it was asked.
        throw this.#closing === undefined ? toPrxError(error) : closedError();
      });
    if (!reply.ok) damage.hear(fromWireError(reply.error));
    const { json, powerId } = fromReply(reply);
    await mark.whenSafe(powerId);
    // The reader answers each kind with what the caller's type says; see reader-main.ts.
    return JSON.parse(json) as T;
  }

  /** Runs a task of the writer in its place among the appends. */
  async #inOrder<K extends keyof WriterTasks>(
    kind: K,
    input: WriterTasks[K][0],
  ): Promise<WriterTasks[K][1]> {
    const { queue, writer, condition } = this.#parts;
    const reply = await queue.runInOrder(() => writer.run(kind, input));
    if (!reply.ok) condition.report(reply.error);
    return fromReply(reply);
  }

  /** Repeats a task until it is done, each time with what it returned. */
  async #runSteps<T>(step: (before: T | undefined) => Promise<StepReport<T>>): Promise<T> {
    let report = await step(undefined);
    while (!report.done) report = await step(report.value);
    return report.value;
  }

  /** Makes what a task has written power-durable. Throws STORE_DEGRADED when that failed. */
  async #sync(): Promise<void> {
    await this.#parts.queue.sync();
    this.#assertWritable();
  }

  #assertWritable(): void {
    if (this.#closing !== undefined) throw closedError();
    const { condition } = this.#parts;
    if (condition.isFailed) {
      throw new PrxError('STORE_DEGRADED', condition.reason ?? 'the journal failed');
    }
  }
}

function closedError(): PrxError {
  return new PrxError('SHUTTING_DOWN', 'the journal is closed');
}
