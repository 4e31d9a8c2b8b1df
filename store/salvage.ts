/** A journal file of which SQLite cannot read some pages, or whose indexes do not fit their tables:
 *  every row that can be read is copied into a new file, which takes its name; the damaged one is
 *  kept beside it. From both ends of the table inwards, then one by one where the two met damage,
 *  so only the rows of bad pages are missing; the repair that follows finds the gaps they left. */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { PrxError } from '../base/errors.ts';
import { linkOrCopy, syncPath } from './backup-file.ts';
import type { EventRow } from './integrity.ts';
import { readMeta, writeMeta } from './meta.ts';
import { checkStructure } from './offline.ts';
import { migrate } from './schema.ts';
import { Database, findTrouble } from './sqlite.ts';

export interface Salvage {
  /** Events that could be read. */
  readonly events: number;
  /** The damaged file. */
  readonly kept: string;
}

/** Ids that are looked up one by one, at most: beyond it the middle of the file is given up. */
const LOOKUPS_MAX = 1_000_000;

/** In the file, until its sessions are mended: whoever dies in between knows of it. */
const NOTE = 'salvage';

/** Undefined: all of the file can be read. Throws STORE_CORRUPT when nothing of it can. */
export function salvageIfUnreadable(path: string, movedAt: string): Salvage | undefined {
  const source = open(path);
  const draft = `${path}.salvage`;
  try {
    if (checkStructure(source).length === 0) return undefined;
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${draft}${suffix}`, { force: true });
    const target = new Database(draft, { readOnly: false, busyTimeoutMs: 0 });
    const kept = `${path}.damaged-${movedAt.replaceAll(':', '')}`;
    let salvage: Salvage;
    try {
      migrate(target);
      salvage = target.transaction('write', () => {
        const done = { events: copyAll(source, target), kept };
        writeMeta(target, NOTE, JSON.stringify(done));
        return done;
      });
    } finally {
      target.close();
    }
    syncPath(draft);
    source.close();
    // The log of the damaged file goes with it; then the new one takes the name at once.
    for (const suffix of ['-wal', '-shm']) {
      if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${kept}${suffix}`);
    }
    linkOrCopy(path, kept);
    renameSync(draft, path);
    syncPath(dirname(path));
    return salvage;
  } finally {
    source.close();
  }
}

/** In the transaction that mends the sessions. */
export function forgetSalvage(db: Database): void {
  writeMeta(db, NOTE, '');
}

/** One that an earlier repair made, which died before it mended the sessions. */
export function findSalvage(db: Database): Salvage | undefined {
  const note = readMeta(db, NOTE) ?? '';
  // Written above.
  return note === '' ? undefined : (JSON.parse(note) as Salvage);
}

function open(path: string): Database {
  try {
    const db = new Database(path, { readOnly: true, busyTimeoutMs: 0 });
    db.pragma('user_version');
    return db;
  } catch (error) {
    if (findTrouble(error) !== 'corrupt') throw error;
    throw new PrxError(
      'STORE_CORRUPT',
      `${path} cannot be read as a database at all; restore a backup (\`restore FILE --force\` ` +
        'keeps this one aside)',
      { cause: error },
    );
  }
}

function copyAll(source: Database, target: Database): number {
  for (const table of [
    'meta',
    'epochs',
    'processes',
    'unlisted',
    'uniques',
    'snapshots',
    'aside',
  ]) {
    copyTable(source, target, table);
  }
  // Records are folded anew; a session is listed where one of its events is.
  copyTable(source, target, 'sessions');
  return copyEvents(source, target);
}

type Row = Readonly<Record<string, string | number | null>>;

function insert(target: Database, table: string, row: Row): void {
  const names = Object.keys(row);
  const marks = names.map(() => '?').join(', ');
  const values = Object.values(row);
  target.run(`INSERT OR IGNORE INTO ${table} (${names.join(', ')}) VALUES (${marks})`, ...values);
}

/** As far as it can be read. */
function copyTable(source: Database, target: Database, table: string): void {
  try {
    for (const row of source.iterate<Row>(`SELECT * FROM ${table}`)) insert(target, table, row);
  } catch (error) {
    // An older schema has fewer tables; a bad page ends this one.
    if (findTrouble(error) === undefined && !/no such table/.test(String(error))) throw error;
  }
}

function copyEvents(source: Database, target: Database): number {
  let count = 0;
  const copy = (sql: string, ...values: number[]): number | undefined => {
    let last: number | undefined;
    try {
      for (const row of source.iterate<EventRow>(sql, ...values)) {
        insert(target, 'events', { ...row });
        last = row.id;
        count += 1;
      }
      return last;
    } catch (error) {
      if (findTrouble(error) === undefined) throw error;
      return last;
    }
  };
  const low = copy('SELECT * FROM events NOT INDEXED ORDER BY id') ?? 0;
  const high = copy('SELECT * FROM events NOT INDEXED WHERE id > ? ORDER BY id DESC', low);
  const end = Math.min((high ?? low + LOOKUPS_MAX) - 1, low + LOOKUPS_MAX);
  if (high === undefined) return count;
  for (let id = low + 1; id <= end; id += 1) {
    copy('SELECT * FROM events NOT INDEXED WHERE id = ?', id);
  }
  return count;
}
