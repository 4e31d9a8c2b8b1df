/** The writer thread: the entry that the pool loads, once. Owns the only connection that writes
 *  events, and the order of commits: tasks are taken one after the other as they were posted; a
 *  `sync` waits without holding up what comes behind it. */
import { closeSync, fsyncSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { assert, unreachable } from '../base/assert.ts';
import { collectGarbage } from '../base/collect.ts';
import { type HighMark, openHighMark } from './high-mark.ts';
import { watchPlaces } from './in-place.ts';
import { openJournalFile } from './journal-file.ts';
import { deleteStep, forkStep, removeUnlisted } from './maintenance.ts';
import { writeMeta } from './meta.ts';
import { type Database, findTrouble } from './sqlite.ts';
import { checkTails } from './tails.ts';
import {
  type CommitReport,
  type OpenReport,
  type Reply,
  type Task,
  toReply,
  type WireRequest,
  type WriterFaults,
  type WriterOptions,
  type WriterTasks,
} from './thread-protocol.ts';
import { finishTrims, trimStep } from './trim.ts';
import { WalSync } from './wal-sync.ts';
import { Writer } from './writer.ts';

interface OpenJournal {
  readonly writer: Writer;
  readonly sync: WalSync;
  readonly mark: HighMark;
  /** Throws when nothing may be written. */
  readonly assertUsable: () => void;
}

/** The state of this thread: set by `open`, unset by `close`. */
const thread: { journal: OpenJournal | undefined } = { journal: undefined };

/** Enough to tell a disk with room from one that is full to the last page. */
const PROBE_BYTES = 256 * 1024;

/** Called by the pool for each task. */
export function run(task: Task<WriterTasks>): Promise<Reply<unknown>> {
  return toReply<unknown>(() => {
    if (task.kind === 'open') return open(task.input);
    assert(thread.journal !== undefined, `the writer is open before the task ${task.kind}`);
    return answer(thread.journal, task);
  });
}

async function open(options: WriterOptions): Promise<OpenReport> {
  assert(thread.journal === undefined, 'the writer is opened once');
  const { bootId, faults } = options;
  const onOperation = createFailure(faults.failOperation);
  const file = openJournalFile(options.path, { mode: 'serve', bootId, onOperation });
  const writer = new Writer(file);
  removeUnlisted(writer);
  finishTrims(writer);
  if (!file.wasClean) rewriteLog(writer.db);
  const { pagesMax } = options.faults;
  if (pagesMax !== undefined) writer.db.pragma(`max_page_count = ${pagesMax}`);
  const sync = new WalSync(`${options.path}-wal`, () => writer.lastId, options.faults);
  // What an earlier process left written but unsynced is visible from now on.
  const safeId = await sync.run();
  syncFolder(dirname(options.path));
  const assertInPlace = watchPlaces([options.path, `${options.path}-wal`]);
  const assertUsable = (): void => {
    sync.assertUsable();
    assertInPlace();
  };
  const mark = openHighMark(options.path, file.epoch, bootId);
  mark.note(writer.lastId);
  thread.journal = { writer, sync, mark, assertUsable };
  return { epoch: file.epoch, safeId, wasClean: file.wasClean };
}

/** Behind a sync that failed, the log reads as if it were on the disk: the kernel keeps such pages
 *  and marks them clean, so no later sync would write them, and a power loss would cut off whatever
 *  came behind them. So all that is visible is copied into the database, and synced there, before
 *  anything is built on it. A full disk has no room for that, and takes nothing new either. */
function rewriteLog(db: Database): void {
  try {
    db.pragma('wal_checkpoint(TRUNCATE)');
  } catch (error) {
    if (findTrouble(error) !== 'full') throw error;
  }
}

/** Fails operations of the database as a broken disk does. */
function createFailure(plan: WriterFaults['failOperation']): (() => void) | undefined {
  if (plan === undefined) return undefined;
  let count = 0;
  return () => {
    count += 1;
    if (count < plan.at || count >= plan.at + plan.count) return;
    throw Object.assign(new Error('injected'), { errcode: plan.errcode });
  };
}

function answer(journal: OpenJournal, task: Exclude<Task<WriterTasks>, { kind: 'open' }>): unknown {
  const { writer, sync, assertUsable } = journal;
  switch (task.kind) {
    case 'tails':
      return checkTails(writer);
    case 'commit':
      assertUsable();
      sync.writeBackSoon();
      return commit(journal, task.input);
    case 'commitSynced':
      assertUsable();
      return commitSynced(journal, task.input);
    case 'sync':
      return sync.run();
    case 'probe':
      assertUsable();
      return probe(writer, sync);
    case 'delete':
      assertUsable();
      return deleteStep(writer, task.input);
    case 'fork':
      assertUsable();
      return forkStep(writer, task.input);
    case 'trim':
      assertUsable();
      return trimStep(writer, task.input);
    case 'putProcess':
      writer.db.run(
        'INSERT OR REPLACE INTO processes (pid, start_ticks, boot_id, kind, session, started_at) ' +
          'VALUES (?, ?, ?, ?, ?, ?)',
        ...task.input,
      );
      return null;
    case 'removeProcess':
      writer.db.run('DELETE FROM processes WHERE pid = ? AND start_ticks = ?', ...task.input);
      return null;
    case 'shrink':
      return shrink(writer);
    case 'close':
      return close(journal);
    default:
      return unreachable(task);
  }
}

function commit(
  { writer, sync, mark }: OpenJournal,
  requests: readonly WireRequest[],
): CommitReport {
  const report = writer.commit(requests, sync.syncedId);
  mark.note(writer.lastId);
  return report;
}

async function commitSynced(
  journal: OpenJournal,
  requests: readonly WireRequest[],
): Promise<CommitReport> {
  const { writer, sync } = journal;
  const report = commit(journal, requests);
  return { ...report, safeId: writer.safeId(await sync.run()) };
}

/** Throws as long as the disk takes no more. */
async function probe(writer: Writer, sync: WalSync): Promise<null> {
  writer.write(() => writeMeta(writer.db, 'probe', 'x'.repeat(PROBE_BYTES)));
  writer.write(() => writeMeta(writer.db, 'probe', ''));
  await sync.run();
  return null;
}

function shrink({ db }: Writer): null {
  db.shrink();
  collectGarbage();
  return null;
}

/** A journal that could not be synced is not marked as cleanly stopped. */
async function close({ writer, sync, mark }: OpenJournal): Promise<null> {
  thread.journal = undefined;
  try {
    sync.assertUsable();
    writer.write(() => writeMeta(writer.db, 'clean', '1'));
    await sync.run();
  } finally {
    await sync.close();
    writer.db.close();
    mark.close();
  }
  return null;
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
