/** A reader thread: the entry that the pool loads. Read-only connection, one snapshot an answer.
 *  The one thing it writes is the checkpoint, on a connection of its own, so that its two syncs
 *  never stand between a delta and its commit. */
import { workerData } from 'node:worker_threads';
import { assert, unreachable } from '../base/assert.ts';
import { collectGarbage } from '../base/collect.ts';
import { writeBackup } from './backup-file.ts';
import { toJsonArray } from './envelope.ts';
import { exportPage } from './export.ts';
import {
  countSessions,
  findPowerId,
  findSession,
  listSessions,
  listUnfinished,
  readAll,
  readEvents,
  resolveSession,
} from './reader.ts';
import {
  findClaim,
  readEffect,
  readHistory,
  readInput,
  readSpoolOffset,
  readTurn,
} from './reader-effects.ts';
import { findTrimPoint, listExpired, listTrimTargets, trimStep } from './reader-trim.ts';
import { listJournals, verifyStep } from './reader-verify.ts';
import { readRemoved } from './spending.ts';
import { Database } from './sqlite.ts';
import {
  type ReaderTasks,
  type ReadReport,
  type Reply,
  type Task,
  toReply,
} from './thread-protocol.ts';

const BUSY_TIMEOUT_MS = 5000;
const ALL = { states: null, labels: {}, workspace: null, name: null };

/** The connections of this thread, opened at first use and closed with the thread. */
const thread: { reader: Database | undefined; checkpointer: Database | undefined } = {
  reader: undefined,
  checkpointer: undefined,
};

/** Called by the pool for each task. */
export function run(task: Task<ReaderTasks>): Promise<Reply<ReadReport>> {
  return toReply(() => {
    if (task.kind === 'checkpoint') return checkpoint(task.input.mode);
    if (task.kind === 'backup') return backup(task.input);
    if (task.kind === 'shrink') return shrink();
    const db = reader();
    return db.transaction('read', () => answer(db, task, task.safeId ?? 0));
  });
}

function reader(): Database {
  thread.reader ??= new Database(journalPath(), {
    readOnly: true,
    busyTimeoutMs: BUSY_TIMEOUT_MS,
  });
  return thread.reader;
}

function shrink(): ReadReport {
  thread.reader?.shrink();
  thread.checkpointer?.shrink();
  collectGarbage();
  return { json: 'null', powerId: 0 };
}

function journalPath(): string {
  const data: unknown = workerData;
  assert(typeof data === 'string', 'a reader is started with the path of the journal');
  return data;
}

function answer(
  db: Database,
  task: Exclude<Task<ReaderTasks>, { kind: 'checkpoint' | 'backup' | 'shrink' }>,
  safeId: number,
): ReadReport {
  const of = (value: unknown, session?: string): ReadReport => ({
    json: typeof value === 'string' ? value : (JSON.stringify(value) ?? 'null'),
    powerId: findPowerId(db, safeId, session),
  });
  switch (task.kind) {
    case 'events':
      return readEvents(db, task.input, safeId);
    case 'all':
      return readAll(db, task.input, safeId);
    case 'history':
      return readHistory(db, task.input, safeId);
    case 'effect':
      return of(readEffect(db, task.input.session, task.input.effect), task.input.session);
    case 'turn':
      return of(readTurn(db, task.input), task.input.session);
    case 'spoolOffset':
      return of(readSpoolOffset(db, task.input), task.input.session);
    case 'claim':
      return of(findClaim(db, task.input));
    case 'input':
      return of(readInput(db, task.input.session, task.input.input), task.input.session);
    case 'session':
      return of(findSession(db, task.input), task.input);
    case 'census':
      return of({ sessions: listSessions(db, ALL), removed: readRemoved(db) });
    case 'sessions':
      return of(listSessions(db, task.input));
    case 'counts':
      return of(countSessions(db));
    case 'resolve': {
      const record = resolveSession(db, task.input);
      return of(record, record.id);
    }
    case 'unfinished':
      return of(listUnfinished(db));
    case 'processes':
      return { json: JSON.stringify(db.all('SELECT * FROM processes')), powerId: 0 };
    case 'verifyList':
      return { json: JSON.stringify(listJournals(db)), powerId: 0 };
    case 'verify':
      return { json: JSON.stringify(verifyStep(db, task.input)), powerId: 0 };
    case 'export': {
      const { lines, next, powerId } = exportPage(db, task.input);
      const json = `{"events":${toJsonArray(lines)},"next":${next ?? null}}`;
      return { json, powerId: powerId > safeId ? powerId : 0 };
    }
    case 'expired':
      return of(listExpired(db, task.input));
    case 'trimTargets':
      return of(listTrimTargets(db, task.input));
    case 'trimPoint':
      return of(findTrimPoint(db, task.input.session, task.input.keep) ?? null);
    case 'trim':
      return of(trimStep(db, task.input));
    default:
      return unreachable(task);
  }
}

/** Its own snapshot lasts as long as it takes, and holds up nobody: outside of a transaction. */
function backup(input: ReaderTasks['backup']): ReadReport {
  return { json: JSON.stringify(writeBackup(reader(), input)), powerId: 0 };
}

/** PASSIVE waits for nobody and holds up nobody: what a reader still needs stays in the WAL. */
function checkpoint(mode: 'PASSIVE' | 'TRUNCATE'): ReadReport {
  thread.checkpointer ??= new Database(journalPath(), {
    readOnly: false,
    busyTimeoutMs: BUSY_TIMEOUT_MS,
  });
  thread.checkpointer.exec('PRAGMA synchronous = NORMAL');
  const { log = 0, checkpointed = 0 } =
    thread.checkpointer.get<Record<'log' | 'checkpointed', number>>(
      `PRAGMA wal_checkpoint(${mode})`,
    ) ?? {};
  return { json: JSON.stringify({ heldPages: Math.max(0, log - checkpointed) }), powerId: 0 };
}
