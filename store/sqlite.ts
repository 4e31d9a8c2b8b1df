/** The one door to node:sqlite (its API is a release candidate and will be renamed: one file to
 *  change). A connection with cached statements, transactions, and errors told apart by what can
 *  be done about them. Rows come from STRICT tables that only this folder writes, so a row type
 *  named by the caller is what the schema says. */
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { PrxError } from '../base/errors.ts';

export type SqlValue = SQLInputValue;

export interface OpenOptions {
  readonly readOnly: boolean;
  /** How long a statement waits for another connection's lock. 0: not at all. */
  readonly busyTimeoutMs: number;
  /** Called before each operation; what it throws is the operation's failure. For tests. */
  readonly onOperation?: (() => void) | undefined;
}

/** Oldest library without the bug that lets a checkpoint and a commit on two connections corrupt
 *  the file: https://sqlite.org/releaselog/3_51_3.html */
const SQLITE_VERSION_MIN = [3, 51, 3] as const;

export class Database {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #onOperation: (() => void) | undefined;

  constructor(path: string, { readOnly, busyTimeoutMs, onOperation }: OpenOptions) {
    this.#onOperation = onOperation;
    onOperation?.();
    this.#db = new DatabaseSync(path, {
      readOnly,
      timeout: busyTimeoutMs,
      enableForeignKeyConstraints: false,
    });
  }

  /** Runs statements without results. */
  exec(sql: string): void {
    this.#onOperation?.();
    this.#db.exec(sql);
  }

  run(sql: string, ...values: SqlValue[]): number {
    return Number(this.#prepare(sql).run(...values).changes);
  }

  get<T>(sql: string, ...values: SqlValue[]): T | undefined {
    return this.#prepare(sql).get(...values) as T | undefined;
  }

  all<T>(sql: string, ...values: SqlValue[]): readonly T[] {
    return this.#prepare(sql).all(...values) as T[];
  }

  /** Rows one by one, for results whose size only the data knows. */
  iterate<T>(sql: string, ...values: SqlValue[]): IterableIterator<T> {
    return this.#prepare(sql).iterate(...values) as IterableIterator<T>;
  }

  /** The single value of a pragma, as text. */
  pragma(statement: string): string {
    this.#onOperation?.();
    const row = this.#db.prepare(`PRAGMA ${statement}`).get() ?? {};
    return String(Object.values(row)[0] ?? '');
  }

  /** Runs `work` in one transaction; a throw rolls back. `write` takes the write lock at once. */
  transaction<T>(mode: 'read' | 'write', work: () => T): T {
    this.exec(mode === 'write' ? 'BEGIN IMMEDIATE' : 'BEGIN');
    try {
      const result = work();
      this.exec('COMMIT');
      return result;
    } catch (error) {
      this.#rollBack();
      throw error;
    }
  }

  /** Gives back the memory of pages that were read. */
  shrink(): void {
    this.exec('PRAGMA shrink_memory');
  }

  close(): void {
    this.#statements.clear();
    if (this.#db.isOpen) this.#db.close();
  }

  #rollBack(): void {
    // A full disk or an I/O error may have rolled back already.
    if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
  }

  #prepare(sql: string): StatementSync {
    this.#onOperation?.();
    const found = this.#statements.get(sql);
    if (found !== undefined) return found;
    const statement = this.#db.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }
}

/** Throws UNSUPPORTED when the SQLite in this runtime is older than 3.51.3. */
export function checkSqliteVersion(version: string = process.versions.sqlite ?? ''): void {
  const parts = version.split('.').map(Number);
  for (const [index, least] of SQLITE_VERSION_MIN.entries()) {
    const part = parts[index] ?? 0;
    if (part > least) return;
    if (part < least) {
      throw new PrxError(
        'UNSUPPORTED',
        `SQLite ${version || '(none)'} is older than ${SQLITE_VERSION_MIN.join('.')}, which can ` +
          'corrupt a journal; use the Node version that prx-supervisor installs',
        { data: { version } },
      );
    }
  }
}

/** What can be done about a failed statement. `full`: nothing was written, and it mends itself
 *  when there is room. `fatal`: what reached the disk is unknown. `corrupt`: the file is damaged.
 *  `busy`: another connection holds the lock. undefined: no error of SQLite. */
export type SqliteTrouble = 'full' | 'fatal' | 'corrupt' | 'busy' | undefined;

/** Primary result codes, https://sqlite.org/rescode.html */
const troubleOf: Readonly<Record<number, SqliteTrouble>> = {
  5: 'busy', // BUSY
  6: 'busy', // LOCKED
  7: 'full', // NOMEM
  8: 'full', // READONLY: remounted read-only, mostly
  10: 'full', // IOERR, but for the ones below
  11: 'corrupt', // CORRUPT
  13: 'full', // FULL
  14: 'full', // CANTOPEN: out of file descriptors
  26: 'corrupt', // NOTADB
};

/** IOERR_FSYNC, _DIR_FSYNC: pages that could not be synced are marked clean by the kernel, so a
 *  second try would succeed and lie. */
const fsyncErrors: readonly number[] = [10 | (4 << 8), 10 | (5 << 8)];

export function findTrouble(error: unknown): SqliteTrouble {
  if (typeof error !== 'object' || error === null || !('errcode' in error)) return undefined;
  const code = Number(error.errcode);
  return fsyncErrors.includes(code) ? 'fatal' : troubleOf[code & 0xff];
}
