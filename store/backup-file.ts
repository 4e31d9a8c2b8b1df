/** A backup is one SQLite file: the journal as it was at one instant, the artifacts in pieces, and
 *  a manifest with sizes and digests. It is made beside its name, verified from the file, synced,
 *  and only then given the name: what has the name is whole. It carries another mark than a
 *  journal, so that neither is taken for the other. */
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { PrxError, systemCode } from '../base/errors.ts';
import { listJournals, verifyWhole } from './reader-verify.ts';
import { BACKUP_ID, JOURNAL_ID } from './schema.ts';
import { Database, findTrouble } from './sqlite.ts';
import { toReason } from './state-dir.ts';
import type { Problem, WireBackup } from './thread-protocol.ts';

const PIECE_BYTES = 1024 * 1024;
const FORMAT = 1;

export interface BackupManifest {
  readonly format: number;
  readonly created_at: string;
  readonly epoch: number;
  readonly sessions: number;
  readonly events: number;
  /** SHA-256 over the newest link of every session's hash chain: it covers every event. */
  readonly heads_sha256: string;
  readonly files: number;
  readonly file_bytes: number;
  /** What was damaged in the journal already. */
  readonly problems: readonly Problem[];
}

export interface BackupReport extends BackupManifest {
  readonly path: string;
  readonly bytes: number;
}

const createTables = `
  CREATE TABLE backup_manifest (manifest TEXT NOT NULL) STRICT;
  CREATE TABLE backup_files (
    file INTEGER PRIMARY KEY, path TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL
  ) STRICT;
  CREATE TABLE backup_pieces (
    file INTEGER NOT NULL, piece INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (file, piece)
  ) STRICT;
`;

/** Writes a backup of the journal that `source` reads. Appends go on meanwhile: `source` reads one
 *  instant. Throws INVALID_REQUEST for a path that cannot be (or exists), LIMIT_EXCEEDED when it
 *  does not fit, STORE_CORRUPT when the journal cannot be read; then nothing is left. */
export function writeBackup(source: Database, options: WireBackup): BackupReport {
  const { path } = options;
  const draft = `${path}.partial`;
  assertNew(path);
  // A killed backup leaves a file; whatever else has the name is the user's.
  if (statSync(draft, { throwIfNoEntry: false })?.isFile() === false) assertNew(draft);
  try {
    removeDraft(draft);
    // Made by us first, so that it is nobody else's to read.
    closeSync(openSync(draft, 'wx', 0o600));
    source.exec(`VACUUM INTO '${draft.replaceAll("'", "''")}'`);
    fillBackup(draft, options);
    const { manifest } = checkBackup(draft);
    syncPath(draft);
    assertNew(path);
    renameSync(draft, path);
    syncPath(dirname(path));
    return { ...manifest, path, bytes: statSync(path).size };
  } catch (error) {
    removeDraft(draft);
    throw toBackupError(path, error);
  }
}

/** With what SQLite needed to take back a transaction in it. */
function removeDraft(draft: string): void {
  for (const each of [draft, toLog(draft)]) rmSync(each, { force: true });
}

const toLog = (path: string): string => `${path}-journal`;

