/** Puts a backup in the place of a journal, without a supervisor. All of it is written and verified
 *  beside the old one, which is then put aside, never removed; what decides is one rename. Who is
 *  killed before it leaves what was there; what is left to do behind it, the next start does. The
 *  epoch jumps far ahead: whatever clients saw of the time that is taken back, under this epoch
 *  or a few later ones, no cursor of it is good any more. */
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type Clock, toTimestamp } from '../base/clock.ts';
import { isPrxError, PrxError, toPrxError } from '../base/errors.ts';
import { sessionIdSchema } from '../protocol/ids.ts';
import {
  type BackupManifest,
  checkBackup,
  linkOrCopy,
  readFiles,
  syncPath,
  toJournal,
} from './backup-file.ts';
import { forgetHighMark } from './high-mark.ts';
import { openJournalFile, raiseEpoch } from './journal-file.ts';
import { acquireLock } from './lock.ts';
import { writeMeta } from './meta.ts';
import { journalPath } from './offline.ts';
import { Database } from './sqlite.ts';
import { prepareStateDir, unusable } from './state-dir.ts';

export interface RestoreOptions {
  readonly stateDir: string;
  readonly file: string;
  readonly clock: Clock;
  /** True: a journal that is there is put aside. */
  readonly force: boolean;
}

export interface RestoreReport extends BackupManifest {
  /** Where the old state is; undefined: there was none. */
  readonly aside: string | undefined;
  /** The epoch from now on. */
  readonly new_epoch: number;
}

/** More power losses than there are between a backup and the disaster it is for. */
const EPOCH_JUMP = 1000;
/** Of the journal: a log that is not its own would be read as if it were. */
const LOGS = ['journal.db-wal', 'journal.db-shm'] as const;
/** What belongs to the time that is taken back, also where the journal itself was taken away: an
 *  outcome in a spool must not answer an effect of the restored one that has the same number, and a
 *  note that a session was being made (`unsettled`) must not remove the folders of one that was,
 *  and is taken back. Private workspaces stay where they are. */
const FILES = ['spool', 'unsettled', 'artifacts'] as const;
const OLD = ['journal.db', ...LOGS, ...FILES] as const;

/** Throws ALREADY_RUNNING, STATE_DIR_UNUSABLE when a journal is there and `force` is false
 *  or it cannot be written, INVALID_REQUEST and STORE_CORRUPT as checkBackup does; then nothing has
 *  changed. */
export function restoreOffline(options: RestoreOptions): RestoreReport {
  const stateDir = prepareStateDir(options.stateDir);
  const { manifest } = checkBackup(options.file);
  const lock = acquireLock(stateDir, options.clock);
  try {
    const path = journalPath(stateDir);
    const hasOld = existsSync(path);
    if (hasOld && !options.force) throw occupied(stateDir);
    const draft = toDraft(stateDir);
    const epoch = writeDraft(options.file, draft, stateDir);
    const hasAny = OLD.some((name) => existsSync(join(stateDir, name)));
    const aside = hasAny ? makeAside(stateDir, options.clock) : undefined;
    replace(stateDir, draft, aside);
    return { ...manifest, aside, new_epoch: epoch };
  } finally {
    lock.release();
  }
}

/** At a start, under its lock: ends what a restore that was killed had begun.
 *  Throws STATE_DIR_UNUSABLE. */
export function finishRestore(stateDir: string, clock: Clock): void {
  const draft = toDraft(stateDir);
  if (!existsSync(draft)) return;
  // Its artifacts were written behind its journal, and that is in its place by now.
  const isDecided = existsSync(join(draft, 'artifacts')) && !existsSync(journalPath(draft));
  try {
    if (isDecided) putFiles(stateDir, draft, makeAside(stateDir, clock));
    else removeDraft(draft);
  } catch (error) {
    throw unusable(stateDir, error);
  }
}

const toDraft = (stateDir: string): string => join(stateDir, 'restore.partial');

