/** A checksummed append-only file: one record a line, `crc32 SP json LF`. The writer's process may
 *  die at any byte; the reader returns the longest valid prefix and says what follows it. Used
 *  for spools: outcomes that are durable without the supervisor. */
import { closeSync, fdatasyncSync, fstatSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';

export interface AppendLog {
  /** Writes one record (process-durable) and returns the file offset behind it, bytes. */
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
  /** `torn`: bytes follow that are no valid record (yet): a write in progress or a death. */
  readonly tail: 'clean' | 'torn';
}

/** One record as it stands in the file. */
export function encodeRecord(record: unknown): string {
  const json = JSON.stringify(record);
  return `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`;
}

/** Opens (creates, mode 0600) the log for appending. Throws the system error as it is. */
export function openAppendLog(path: string): AppendLog {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fd = openSync(path, 'a', 0o600);
  let offset = fstatSync(fd).size;
  let open = true;
  return {
    append(record) {
      const bytes = Buffer.from(encodeRecord(record));
      let written = 0;
      while (written < bytes.length) written += writeSync(fd, bytes, written);
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

const READ_BYTES_MAX = 64 * 1024 * 1024;

/** Reads the valid records from `offset` on, at most 64 MiB of them a call. ENOENT is thrown. */
export function readAppendLog(path: string, offset = 0): LogSlice {
  const fd = openSync(path, 'r');
  try {
    const size = Math.min(Math.max(0, fstatSync(fd).size - offset), READ_BYTES_MAX);
    const bytes = Buffer.alloc(size);
    let read = 0;
    while (read < size) {
      const count = readSync(fd, bytes, read, size - read, offset + read);
      if (count === 0) break;
      read += count;
    }
    return decodeRecords(bytes.subarray(0, read), offset);
  } finally {
    closeSync(fd);
  }
}

/** The records of a byte run that starts at file offset `base`. Stops at the first bad line. */
export function decodeRecords(bytes: Buffer, base = 0): LogSlice {
  const records: LogRecord[] = [];
  let start = 0;
  while (start < bytes.length) {
    const end = bytes.indexOf(10, start);
    const record = end < 0 ? undefined : decodeLine(bytes.toString('utf8', start, end));
    if (record === undefined) break;
    start = end + 1;
    records.push({ offset: base + start, value: record.value });
  }
  const tail = start === bytes.length ? 'clean' : 'torn';
  return { records, nextOffset: base + start, tail };
}

function decodeLine(line: string): { readonly value: unknown } | undefined {
  const json = line.slice(9);
  if (line[8] !== ' ' || line.slice(0, 8) !== crc32(json).toString(16).padStart(8, '0')) {
    return undefined;
  }
  return { value: JSON.parse(json) as unknown };
}
