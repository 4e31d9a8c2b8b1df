/** The tables of journal.db and how an older file becomes one of today. `id` of an event is its
 *  place in commit order over all sessions; `seq` its place in its own session. A migration is
 *  only ever appended, and runs in one transaction with the version it leads to. */
import { PrxError } from '../base/errors.ts';
import type { Database } from './sqlite.ts';

/** `events_power` passes over deltas and output, which are most of a journal and no part of a
 *  conversation. `ref` finds events without a scan: the effect of model, tool and approval events,
 *  the input of input events, `turn:N` of a turn's start, `compaction`. `unlisted` names sessions
 *  that are half removed or half copied: no read shows them, the next start removes the rest. */
const createTables = `
  CREATE TABLE events (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL,
    time_ms INTEGER NOT NULL, type TEXT NOT NULL, turn INTEGER, ref TEXT,
    power INTEGER NOT NULL, crc INTEGER NOT NULL, hash TEXT NOT NULL, data TEXT NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX events_by_seq ON events (session, seq);
  CREATE INDEX events_power ON events (session, seq) WHERE power = 1;
  CREATE INDEX events_by_ref ON events (session, ref) WHERE ref IS NOT NULL;
  CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created_id INTEGER NOT NULL UNIQUE, name TEXT, state TEXT NOT NULL,
    unfinished INTEGER NOT NULL, crc INTEGER NOT NULL, record TEXT NOT NULL
  ) STRICT;
  CREATE INDEX sessions_by_name ON sessions (name) WHERE name IS NOT NULL;
  CREATE INDEX sessions_unfinished ON sessions (created_id) WHERE unfinished = 1;
  CREATE TABLE uniques (
    scope TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, session TEXT NOT NULL,
    seq INTEGER NOT NULL, PRIMARY KEY (scope, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX uniques_by_session ON uniques (session);
  CREATE TABLE processes (
    pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL, boot_id TEXT NOT NULL,
    kind TEXT NOT NULL, session TEXT, started_at TEXT NOT NULL,
    PRIMARY KEY (pid, start_ticks)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE unlisted (session TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
  CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY, first_id INTEGER NOT NULL, boot_id TEXT NOT NULL
  ) STRICT;
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
`;

export type Migration = (db: Database) => void;

/** `snapshots`: what stands for the events of a session that retention removed, up to `seq`; see
 *  snapshot.ts. `claims` keeps the first event of a claim whose row is gone, as JSON. `aside` is
 *  what a repair took out of a session: the row as it was found, never shown, never deleted but
 *  with its session. */
const addRetentionAndRepair = `
  CREATE TABLE snapshots (
    session TEXT PRIMARY KEY, seq INTEGER NOT NULL, id INTEGER NOT NULL, epoch INTEGER NOT NULL,
    link TEXT NOT NULL, record TEXT NOT NULL, hash TEXT NOT NULL, trim INTEGER NOT NULL,
    fork_from INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE aside (
    place INTEGER PRIMARY KEY, moved_at TEXT NOT NULL, reason TEXT NOT NULL,
    id INTEGER, session TEXT, seq INTEGER, epoch INTEGER, time_ms INTEGER, type TEXT, turn INTEGER,
    ref TEXT, power INTEGER, crc INTEGER, hash TEXT, data TEXT
  ) STRICT;
  CREATE INDEX aside_by_session ON aside (session);
  ALTER TABLE uniques ADD COLUMN event TEXT;
`;

/** Entry n leads from version n to n + 1. */
export const migrations: readonly Migration[] = [
  (db) => db.exec(createTables),
  (db) => db.exec(addRetentionAndRepair),
];

/** Marks the file as ours ('PRXJ'), so that no other database is taken for a journal. */
export const JOURNAL_ID = 0x5052584a;
/** 'PRXB': a backup of one. */
export const BACKUP_ID = 0x50525842;

/** Brings the file to the newest version. Throws STATE_DIR_UNUSABLE for a file that is not ours
 *  or newer than this version. */
export function migrate(db: Database, steps: readonly Migration[] = migrations): void {
  const version = Number(db.pragma('user_version'));
  const owner = Number(db.pragma('application_id'));
  const tables = Number(
    db.get<{ count: number }>('SELECT count(*) AS count FROM sqlite_schema')?.count ?? 0,
  );
  if (owner !== JOURNAL_ID && (owner !== 0 || tables > 0)) {
    throw new PrxError(
      'STATE_DIR_UNUSABLE',
      'journal.db in the state directory is a database of another program; choose another ' +
        'state directory',
    );
  }
  if (version > steps.length) {
    throw new PrxError(
      'STATE_DIR_UNUSABLE',
      `journal.db has schema version ${version}, this prx-supervisor knows versions up to ` +
        `${steps.length}; use the newer prx-supervisor that wrote it, or another state directory`,
      { data: { version, newest: steps.length } },
    );
  }
  if (version === steps.length) return;
  db.transaction('write', () => {
    for (const step of steps.slice(version)) step(db);
    db.exec(`PRAGMA application_id = ${JOURNAL_ID}; PRAGMA user_version = ${steps.length}`);
  });
}
