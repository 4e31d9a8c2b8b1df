import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  decodeRecords,
  encodeRecord,
  openAppendLog,
  readAppendLog,
} from '../../base/append-log.ts';

const records = [{ n: 1 }, { text: 'aé€😀\n"' }, null, [1, 2], { text: '\uFFFD' }];

let folder = '';
let path = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'append-log-'));
  path = join(folder, 'spool', 'x.log');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(values: readonly unknown[]): number[] {
  const log = openAppendLog(path);
  const offsets = values.map((value) => log.append(value));
  log.sync();
  log.close();
  log.close();
  return offsets;
}

describe('an append log', () => {
  test('gives back what was appended, with the offsets behind each record', () => {
    const offsets = write(records);
    expect(readAppendLog(path)).toEqual({
      records: records.map((value, index) => ({ offset: offsets[index], value })),
      nextOffset: offsets.at(-1),
      tail: 'clean',
    });
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('is read on from any record, and from its end', () => {
    const offsets = write(records);
    for (const [index, offset] of offsets.entries()) {
      const { records: rest, tail } = readAppendLog(path, offset);
      expect(rest.map(({ value }) => value)).toEqual(records.slice(index + 1));
      expect(tail).toBe('clean');
    }
    expect(readAppendLog(path, 1_000_000)).toEqual({
      records: [],
      nextOffset: 1_000_000,
      tail: 'clean',
    });
  });

  test('survives any JSON', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue(), { maxLength: 5 }), (values) => {
        const bytes = Buffer.from(values.map(encodeRecord).join(''));
        const read = decodeRecords(bytes).records.map(({ value }) => value);
        expect(JSON.stringify(read)).toBe(JSON.stringify(values));
      }),
    );
  });

  test('torn at every byte, it gives the longest whole prefix', () => {
    const offsets = [0, ...write(records)];
    const bytes = readFileSync(path);
    for (let length = 0; length <= bytes.length; length += 1) {
      const { records: read, nextOffset, tail } = decodeRecords(bytes.subarray(0, length));
      const whole = offsets.filter((offset) => offset <= length).length - 1;
      expect(read.map(({ value }) => value)).toEqual(records.slice(0, whole));
      expect(nextOffset).toBe(offsets[whole]);
      expect(tail).toBe(length === offsets[whole] ? 'clean' : 'torn');
    }
  });

  test('each flipped bit is noticed, and what stands before it is kept', () => {
    const offsets = [0, ...write(records)];
    const bytes = readFileSync(path);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const damaged = Buffer.from(bytes);
      const at = bit >> 3;
      damaged[at] = (damaged[at] ?? 0) ^ (1 << (bit & 7));
      const { records: read, tail } = decodeRecords(damaged);
      const whole = offsets.filter((offset) => offset <= at).length - 1;
      expect([read.length, tail]).toEqual([whole, 'torn']);
    }
  });

  test('broken UTF-8 is not taken for the replacement character', () => {
    const line = Buffer.from(encodeRecord('\uFFFD'));
    const at = line.indexOf(0xef);
    const damaged = Buffer.concat([
      line.subarray(0, at),
      Buffer.from([0xff]),
      line.subarray(at + 3),
    ]);
    expect(decodeRecords(damaged)).toEqual({ records: [], nextOffset: 0, tail: 'torn' });
  });

  test('a line with a right checksum of what is no JSON ends the prefix', () => {
    const line = Buffer.from('3610a686 hello\n');
    expect(decodeRecords(line)).toEqual({ records: [], nextOffset: 0, tail: 'torn' });
  });

  test('is opened again behind its last record', () => {
    write([1, 2]);
    write([3]);
    expect(readAppendLog(path).records.map(({ value }) => value)).toEqual([1, 2, 3]);
  });

  test('a torn tail is cut off by the next writer, at whichever byte the last one died', () => {
    const [first = 0] = write(['first', 'second']);
    const { size } = statSync(path);
    const bytes = readFileSync(path);
    for (let length = first; length < size; length += 1) {
      writeFileSync(path, bytes.subarray(0, length));
      write(['third']);
      const slice = readAppendLog(path);
      expect(slice.records.map(({ value }) => value)).toEqual(['first', 'third']);
      expect(slice.tail).toBe('clean');
    }
  });

  test('a reader sees a write in progress as torn, and reads on when it is whole', () => {
    write(['first']);
    const line = encodeRecord('second');
    appendFileSync(path, line.slice(0, 12));
    const slice = readAppendLog(path);
    expect(slice).toMatchObject({ records: [{ value: 'first' }], tail: 'torn' });
    appendFileSync(path, line.slice(12));
    expect(readAppendLog(path, slice.nextOffset)).toMatchObject({
      records: [{ value: 'second' }],
      tail: 'clean',
    });
  });

  test('errors of the system come as they are', () => {
    expect(() => readAppendLog(path)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    writeFileSync(join(folder, 'spool'), '');
    expect(() => openAppendLog(path)).toThrow(expect.objectContaining({ code: 'ENOTDIR' }));
  });

  test('a full disk leaves no half record behind', () => {
    // The device that is always full takes no truncation either; both must not hide the cause.
    const full = openAppendLog('/dev/full');
    expect(() => full.append('x')).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    full.close();
  });

  test('more than one slice of 64 MiB is said to be more, and read on', () => {
    const text = 'x'.repeat(1024 * 1024);
    write(Array.from({ length: 66 }, () => text));
    const slice = readAppendLog(path);
    expect([slice.records.length, slice.tail]).toEqual([63, 'more']);
    const rest = readAppendLog(path, slice.nextOffset);
    expect([rest.records.length, rest.tail]).toEqual([3, 'clean']);
    truncateSync(path, slice.nextOffset + 5);
    write(['behind the cut']);
    expect(readAppendLog(path, slice.nextOffset).records).toHaveLength(1);
  });
});

test('no descriptor is left open', () => {
  write(records);
  const before = openSync(path, 'r');
  for (let round = 0; round < 20; round += 1) {
    readAppendLog(path);
    write([round]);
  }
  const after = openSync(path, 'r');
  expect(after).toBe(before + 1);
  closeSync(before);
  closeSync(after);
});