/** The artifacts before the journal: alone they would say that it is in its place. */
function removeDraft(draft: string): void {
  for (const each of [join(draft, 'artifacts'), draft])
    rmSync(each, { recursive: true, force: true });
}

function makeAside(stateDir: string, clock: Clock): string {
  const aside = join(stateDir, `replaced-${toTimestamp(clock.wallMs()).replaceAll(':', '')}`);
  mkdirSync(aside, { mode: 0o700 });
  return aside;
}

function occupied(stateDir: string): PrxError {
  return new PrxError(
    'STATE_DIR_UNUSABLE',
    `${stateDir} holds a journal; restore into another --state-dir, or with --force, which puts ` +
      'the present one aside',
    { data: { state_dir: stateDir } },
  );
}

/** All that will be put in place. What cannot be finished is not left to fill the disk. */
function writeDraft(file: string, draft: string, stateDir: string): number {
  removeDraft(draft);
  try {
    mkdirSync(draft, { mode: 0o700 });
    const journal = journalPath(draft);
    const epoch = writeJournal(file, journal, journalPath(stateDir));
    writeArtifacts(file, join(draft, 'artifacts'));
    syncPath(draft);
    makeWorkspaces(stateDir, journal);
    return epoch;
  } catch (error) {
    removeDraft(draft);
    throw isPrxError(error) ? error : unusable(stateDir, error);
  }
}

function writeArtifacts(file: string, folder: string): void {
  const db = new Database(file, { readOnly: true, busyTimeoutMs: 0 });
  mkdirSync(folder, { mode: 0o700 });
  let open: { readonly path: string; readonly fd: number } | undefined;
  const finish = (): void => {
    if (open !== undefined) closeSync(open.fd);
    open = undefined;
  };
  try {
    const onPiece = ({ path }: { path: string }, bytes: Uint8Array): void => {
      open ??= openArtifact(folder, path);
      writeFileSync(open.fd, bytes); // All of it; writeSync may stop before the end.
    };
    for (const entry of readFiles(db, onPiece)) {
      open ??= openArtifact(folder, entry.path); // An empty one has no pieces.
      finish();
    }
  } finally {
    finish();
    db.close();
  }
}

function openArtifact(folder: string, path: string): { path: string; fd: number } {
  const whole = join(folder, path);
  // Our own backups name nothing else; a forged one must not write elsewhere.
  if (!/^[\w.-]+\/[\w.-]+$/.test(path) || path.includes('..')) {
    throw new PrxError('STORE_CORRUPT', `the backup names a file outside of its place: ${path}`);
  }
  mkdirSync(dirname(whole), { recursive: true, mode: 0o700 });
  return { path, fd: openSync(whole, 'wx', 0o600) };
}

/** The journal of the backup, in an epoch that nobody has seen. */
function writeJournal(file: string, draft: string, oldPath: string): number {
  copyFileSync(file, draft);
  const db = new Database(draft, { readOnly: false, busyTimeoutMs: 0 });
  try {
    toJournal(db);
  } finally {
    db.close();
  }
  const journal = openJournalFile(draft, { mode: 'keep' });
  try {
    const epoch = journal.db.transaction('write', () => {
      // They ran elsewhere, or under the journal that is put aside: see below.
      journal.db.run('DELETE FROM processes');
      keepProcesses(journal.db, oldPath);
      const raised = raiseEpoch(journal.db, journal.lastId, { by: EPOCH_JUMP });
      const last = Math.max(raised, readLastEpoch(oldPath) + 1);
      if (last > raised) raiseEpoch(journal.db, journal.lastId, { by: last - raised });
      writeMeta(journal.db, 'clean', '1');
      return last;
    });
    journal.db.pragma('wal_checkpoint(TRUNCATE)');
    return epoch;
  } finally {
    journal.db.close();
    syncPath(draft);
  }
}

