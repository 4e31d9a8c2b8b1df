/** The state directory: made private, named by its real path (so that two names of one directory
 *  are one), and proven writable before anything relies on it. What exists is left as it is. */
import { accessSync, closeSync, constants, openSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PrxError, systemCode } from '../base/errors.ts';
import { makeFolder } from '../base/make-folder.ts';

/** The real path of the directory. Throws STATE_DIR_UNUSABLE with what to do about it. */
export function prepareStateDir(path: string): string {
  try {
    makeFolder(resolve(path));
    const real = realpathSync(path);
    if (!statSync(real).isDirectory()) throw Object.assign(new Error(), { code: 'ENOTDIR' });
    accessSync(real, constants.R_OK | constants.W_OK | constants.X_OK);
    return real;
  } catch (cause) {
    throw unusable(path, cause);
  }
}

/** Makes the journal's file readable by us only, whatever the mode of the directory; the files
 *  that SQLite puts beside it take its mode. Before SQLite opens it: closing a descriptor drops
 *  the locks that this process holds on a file. */
export function prepareJournal(stateDir: string): string {
  const path = join(stateDir, 'journal.db');
  try {
    closeSync(openSync(path, 'a', 0o600));
    return path;
  } catch (cause) {
    throw unusable(stateDir, cause);
  }
}

const mends: Readonly<Record<string, string>> = {
  EACCES: 'give this user write permission, or choose another (--state-dir)',
  EPERM: 'give this user write permission, or choose another (--state-dir)',
  EROFS: 'it is on a read-only file system: choose another (--state-dir)',
  ENOTDIR: 'a file is in its place: remove that file, or choose another (--state-dir)',
  EEXIST: 'a file is in its place: remove that file, or choose another (--state-dir)',
  ENOSPC: 'the disk is full: free some space',
  EMFILE: 'too many open files: raise the limit (ulimit -n)',
};

/** What SQLite says by a number of its own (https://sqlite.org/rescode.html). */
const sqliteReasons: Readonly<Record<number, string>> = { 8: 'EROFS', 13: 'ENOSPC' };

export function unusable(path: string, cause: unknown): PrxError {
  const reason = toReason(cause);
  const mend = mends[reason] ?? 'choose another (--state-dir)';
  return new PrxError(
    'STATE_DIR_UNUSABLE',
    `the state directory ${path} cannot be used (${reason}); ${mend}`,
    { data: { path, reason }, cause },
  );
}

/** The name of the system's error, also where SQLite had it; else its message. */
export function toReason(cause: unknown): string {
  const code = systemCode(cause);
  if (code !== 'ERR_SQLITE_ERROR')
    return code ?? (cause instanceof Error ? cause.message : String(cause));
  // Its errors have both, always.
  const { errcode, message } = cause as Error & { readonly errcode: number };
  return sqliteReasons[errcode & 0xff] ?? message;
}
