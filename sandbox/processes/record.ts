/** What a background process leaves in files, so that it can be read whoever has died: a record of
 *  its start and its end, and the newest part of its output. Output lies in segments that have the
 *  offset of their first byte in their name; at most two, so that at least `keptBytes` of the
 *  newest are there and at most twice as much. A disk that is full stops nothing: what could not be
 *  kept is said. */
import { closeSync, openSync, readdirSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type AppendLog, openAppendLog, readAppendLog } from '../../base/append-log.ts';
import { systemCode } from '../../base/errors.ts';
import {
  type ProcessEnd,
  type ProcessStart,
  processRecordSchema,
  toProcessFileName,
} from '../../protocol/processes.ts';

export interface ProcessRecord {
  /** Adds to the output. Never throws. */
  append(text: string): void;
  /** Bytes of output so far, kept or not. */
  outputBytes(): number;
  /** Writes the end, synced, and closes the files. Never throws. */
  finish(end: ProcessEnd): void;
  /** Why output could not be kept; undefined: it was. */
  failure(): string | undefined;
}

export interface ProcessPlace {
  /** The spools of the session. */
  readonly folder: string;
  readonly call: string;
}

export interface KnownProcess {
  readonly start: ProcessStart;
  /** Absent: it runs, or whoever kept it died with it. */
  readonly end?: ProcessEnd;
}

const RECORD_NAME = /^process-(\d+\.\d+\.\d+)\.log$/;

/** Creates the files and writes the start, synced. Throws the system error: nothing may run. */
export function openProcessRecord(
  place: ProcessPlace,
  start: ProcessStart,
  keptBytes: number,
): ProcessRecord {
  const log = openAppendLog(join(place.folder, toProcessFileName(place.call)));
  log.append({ kind: 'start', start });
  log.sync();
  const output = createSegments(place, keptBytes);
  return {
    append: output.append,
    outputBytes: output.totalBytes,
    failure: output.failure,
    finish(end) {
      output.close();
      finish(log, end);
    },
  };
}

function finish(log: AppendLog, end: ProcessEnd): void {
  try {
    log.append({ kind: 'end', end });
    log.sync();
  } catch {
    // A full disk, or the session is deleted: its reader then says that it is lost.
  } finally {
    log.close();
  }
}

