/** The journal without a supervisor: verified and exported from read-only connections. Nothing is
 *  changed but the schema of an older version, which a start would bring up to date as well. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import { readBootId } from '../base/process.ts';
import type { VerifyReport } from './contract.ts';
import { exportLines } from './export.ts';
import { SYSTEM } from './fold-row.ts';
import { describeLost, findLost } from './high-mark.ts';
import { toProblem } from './integrity.ts';
import { openJournalFile } from './journal-file.ts';
import { acquireLock } from './lock.ts';
import { resolveSession } from './reader.ts';
import { listJournals, verifyWhole } from './reader-verify.ts';
import { JOURNAL_ID, migrations } from './schema.ts';
import { Database } from './sqlite.ts';
import { prepareStateDir } from './state-dir.ts';
import type { Problem } from './thread-protocol.ts';

export interface OfflineOptions {
  readonly stateDir: string;
  readonly clock: Clock;
  /** An id, part of one, a name, @last, or `system`; absent: all. */
  readonly session?: string | undefined;
}

const BUSY_TIMEOUT_MS = 5000;
/** What a problem of the file as a whole is named by. */
const FILE = 'journal.db';

/** The name of the journal's file in a state directory. */
export function journalPath(stateDir: string): string {
  return join(stateDir, 'journal.db');
}

/** The log, structure, every event, every chain, every record.
 *  Throws NOT_FOUND when there is no journal, SESSION_NOT_FOUND. */
export function verifyOffline(options: OfflineOptions): VerifyReport {
  const lost = checkLog(options.stateDir);
  return withJournal(options, (db) => {
    const journals = options.session === undefined ? listAll(db) : [findName(db, options.session)];
    const problems: Problem[] = [...lost, ...checkStructure(db)];
    let events = 0;
    for (const session of journals) {
      const found = verifyWhole(db, session);
      events += found.events;
      problems.push(...found.problems);
    }
    return { sessions: journals.filter((each) => each !== SYSTEM).length, events, problems };
  });
}

/** Hands over one line after the other. */
export function exportOffline(
  options: OfflineOptions & { readonly aside: boolean },
  onLine: (line: string) => void,
): void {
  withJournal(options, (db) => {
    const { session: ref, aside } = options;
    // What was moved aside may be all that is left of a session.
    const session = ref === undefined ? null : aside ? ref : findName(db, ref);
    for (const line of exportLines(db, { session, aside })) onLine(line);
  });
}

/** Sessions, and events that have no session any more: those count as damage. */
function listAll(db: Database): readonly string[] {
  const known = listJournals(db);
  const lost = db.all<{ session: string }>(
    "SELECT DISTINCT session FROM events WHERE session <> 'system' AND " +
      'session NOT IN (SELECT id FROM sessions) AND session NOT IN (SELECT session FROM unlisted)',
  );
  return [...known, ...lost.map(({ session }) => session)];
}

/** Pages that SQLite cannot read, and indexes that do not fit their table, in its own words. */
export function checkStructure(db: Database): readonly Problem[] {
  try {
    const said = db.pragma('integrity_check(1)');
    return said === 'ok' ? [] : [{ session: FILE, seq: 0, problem: said }];
  } catch (error) {
    return [toProblem(FILE, error)];
  }
}

/** What the file cannot show: that the log beside it was taken away. The start, and a repair, write
 *  it down. */
function checkLog(stateDir: string): readonly Problem[] {
  const path = journalPath(prepareStateDir(stateDir));
  assertJournal(path);
  const lost = findLost(path, readBootId());
  return lost === undefined ? [] : [{ session: FILE, seq: 0, problem: describeLost(lost) }];
}

function findName(db: Database, ref: string): string {
  return ref === SYSTEM ? SYSTEM : resolveSession(db, ref).id;
}

function withJournal<T>(options: OfflineOptions, use: (db: Database) => T): T {
  const stateDir = prepareStateDir(options.stateDir);
  const path = journalPath(stateDir);
  assertJournal(path);
  let db = openReader(path);
  try {
    if (isOlder(db)) {
      db.close();
      const lock = acquireLock(stateDir, options.clock);
      try {
        openJournalFile(path, { mode: 'keep' }).db.close();
      } finally {
        lock.release();
      }
      db = openReader(path);
    }
    return use(db);
  } finally {
    db.close();
  }
}

export function assertJournal(path: string): void {
  if (existsSync(path)) return;
  throw new PrxError('NOT_FOUND', `there is no journal ${path}; name its place with --state-dir`);
}

function openReader(path: string): Database {
  return new Database(path, { readOnly: true, busyTimeoutMs: BUSY_TIMEOUT_MS });
}

/** Another program's database, or a newer one, is refused by what reads it. */
function isOlder(db: Database): boolean {
  const owner = Number(db.pragma('application_id'));
  if (owner !== JOURNAL_ID) {
    throw new PrxError('STORE_CORRUPT', 'journal.db is no journal of prx-supervisor');
  }
  return Number(db.pragma('user_version')) < migrations.length;
}