/** What an earlier supervisor on this state directory left running must still be found. */
function keepProcesses(db: Database, oldPath: string): void {
  const rows = readOld(oldPath, (old) =>
    old.all<Record<string, string | number | null>>('SELECT * FROM processes'),
  );
  for (const row of rows ?? []) {
    db.run(
      'INSERT INTO processes (pid, start_ticks, boot_id, kind, session, started_at) ' +
        'VALUES (?, ?, ?, ?, ?, ?)',
      row['pid'] ?? 0,
      row['start_ticks'] ?? 0,
      row['boot_id'] ?? '',
      row['kind'] ?? '',
      row['session'] ?? null,
      row['started_at'] ?? '',
    );
  }
}

function readLastEpoch(oldPath: string): number {
  const sql = 'SELECT max(epoch) AS epoch FROM epochs';
  return readOld(oldPath, (old) => old.get<{ epoch: number | null }>(sql)?.epoch) ?? 0;
}

/** Undefined when there is none, or it is too damaged to tell: that is what a restore is for. */
function readOld<T>(path: string, read: (db: Database) => T): T | undefined {
  if (!existsSync(path)) return undefined;
  let db: Database | undefined;
  try {
    db = new Database(path, { readOnly: true, busyTimeoutMs: 0 });
    return read(db);
  } catch {
    return undefined;
  } finally {
    db?.close();
  }
}

/** Until the journal is renamed the old one stands, from then on the new one. A log that is there
 *  would be taken for the new one's, so it goes before; all else goes behind. */
function replace(stateDir: string, draft: string, aside: string | undefined): void {
  const path = journalPath(stateDir);
  if (aside !== undefined) {
    if (existsSync(path)) foldLog(path);
    for (const name of LOGS) putAside(stateDir, name, aside);
    if (existsSync(path)) linkOrCopy(path, join(aside, 'journal.db'));
    syncPath(aside);
    syncPath(stateDir);
  }
  forgetHighMark(path);
  renameSync(journalPath(draft), path);
  syncPath(stateDir);
  putFiles(stateDir, draft, aside);
}

/** What is beside the journal. That the draft has artifacts says that this is not done yet. */
function putFiles(stateDir: string, draft: string, aside: string | undefined): void {
  if (aside !== undefined) for (const name of FILES) putAside(stateDir, name, aside);
  renameSync(join(draft, 'artifacts'), join(stateDir, 'artifacts'));
  rmSync(draft, { recursive: true, force: true });
  syncPath(stateDir);
}

function putAside(stateDir: string, name: (typeof OLD)[number], aside: string): void {
  const old = join(stateDir, name);
  if (existsSync(old)) renameSync(old, join(aside, name));
}

/** Brings what stands in the log into the file, so that the file alone is the old journal. */
function foldLog(path: string): void {
  try {
    const db = new Database(path, { readOnly: false, busyTimeoutMs: 0 });
    try {
      db.pragma('wal_checkpoint(TRUNCATE)');
    } finally {
      db.close();
    }
  } catch (error) {
    // Too damaged for that: its log is put aside beside it.
    toPrxError(error);
  }
}

/** Private workspaces are no part of a backup: one that is not here begins empty. Before the
 *  journal is there: whoever dies in between leaves no session without its folder. */
function makeWorkspaces(stateDir: string, path: string): void {
  const db = new Database(path, { readOnly: true, busyTimeoutMs: 0 });
  try {
    const sql = "SELECT id FROM sessions WHERE json_extract(record, '$.private_workspace')";
    const ids = db.all<{ id: string }>(sql).map(({ id }) => id);
    // As with artifacts: no name of a forged backup leads elsewhere.
    const forged = ids.find((id) => !sessionIdSchema.safeParse(id).success);
    if (forged !== undefined) {
      throw new PrxError('STORE_CORRUPT', `the backup holds a session with the id ${forged}`);
    }
    for (const id of ids) {
      mkdirSync(join(stateDir, 'workspaces', id), { recursive: true, mode: 0o700 });
    }
  } finally {
    db.close();
  }
}