/** Nothing of the user's is overwritten. */
function assertNew(path: string): void {
  if (statSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new PrxError('INVALID_REQUEST', `${path} exists; give the backup a new name`);
}

const unfit: readonly string[] = ['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'EROFS', 'EISDIR'];

function toBackupError(path: string, error: unknown): unknown {
  if (error instanceof PrxError) return error;
  const reason = toReason(error);
  const options = { data: { path, reason }, cause: error };
  if (findTrouble(error) === 'corrupt') {
    const message = `the journal has pages that cannot be read (${reason}); run \`journal repair\``;
    return new PrxError('STORE_CORRUPT', message, options);
  }
  const message = `the backup ${path} could not be written (${reason}); nothing is left of it`;
  return new PrxError(
    unfit.includes(reason) ? 'INVALID_REQUEST' : 'LIMIT_EXCEEDED',
    message,
    options,
  );
}

function fillBackup(draft: string, { stateDir, createdAt }: WireBackup): void {
  const db = new Database(draft, { readOnly: false, busyTimeoutMs: 0 });
  try {
    db.exec(`PRAGMA journal_mode = DELETE; PRAGMA application_id = ${BACKUP_ID}; ${createTables}`);
    addFiles(db, join(stateDir, 'artifacts'));
    const manifest = describe(db, createdAt);
    db.run('INSERT INTO backup_manifest (manifest) VALUES (?)', JSON.stringify(manifest));
  } finally {
    db.close();
  }
}

/** Artifacts are written once and never changed; one that goes meanwhile was removed. */
function addFiles(db: Database, folder: string): void {
  for (const session of listFolder(folder)) {
    for (const name of listFolder(join(folder, session))) {
      db.transaction('write', () => addFile(db, folder, `${session}/${name}`));
    }
  }
}

function listFolder(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return [];
    throw error;
  }
}

function addFile(db: Database, folder: string, name: string): void {
  const fd = openFile(join(folder, name));
  if (fd === undefined) return;
  try {
    const file = (db.get<{ n: number }>('SELECT count(*) AS n FROM backup_files')?.n ?? 0) + 1;
    const digest = createSha256();
    let bytes = 0;
    for (let piece = 0; ; piece += 1) {
      const buffer = Buffer.alloc(PIECE_BYTES);
      const count = readSync(fd, buffer, 0, PIECE_BYTES, null);
      if (count === 0) break;
      const part = buffer.subarray(0, count);
      digest.update(part);
      bytes += count;
      db.run('INSERT INTO backup_pieces (file, piece, bytes) VALUES (?, ?, ?)', file, piece, part);
    }
    db.run(
      'INSERT INTO backup_files (file, path, bytes, sha256) VALUES (?, ?, ?, ?)',
      file,
      name,
      bytes,
      digest.digest('hex'),
    );
  } finally {
    closeSync(fd);
  }
}

/** Undefined: it is no file, or is gone. */
function openFile(path: string): number | undefined {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined;
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function createSha256() {
  return process.getBuiltinModule('node:crypto').createHash('sha256');
}

function describe(db: Database, createdAt: string): BackupManifest {
  const files = db.get<{ n: number; bytes: number | null }>(
    'SELECT count(*) AS n, sum(bytes) AS bytes FROM backup_files',
  );
  return {
    format: FORMAT,
    created_at: createdAt,
    epoch: db.get<{ epoch: number | null }>('SELECT max(epoch) AS epoch FROM epochs')?.epoch ?? 0,
    ...verifyAll(db),
    files: files?.n ?? 0,
    file_bytes: files?.bytes ?? 0,
  };
}

type Verified = Pick<BackupManifest, 'sessions' | 'events' | 'heads_sha256' | 'problems'>;

/** Every event of every session, against its checksum and its chain. */
function verifyAll(db: Database): Verified {
  const problems: Problem[] = [];
  const digest = createSha256();
  const journals = listJournals(db);
  let events = 0;
  for (const session of journals) {
    const found = verifyWhole(db, session);
    events += found.events;
    problems.push(...found.problems);
    digest.update(`${session} ${found.seq} ${found.link}\n`);
  }
  return { sessions: journals.length - 1, events, heads_sha256: digest.digest('hex'), problems };
}

/** Reads all of a backup again: structure, every event, every file. Throws STORE_CORRUPT when
 *  something differs from what was written, INVALID_REQUEST when it is no backup. */
export function checkBackup(path: string): { readonly manifest: BackupManifest } {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new PrxError('INVALID_REQUEST', `there is no file ${path}`);
  }
  // SQLite would first have to take back what was half written.
  if (existsSync(toLog(path))) throw differs(path, 'it was never finished');
  let db: Database | undefined;
  try {
    db = new Database(path, { readOnly: true, busyTimeoutMs: 0 });
    if (Number(db.pragma('application_id')) !== BACKUP_ID) {
      throw new PrxError('INVALID_REQUEST', `${path} is no backup of prx-supervisor`);
    }
    const structure = db.pragma('quick_check(1)');
    if (structure !== 'ok') throw differs(path, structure);
    const manifest = readManifest(db, path);
    const found = verifyAll(db);
    for (const [key, value] of Object.entries(found)) {
      const written = manifest[key as keyof Verified]; // the keys of what verifyAll gives
      if (JSON.stringify(written) !== JSON.stringify(value)) throw differs(path, key);
    }
    checkFiles(db, path, manifest);
    return { manifest };
  } catch (error) {
    const trouble = findTrouble(error);
    if (trouble === 'corrupt') throw differs(path, String(error));
    throw error;
  } finally {
    db?.close();
  }
}

function differs(path: string, what: string): PrxError {
  const message = `the backup ${path} is damaged (${what}); use another one`;
  return new PrxError('STORE_CORRUPT', message, { data: { path, what } });
}

function readManifest(db: Database, path: string): BackupManifest {
  const row = db.get<{ manifest: string }>('SELECT manifest FROM backup_manifest');
  const manifest = row === undefined ? undefined : (JSON.parse(row.manifest) as BackupManifest);
  if (manifest?.format === FORMAT) return manifest;
  const message = `the backup ${path} has format ${manifest?.format}, this version reads ${FORMAT}`;
  throw new PrxError('INVALID_REQUEST', message);
}

export interface BackupEntry {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

interface FileRow extends BackupEntry {
  readonly file: number;
}

function checkFiles(db: Database, path: string, manifest: BackupManifest): void {
  let count = 0;
  for (const entry of readFiles(db, () => undefined)) {
    if (!entry.isWhole) throw differs(path, entry.path);
    count += 1;
  }
  if (count !== manifest.files) throw differs(path, 'files');
}

/** Reads each file of a backup, in pieces. */
export function* readFiles(
  db: Database,
  onPiece: (entry: BackupEntry, bytes: Uint8Array) => void,
): Generator<BackupEntry & { readonly isWhole: boolean }> {
  const files = db.all<FileRow>('SELECT file, path, bytes, sha256 FROM backup_files');
  for (const entry of files) {
    const digest = createSha256();
    const pieces = db.iterate<{ bytes: Uint8Array }>(
      'SELECT bytes FROM backup_pieces WHERE file = ? ORDER BY piece',
      entry.file,
    );
    let bytes = 0;
    for (const piece of pieces) {
      digest.update(piece.bytes);
      bytes += piece.bytes.length;
      onPiece(entry, piece.bytes);
    }
    yield { ...entry, isWhole: bytes === entry.bytes && digest.digest('hex') === entry.sha256 };
  }
}

/** Makes an open backup a journal again. */
export function toJournal(db: Database): void {
  db.exec(
    'DROP TABLE backup_pieces; DROP TABLE backup_files; DROP TABLE backup_manifest; ' +
      `PRAGMA application_id = ${JOURNAL_ID}; VACUUM`,
  );
}

export function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A second name of a file that is about to be replaced: at no instant is there none. */
export function linkOrCopy(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    // A file system without hard links.
    copyFileSync(from, to);
  }
}
