/** Opens journal.db for writing: settings, schema, epoch. The epoch rises when the machine died
 *  under the journal, because only then may something that a client saw be gone: sequence numbers
 *  given again after it mean other events. A process's death loses nothing that was written. */
import { PrxError } from '../base/errors.ts';
import { readMeta, writeMeta } from './meta.ts';
import { migrate } from './schema.ts';
import { checkSqliteVersion, Database } from './sqlite.ts';

/** Our own checkpoints come at about 4 MiB; this one, inside a commit, only if they do not. */
const AUTO_CHECKPOINT_PAGES = 16_384;
const WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024;
const BUSY_TIMEOUT_MS = 5000;
/** What the sessions at work touch between two commits; the rest of the file is in the cache of the
 *  kernel, which every connection shares. */
const CACHE_KIB = 1024;

export interface JournalFile {
  readonly db: Database;
  readonly epoch: number;
  readonly wasClean: boolean;
  /** Highest id ever given to an event, also to one that was removed. */
  readonly lastId: number;
}

export interface JournalFileOptions {
  /** `keep`: not to serve, so the epoch stays and nothing is noted of this opening. */
  readonly mode: 'serve' | 'keep';
  /** With `serve`. Empty: cannot be read. */
  readonly bootId?: string;
  readonly onOperation?: (() => void) | undefined;
}

export function openJournalFile(path: string, options: JournalFileOptions): JournalFile {
  const { mode, bootId = '', onOperation } = options;
  checkSqliteVersion();
  const db = new Database(path, { readOnly: false, busyTimeoutMs: BUSY_TIMEOUT_MS, onOperation });
  try {
    configure(db);
    migrate(db);
    return { db, ...(mode === 'serve' ? startEpoch(db, bootId) : readEpoch(db)) };
  } catch (error) {
    db.close();
    throw error;
  }
}

function configure(db: Database): void {
  db.exec(`
    PRAGMA trusted_schema = OFF;
    PRAGMA secure_delete = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -${CACHE_KIB};
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = ${AUTO_CHECKPOINT_PAGES};
    PRAGMA journal_size_limit = ${WAL_BYTES_KEPT_MAX};
  `);
  // Both depend on how the library was built and on the file system: read back, not assumed.
  const mode = db.pragma('journal_mode = WAL');
  const synchronous = db.pragma('synchronous');
  if (mode !== 'wal' || synchronous !== '1') {
    throw new PrxError(
      'STATE_DIR_UNUSABLE',
      `the journal needs journal_mode=wal and synchronous=1 but got ${mode} and ${synchronous}; ` +
        'put the state directory on a local file system',
      { data: { mode, synchronous } },
    );
  }
}

function startEpoch(db: Database, bootId: string): Omit<JournalFile, 'db'> {
  return db.transaction('write', () => {
    const { epoch: last, wasClean, lastId } = readEpoch(db);
    // A boot id that cannot be read tells nothing: then only a clean stop keeps the epoch.
    const isSameBoot = bootId !== '' && readMeta(db, 'boot_id') === bootId;
    const isKept = last > 0 && (wasClean || isSameBoot);
    const epoch = isKept ? last : raiseEpoch(db, lastId, { bootId });
    writeMeta(db, 'boot_id', bootId);
    writeMeta(db, 'clean', '0');
    return { epoch, wasClean, lastId };
  });
}

function readEpoch(db: Database): Omit<JournalFile, 'db'> {
  const epoch = db.get<{ epoch: number | null }>('SELECT max(epoch) AS epoch FROM epochs')?.epoch;
  const newest = findNewest(db);
  // The table of epochs may be what was damaged.
  return {
    epoch: Math.max(epoch ?? 0, newest?.epoch ?? 0),
    wasClean: readMeta(db, 'clean') !== '0',
    lastId: readLastId(db),
  };
}

function findNewest(db: Database): { readonly id: number; readonly epoch: number } | undefined {
  return db.get('SELECT id, epoch FROM events ORDER BY id DESC LIMIT 1');
}

/** Highest id ever given to an event, also to one that was removed. */
export function readLastId(db: Database): number {
  return Math.max(findNewest(db)?.id ?? 0, Number(readMeta(db, 'last_id') ?? 0));
}

/** Begins a new epoch behind `lastId`. @param by  more than 1 where others may have counted on. */
export function raiseEpoch(
  db: Database,
  lastId: number,
  { bootId = '', by = 1 }: { readonly bootId?: string; readonly by?: number } = {},
): number {
  const epoch = readEpoch(db).epoch + by;
  db.run(
    'INSERT INTO epochs (epoch, first_id, boot_id) VALUES (?, ?, ?)',
    epoch,
    lastId + 1,
    bootId,
  );
  return epoch;
}
