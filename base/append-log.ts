/** A checksummed append-only file: one record a line, `crc32 SP json LF`. The writer's process may
 *  die at any byte; the reader returns the longest valid prefix and says what follows it. Used
 *  for spools: outcomes that are durable without the supervisor. */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { systemCode } from './errors.ts';

export interface AppendLog {
  /** Writes one record (process-durable) and returns the file offset behind it, bytes. Throws the
   *  system error as it is; the record is then not in the log, and the log can be used on. */
  append(record: unknown): number;
  /** Makes everything appended so far power-durable. */
  sync(): void;
  close(): void;
}

export interface LogRecord {
  /** Offset behind this record, bytes. */
  readonly offset: number;
  readonly value: unknown;
}

export interface LogSlice {
  readonly records: readonly LogRecord[];
  /** Where the next read starts, bytes. */
  readonly nextOffset: number;
  /** `torn`: bytes follow that are no valid record (yet): a write in progress or a death.
   *  `more`: the rest of the file did not fit into one slice; read on at nextOffset. */
  readonly tail: 'clean' | 'torn' | 'more';
}

/** One record as it stands in the file. */
export function encodeRecord(record: unknown): string {
  const json = JSON.stringify(record);
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
}

/** Opens (creates, mode 0600) the log for appending; one writer at a time. A torn tail, left by
 *  the death of an earlier writer, is cut off: behind it nothing could be read. Throws the system
 *  error as it is. */
export function openAppendLog(path: string): AppendLog {
  const fd = openInFolder(path);
  let open = true;
  let offset: number;
  try {
    offset = cutTornTail(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return {
    append(record) {
      const bytes = Buffer.from(encodeRecord(record));
      try {
        let written = 0;
        while (written < bytes.length) written += writeSync(fd, bytes, written);
      } catch (error) {
        // Half a record (a full disk) would hide every later one.
        if (fstatSync(fd).size > offset) ftruncateSync(fd, offset);
        throw error;
      }
      offset += bytes.length;
      return offset;
    },
    sync: () => fdatasyncSync(fd),
    close() {
      if (!open) return;
      open = false;
      closeSync(fd);
    },
  };
}

/** Asks for the file first: its folder is almost always there. */
function openInFolder(path: string): number {
  try {
    return openSync(path, 'a+', 0o600);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  return openSync(path, 'a+', 0o600);
}

function cutTornTail(fd: number): number {
  let slice = readSlice(fd, 0);
  while (slice.tail === 'more') slice = readSlice(fd, slice.nextOffset);
  if (slice.tail === 'torn') ftruncateSync(fd, slice.nextOffset);
  return slice.nextOffset;
}

const READ_BYTES_MAX = 64 * 1024 * 1024;

/** Reads the valid records from `offset` on, at most 64 MiB of them a call. ENOENT is thrown. */
export function readAppendLog(path: string, offset = 0): LogSlice {
  const fd = openSync(path, 'r');
  try {
    return readSlice(fd, offset);
  } finally {
    closeSync(fd);
  }
}

function readSlice(fd: number, offset: number): LogSlice {
  const left = Math.max(0, fstatSync(fd).size - offset);
  const size = Math.min(left, READ_BYTES_MAX);
  const bytes = Buffer.alloc(size);
  let read = 0;
  while (read < size) {
    const count = readSync(fd, bytes, read, size - read, offset + read);
    if (count === 0) break;
    read += count;
  }
  const slice = decodeRecords(bytes.subarray(0, read), offset);
  // A slice without a record would be read again for ever: that tail is torn.
  return left > size && slice.records.length > 0 ? { ...slice, tail: 'more' } : slice;
}

/** The records of a byte run that starts at file offset `base`. Stops at the first bad line. */
export function decodeRecords(bytes: Buffer, base = 0): LogSlice {
  const records: LogRecord[] = [];
  let start = 0;
  while (start < bytes.length) {
    const end = bytes.indexOf(LINE_FEED, start);
    const record = end < 0 ? undefined : decodeLine(bytes.subarray(start, end));
    if (record === undefined) break;
    start = end + 1;
    records.push({ offset: base + start, value: record.value });
  }
  const tail = start === bytes.length ? 'clean' : 'torn';
  return { records, nextOffset: base + start, tail };
}

const LINE_FEED = 10;
const CHECKSUM_CHARS = 8;

/** The checksum is taken of the bytes: decoding them would mend damage in silence. */
function decodeLine(line: Buffer): { readonly value: unknown } | undefined {
  const json = line.subarray(CHECKSUM_CHARS + 1);
  const head = line.toString('latin1', 0, CHECKSUM_CHARS + 1);
  if (head !== `${crc32(json).toString(16).padStart(CHECKSUM_CHARS, '0')} `) return undefined;
  try {
    return { value: JSON.parse(json.toString('utf8')) as unknown };
  } catch {
    // Not written by us, checksum or not: the valid prefix ends here.
    return undefined;
  }
}
