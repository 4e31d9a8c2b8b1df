/** Outcomes that outlive us: where an effect's own process writes what happens, and how we read
 *  it back when that process, or we, died in between. */
import { existsSync, lstatSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type LogSlice, readAppendLog } from '../../base/append-log.ts';
import type { Clock } from '../../base/clock.ts';
import { systemCode } from '../../base/errors.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';

export interface SpoolPlace {
  readonly stateDir: string;
  readonly session: SessionId;
  readonly effect: EffectId;
  /** Model attempts and re-runs of a tool call are numbered from 1. */
  readonly attempt: number;
}

export function toSpoolPath(place: SpoolPlace): string {
  const { stateDir, session, effect, attempt } = place;
  return join(stateDir, 'spool', session, `${effect}-${attempt}.log`);
}

function removeSpools(
  stateDir: string,
  session: SessionId,
  isOver: (fileName: string) => boolean,
): void {
  const dir = join(stateDir, 'spool', session);
  try {
    if (!existsSync(dir)) return;
    for (const name of readdirSync(dir)) if (isOver(name)) rmSync(join(dir, name), { force: true });
  } catch {
    // The outcome is committed: a spool that cannot be removed now goes with its session.
  }
}

/** Where the spools are kept. */
export interface SpoolFiles {
  /** The whole records from `offset` on, bytes; none while the file is not there. */
  read(path: string, offset: number): LogSlice;
  /** Removes the spools of one effect, once its outcome is committed. Never throws. */
  remove(stateDir: string, session: SessionId, effect: EffectId): void;
  /** Removes what a death left of a turn that is settled, and of earlier ones. Never throws. */
  removeTurn?(stateDir: string, session: SessionId, turn: number): void;
  /** Is there a file at all? It is made before its effect begins, so without one nothing began.
   *  Absent: unknown, and whatever was reserved may have begun. */
  has?(path: string): boolean;
}

export const realSpools: SpoolFiles = {
  read: readSlice,
  // Nobody waits for it: the answer goes out first.
  remove: (stateDir, session, effect) =>
    void setImmediate(() =>
      removeSpools(stateDir, session, (name) => name.startsWith(`${effect}-`)),
    ),
  // A spool is named after its effect, and that begins with the number of its turn.
  removeTurn: (stateDir, session, turn) =>
    void setImmediate(() =>
      removeSpools(stateDir, session, (name) => Number.parseInt(name, 10) <= turn),
    ),
  has: (path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined,
};

export interface Progress<R> {
  readonly record: R;
  /** Behind the record, bytes. */
  readonly offset: number;
}

export interface SpoolTail<R, T> {
  readonly files: SpoolFiles;
  readonly path: string;
  /** Where reading starts, bytes: behind what the journal already has. */
  readonly offset: number;
  /** Turns one record into either progress or the terminal value; undefined: not of this shape. */
  readonly classify: (value: unknown) => { progress: R } | { end: T } | undefined;
  /** At most PROGRESS_MAX records; awaited, so that a long spool never piles up in memory. */
  readonly onProgress: (progress: readonly Progress<R>[]) => Promise<unknown>;
  /** While true, more may come; when false, what is there is all. */
  readonly isWriterAlive: () => boolean;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Called once when the signal aborts while a writer lives: its end is then waited for, but not
   *  for long. Absent: it is not waited for. */
  readonly cancel?: () => void;
}

const POLL_MS = 20;
/** A cancelled writer ends in a few milliseconds; a person waits for this. */
const CANCEL_MS_MAX = 800;
const PROGRESS_MAX = 128;

/** Reads a spool to its terminal record, waiting for a writer that still lives. Undefined: the
 *  writer is gone (or the signal aborted) and left none. */
export async function tailSpool<R, T>(tail: SpoolTail<R, T>): Promise<T | undefined> {
  let offset = tail.offset;
  let cancelledMs: number | undefined;
  for (;;) {
    // Asked before reading: a writer that dies after its last record is read to the end once more.
    const mayGrow = tail.isWriterAlive();
    const slice = tail.files.read(tail.path, offset);
    let batch: Progress<R>[] = [];
    const flush = async (): Promise<void> => {
      const full = batch;
      batch = [];
      if (full.length > 0) await tail.onProgress(full);
    };
    for (const { value, offset: behind } of slice.records) {
      const seen = tail.classify(value);
      if (seen === undefined) continue;
      if ('end' in seen) {
        await flush();
        return seen.end;
      }
      batch.push({ record: seen.progress, offset: behind });
      if (batch.length >= PROGRESS_MAX) await flush();
    }
    await flush();
    offset = slice.nextOffset;
    if (slice.tail === 'more') continue;
    if (!mayGrow) return undefined;
    const { signal, clock } = tail;
    if (signal.aborted && tail.cancel === undefined) return undefined;
    if (signal.aborted && cancelledMs === undefined) {
      cancelledMs = clock.nowMs();
      tail.cancel?.();
    }
    if (cancelledMs !== undefined && clock.nowMs() - cancelledMs > CANCEL_MS_MAX) return undefined;
    await clock.sleep(POLL_MS, ...(signal.aborted ? [] : [signal]));
  }
}

function readSlice(path: string, offset: number): LogSlice {
  try {
    return readAppendLog(path, offset);
  } catch (error) {
    // Not created yet: the writer died, or lives, before its first record.
    if (systemCode(error) === 'ENOENT') return { records: [], nextOffset: offset, tail: 'clean' };
    throw error;
  }
}
