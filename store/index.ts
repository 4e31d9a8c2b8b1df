/** The store: opens the journal of one state directory. */
import { dirname } from 'node:path';
import { background } from '../base/background.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import { readBootId } from '../base/process.ts';
import { Announcer } from './announcer.ts';
import { AppendQueue } from './append-queue.ts';
import { Condition } from './condition.ts';
import type { Store } from './contract.ts';
import { DamageList } from './damage-list.ts';
import { findLost } from './high-mark.ts';
import { acquireLock, type Lock } from './lock.ts';
import { closeLost } from './repair.ts';
import { finishRestore } from './restore.ts';
import { SafeMark } from './safe-mark.ts';
import { prepareJournal, prepareStateDir } from './state-dir.ts';
import { JournalStore } from './store.ts';
import {
  fromReply,
  fromWireError,
  type OpenReport,
  type Problem,
  type WriterFaults,
} from './thread-protocol.ts';
import {
  type ReaderPool,
  startReaders,
  startWriter,
  type ThreadFiles,
  type WriterThread,
} from './threads.ts';
import { Upkeep } from './upkeep.ts';

export { foldSession } from './fold-session.ts';
export { toSpentMs } from './spent-time.ts';

export interface StoreOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The files of the threads; absent: the sources beside this one. */
  readonly threadFiles?: ThreadFiles;
  /** Hears why the journal cannot be written, and `undefined` when it can again. */
  readonly onDegraded?: (reason: string | undefined) => void;
  /** Hears of a failure behind which it is unknown what reached the disk: the end of this process
   *  is the only way on, and a new one reads what is there. Called before anybody is refused. */
  readonly onFatal?: (reason: string) => void;
  /** Hears of each damaged session, once: found at the start, by the verification behind it, or by
   *  a read that met it. */
  readonly onProblem?: (problem: Problem) => void;
  /** Hears when the store wrote events of its own (store.degraded, store.repaired). */
  readonly onAnnounced?: () => void;
  /** False: no verification in the background. Default true. */
  readonly verifyInBackground?: boolean;
  /** Default: the kernel's. */
  readonly bootId?: string;
  /** Faults for tests. */
  readonly faults?: WriterFaults;
}

/** Opens (creates, mode 0700) the state directory's journal, alone: a second opener, in this or
 *  another process, is refused. Checks the tails of unfinished sessions; verifies everything else
 *  in the background.
 *  Throws ALREADY_RUNNING (data: pid and started_at of the holder), STATE_DIR_UNUSABLE (not
 *  writable, not ours, newer schema), UNSUPPORTED (SQLite too old), STORE_CORRUPT (no database). */
export async function openStore(options: StoreOptions): Promise<Store> {
  const stateDir = prepareStateDir(options.stateDir);
  const lock = acquireLock(stateDir, options.clock);
  try {
    finishRestore(stateDir, options.clock);
    return await openLocked(options, prepareJournal(stateDir), lock);
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function openLocked(options: StoreOptions, path: string, lock: Lock): Promise<Store> {
  const files = options.threadFiles ?? {
    writer: new URL('./writer-main.ts', import.meta.url),
    reader: new URL('./reader-main.ts', import.meta.url),
  };
  const bootId = options.bootId ?? readBootId();
  const lost = findLost(path, bootId);
  if (lost !== undefined) {
    options.logger.error('store.events_lost', { ...lost, file: 'journal.db-wal' });
    closeLost(dirname(path), lost, options.clock);
  }
  const writer = startWriter(files.writer);
  try {
    const report = fromReply(
      await writer.run('open', {
        path,
        bootId,
        faults: options.faults ?? {},
      }),
    );
    return assemble(options, { report, path, lock, writer, files });
  } catch (error) {
    await writer.stop();
    throw error;
  }
}

interface Opened {
  readonly report: OpenReport;
  readonly path: string;
  readonly lock: Lock;
  readonly writer: WriterThread;
  readonly files: ThreadFiles;
}

function assemble(options: StoreOptions, opened: Opened): Store {
  const { clock, logger } = options;
  const { report, path, lock, writer, files } = opened;
  const mark = new SafeMark(report.safeId);
  const readers = lazyReaders(files.reader, path);
  const announcer = new Announcer({
    append: (request) => queue.append(request),
    logger,
    isWell: () => condition.reason === undefined,
    onWritten: () => options.onAnnounced?.(),
  });
  const damage = new DamageList((problem) => {
    logger.error('store.corrupt', { ...problem });
    options.onProblem?.(problem);
    announcer.onDamage(problem);
  });
  const onProblem = (problem: Problem): void => damage.report(problem);
  const condition = new Condition({
    clock,
    logger,
    probe: async () => (await writer.run('probe', null)).ok,
    onChange(reason) {
      options.onDegraded?.(reason);
      announcer.onCondition(reason);
    },
    onFailed(error) {
      if (error.trouble === 'fatal') options.onFatal?.(error.message);
      mark.fail(fromWireError(error));
    },
  });
  const upkeep = new Upkeep({
    clock,
    logger,
    onProblem,
    read: async (kind, input) =>
      JSON.parse(fromReply(await readers.get().run(kind, input, 0)).json),
  });
  const queue = new AppendQueue({
    writer,
    mark,
    clock,
    epoch: report.epoch,
    onTrouble: (error) => condition.report(error),
    onCommit: ({ writtenBytes }) => {
      condition.clear();
      upkeep.onWritten(writtenBytes);
    },
  });
  // Posted before any append can be, so it is done before anything is written; not waited for,
  // because it is no part of what a start needs to know.
  const tails = writer.run('tails', null).then((reply) => {
    for (const problem of fromReply(reply)) onProblem(problem);
  });
  background(tails, 'store.tails', logger);
  if (options.verifyInBackground ?? true) upkeep.verifyInBackground();
  const parts = {
    stateDir: dirname(path),
    epoch: report.epoch,
    clock,
    lock,
    writer,
    queue,
    mark,
    condition,
    upkeep,
    damage,
  };
  return new JournalStore({ ...parts, readers: readers.get, stopReaders: readers.stop });
}

/** Readers are started at the first question. */
function lazyReaders(file: ThreadFiles['reader'], path: string) {
  let pool: ReaderPool | undefined;
  return {
    get: (): ReaderPool => {
      pool ??= startReaders(file, path);
      return pool;
    },
    stop: async (): Promise<void> => {
      await pool?.stop();
      pool = undefined;
    },
  };
}