function createSegments(place: ProcessPlace, keptBytes: number) {
  const paths: string[] = [];
  let fd: number | undefined;
  let segmentBytes = 0;
  let totalBytes = 0;
  let failure: string | undefined;

  function rotate(offset: number): number {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
    const path = toSegmentPath(place, offset);
    const opened = openSync(path, 'w', 0o600);
    paths.push(path);
    segmentBytes = 0;
    for (const old of paths.splice(0, paths.length - SEGMENTS_MAX)) rmSync(old, { force: true });
    fd = opened;
    return opened;
  }

  function write(bytes: Buffer): void {
    try {
      for (let done = 0; done < bytes.length; ) {
        const isFull = segmentBytes >= keptBytes;
        const target = fd === undefined || isFull ? rotate(totalBytes + done) : fd;
        const room = Math.min(bytes.length - done, keptBytes - segmentBytes);
        const written = writeSync(target, bytes, done, room);
        done += written;
        segmentBytes += written;
      }
    } catch (error) {
      // Behind a hole the offsets would lie: nothing more is kept.
      failure = systemCode(error) ?? 'unknown';
    }
  }

  return {
    append(text: string): void {
      const bytes = Buffer.from(text);
      if (failure === undefined && bytes.length > 0) write(bytes);
      totalBytes += bytes.length;
    },
    totalBytes: () => totalBytes,
    failure: () => failure,
    close(): void {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}

const SEGMENTS_MAX = 2;

function toSegmentPath({ folder, call }: ProcessPlace, offset: number): string {
  return join(folder, `process-${call}.${offset}.out`);
}

/** What its record says; undefined: there is none of this name. */
export function readProcess({ folder, call }: ProcessPlace): KnownProcess | undefined {
  let known: KnownProcess | undefined;
  try {
    for (const { value } of readAppendLog(join(folder, toProcessFileName(call))).records) {
      const line = processRecordSchema.safeParse(value);
      if (!line.success) continue;
      if (line.data.kind === 'start') known = { start: line.data.start };
      else if (known !== undefined) known = { ...known, end: line.data.end };
    }
    return known;
  } catch {
    // Not there: nobody started it here, or it was forgotten since.
    return undefined;
  }
}

/** All that are remembered, oldest first. */
export function listProcessRecords(folder: string): readonly KnownProcess[] {
  const calls = readNames(folder).flatMap((name) => RECORD_NAME.exec(name)?.[1] ?? []);
  const known = calls.flatMap((call) => readProcess({ folder, call }) ?? []);
  return known.sort((a, b) => Date.parse(a.start.started_at) - Date.parse(b.start.started_at));
}

/** Removes the files of one. Never throws. */
export function forgetProcess({ folder, call }: ProcessPlace): void {
  const isOurs = (name: string): boolean => name.startsWith(`process-${call}.`);
  for (const name of readNames(folder).filter(isOurs)) rmSync(join(folder, name), { force: true });
}

export interface OutputPart {
  readonly text: string;
  /** Where the text begins, bytes: later than asked for where that is no longer kept. */
  readonly from: number;
  /** Behind the text. */
  readonly next: number;
  /** Behind all there is. */
  readonly end: number;
}

/** The kept output from `offset` on; below 0: from its end. Whole characters only. */
export function readOutput(place: ProcessPlace, offset: number, bytesMax: number): OutputPart {
  const segments = listSegments(place);
  const last = segments.at(-1);
  const end = last === undefined ? 0 : last.from + last.bytes;
  const wanted = offset < 0 ? Math.max(0, end + offset) : Math.min(offset, end);
  const first = segments[0]?.from ?? 0;
  const from = Math.max(wanted, first);
  const parts = segments.map((segment) => readSegment(segment, from, from + bytesMax));
  const bytes = Buffer.concat(parts);
  const start = skipContinuation(bytes);
  const stop = bytes.length - cutCharacter(bytes);
  const text = bytes.subarray(start, Math.max(start, stop)).toString('utf8');
  return { text, from: from + start, next: from + Math.max(start, stop), end };
}

interface Segment {
  readonly path: string;
  readonly from: number;
  readonly bytes: number;
}

function listSegments({ folder, call }: ProcessPlace): readonly Segment[] {
  const prefix = `process-${call}.`;
  return readNames(folder)
    .flatMap((name): Segment[] => {
      const digits = name.startsWith(prefix)
        ? /^(\d+)\.out$/.exec(name.slice(prefix.length))
        : null;
      const path = join(folder, name);
      const stat = digits === null ? undefined : statSync(path, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ path, from: Number(digits?.[1]), bytes: stat.size }];
    })
    .sort((a, b) => a.from - b.from);
}

function readSegment({ path, from, bytes }: Segment, start: number, stop: number): Buffer {
  const low = Math.max(start, from);
  const size = Math.max(0, Math.min(stop, from + bytes) - low);
  const buffer = Buffer.alloc(size);
  if (size === 0) return buffer;
  try {
    const fd = openSync(path, 'r');
    try {
      return buffer.subarray(0, readSync(fd, buffer, 0, size, low - from));
    } finally {
      closeSync(fd);
    }
  } catch {
    // Taken away since it was listed: too old by now.
    return Buffer.alloc(0);
  }
}

/** Bytes of a character that began before the first one. */
function skipContinuation(bytes: Buffer): number {
  let start = 0;
  while (start < Math.min(3, bytes.length) && ((bytes[start] ?? 0) & 0xc0) === 0x80) start += 1;
  return start;
}

/** Bytes at the end of a character that is not all there. */
function cutCharacter(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
  }
  return 0;
}

function readNames(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    // No call was made yet.
    return [];
  }
}
