/** One supervisor a state directory: an exclusive lock on lock.db, held by an open transaction
 *  for the life of the process. The kernel drops it when its owner dies, however it dies, so
 *  there is no stale lock and no pid to guess about. POSIX locks belong to the process and are
 *  dropped when *any* descriptor of the file is closed: nothing but SQLite may ever open lock.db
 *  (SQLite itself keeps track of its own descriptors). Who holds it stands in a file beside it,
 *  for the message only. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, toTimestamp } from '../base/clock.ts';
import { PrxError } from '../base/errors.ts';
import { Database, findTrouble } from './sqlite.ts';
import { unusable } from './state-dir.ts';

export interface Lock {
  /** Lets the next one in. Idempotent. */
  release(): void;
}

interface Holder {
  readonly pid: number;
  readonly started_at: string;
}

/** Throws ALREADY_RUNNING, naming the holder; STATE_DIR_UNUSABLE. */
export function acquireLock(stateDir: string, clock: Clock): Lock {
  const holderPath = join(stateDir, 'lock.json');
  const db = openLocked(stateDir, holderPath);
  const holder: Holder = { pid: process.pid, started_at: toTimestamp(clock.wallMs()) };
  try {
    const draft = `${holderPath}.new`;
    writeFileSync(draft, `${JSON.stringify(holder)}\n`, { mode: 0o600 });
    renameSync(draft, holderPath);
  } catch (cause) {
    db.close();
    throw unusable(stateDir, cause);
  }
  let isHeld = true;
  return {
    release() {
      if (!isHeld) return;
      isHeld = false;
      rmSync(holderPath, { force: true });
      db.close();
    },
  };
}

function openLocked(stateDir: string, holderPath: string): Database {
  let db: Database | undefined;
  try {
    db = new Database(join(stateDir, 'lock.db'), { readOnly: false, busyTimeoutMs: 0 });
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    return db;
  } catch (error) {
    db?.close();
    if (findTrouble(error) !== 'busy') throw unusable(stateDir, error);
    throw alreadyRunning(stateDir, readHolder(holderPath));
  }
}

function alreadyRunning(stateDir: string, holder: Holder | undefined): PrxError {
  const who =
    holder === undefined
      ? 'another process'
      : `process ${holder.pid}, started ${holder.started_at}`;
  return new PrxError(
    'ALREADY_RUNNING',
    `the state directory ${stateDir} is in use by ${who}; stop it, or choose another one with ` +
      '--state-dir',
    { data: { state_dir: stateDir, ...holder } },
  );
}

/** Undefined while the holder is about to write it. */
function readHolder(path: string): Holder | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof value !== 'object' || value === null) return undefined;
    if (!('pid' in value) || !('started_at' in value)) return undefined;
    return { pid: Number(value.pid), started_at: String(value.started_at) };
  } catch {
    // Absent or half a file: the message does without.
    return undefined;
  }
}
