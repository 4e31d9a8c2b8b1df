/** The number of the newest event, beside the log and not in it. The log looks like a temporary
 *  file, and SQLite takes a journal whose log was removed or cut for whole: events that clients
 *  have seen would be gone, their numbers given again, and nobody told. Written after each commit
 *  and never synced: it is for a machine that went on, since what a restart of the machine takes
 *  back is known by its boot id. */
import { closeSync, constants, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readLastId } from './journal-file.ts';
import { Database } from './sqlite.ts';

export interface HighMark {
  note(lastId: number): void;
  close(): void;
}

export interface Lost {
  readonly events: number;
  /** In which they were given. */
  readonly epoch: number;
}

const DIGITS = 16;

function toMarkPath(journal: string): string {
  return join(dirname(journal), 'journal.mark');
}

/** A file that cannot be written marks less than there is, which is no alarm. */
export function openHighMark(journal: string, epoch: number, bootId: string): HighMark {
  const toLine = (id: number): string =>
    // Always of one length, so that each is written over the last one.
    `${[id, epoch].map((each) => String(each).padStart(DIGITS, '0')).join(' ')} ${bootId}\n`;
  let fd: number | undefined;
  try {
    fd = openSync(toMarkPath(journal), constants.O_RDWR | constants.O_CREAT, 0o600);
  } catch {
    // As above.
  }
  return {
    note(lastId) {
      if (fd === undefined || bootId === '') return;
      try {
        writeSync(fd, toLine(lastId), 0);
      } catch {
        // As above.
      }
    },
    close() {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}

/** What was taken back on purpose is no loss. */
export function forgetHighMark(journal: string): void {
  rmSync(toMarkPath(journal), { force: true });
}

/** What was there under this boot and is not any more. Undefined also for a journal that is new, or
 *  cannot be read: who opens it says what is wrong. */
export function findLost(journal: string, bootId: string): Lost | undefined {
  const mark = readMark(journal, bootId);
  if (mark === undefined || statSync(journal).size === 0) return undefined;
  let db: Database | undefined;
  try {
    db = new Database(journal, { readOnly: true, busyTimeoutMs: 0 });
    // Before its first checkpoint all of a journal is in the log, the tables too.
    const isMade = db.get("SELECT 1 FROM sqlite_master WHERE name = 'events'") !== undefined;
    const events = mark.lastId - (isMade ? readLastId(db) : 0);
    return events > 0 ? { events, epoch: mark.epoch } : undefined;
  } catch {
    return undefined;
  } finally {
    db?.close();
  }
}

export function describeLost({ events }: Lost): string {
  const why = 'journal.db-wal was removed or cut while no supervisor ran';
  return `the newest ${events} events are gone: ${why}`;
}

function readMark(journal: string, bootId: string) {
  try {
    const text = readFileSync(toMarkPath(journal), 'utf8');
    const [, id, epoch, boot] = /^(\d+) (\d+) (\S+)\n$/.exec(text) ?? [];
    return boot === bootId ? { lastId: Number(id), epoch: Number(epoch) } : undefined;
  } catch {
    return undefined;
  }
}
