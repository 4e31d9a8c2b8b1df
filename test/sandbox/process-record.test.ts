/** The files of a background process: its record, and its output by offset. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { effectIdSchema } from '../../protocol/ids.ts';
import type { ProcessStart } from '../../protocol/processes.ts';
import { toEnd } from '../../sandbox/processes/live.ts';
import {
  forgetProcess,
  listProcessRecords,
  openProcessRecord,
  readOutput,
  readProcess,
} from '../../sandbox/processes/record.ts';
import { toStateSentence } from '../../sandbox/processes/shown.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'prx-record-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const call = '1.1.1';
const toStart = (id: string, second: number): ProcessStart => ({
  call_id: effectIdSchema.parse(id),
  command: 'cmd',
  level: 'bubblewrap',
  started_at: `2026-01-01T00:00:0${second}.000Z`,
  deadline_at: '2026-01-01T01:00:00.000Z',
});
const open = (keptBytes: number) =>
  openProcessRecord({ folder, call }, toStart(call, 1), keptBytes);
const read = (offset: number, max = 1000) => readOutput({ folder, call }, offset, max);

describe('the output of a background process', () => {
  test.each([
    ['from the start', 0, 1000, { text: 'abcdefgh', from: 0, next: 8, end: 8 }],
    ['a part', 2, 3, { text: 'cde', from: 2, next: 5, end: 8 }],
    ['at its end', 8, 10, { text: '', from: 8, next: 8, end: 8 }],
    ['behind its end', 99, 10, { text: '', from: 8, next: 8, end: 8 }],
    ['from its end back', -3, 10, { text: 'fgh', from: 5, next: 8, end: 8 }],
    ['from before its start', -99, 10, { text: 'abcdefgh', from: 0, next: 8, end: 8 }],
  ])('is read %s', (_, offset, max, expected) => {
    const record = open(100);
    record.append('abc');
    record.append('defgh');
    expect(read(offset, max)).toEqual(expected);
    expect(record.outputBytes()).toBe(8);
  });

  test.each([
    [9, 10],
    [10, 10],
    [11, 11],
    [20, 20],
    [21, 11],
    [35, 15],
  ])('of %d bytes, with 10 to keep: at least those, in at most two files', (bytes, kept) => {
    const record = open(10);
    const text = Array.from({ length: bytes }, (_, index) => String(index % 10)).join('');
    for (const part of text.match(/.{1,7}/g) ?? []) record.append(part);
    const { from, end, text: left } = read(0);
    expect({ end, left }).toEqual({ end: bytes, left: text.slice(from) });
    expect(left.length).toBe(Math.min(bytes, kept));
    expect(readdirSync(folder).filter((name) => name.endsWith('.out')).length).toBeLessThan(3);
  });

  test('never shows half a character', () => {
    open(100).append('aé€😀b');
    expect(read(2).text).toBe('€😀b');
    expect(read(0, 2)).toMatchObject({ text: 'a', next: 1 });
    expect(read(0, 5)).toMatchObject({ text: 'aé', next: 3 });
    expect(read(6, 3)).toMatchObject({ text: '', next: 6 });
    expect(read(6, 4)).toMatchObject({ text: '😀', next: 10 });
  });

  test('that cannot be kept is said, and counted', () => {
    const record = open(10);
    rmSync(folder, { recursive: true });
    record.append('lost');
    expect([record.failure(), record.outputBytes()]).toEqual(['ENOENT', 4]);
    expect(() => record.finish({ reason: 'exited' })).not.toThrow();
  });
});

describe('the record of a background process', () => {
  test('has its start before anything, and its end behind it', () => {
    const record = open(10);
    expect(readProcess({ folder, call })).toEqual({ start: toStart(call, 1) });
    record.finish({ reason: 'exited', exit_code: 3 });
    expect(readProcess({ folder, call })).toEqual({
      start: toStart(call, 1),
      end: { reason: 'exited', exit_code: 3 },
    });
  });

  test('is listed by age, without what is none, and forgotten with its output', () => {
    openProcessRecord({ folder, call: '2.1.1' }, toStart('2.1.1', 0), 10).append('x');
    open(10).append('y');
    writeFileSync(join(folder, '1.1.1-1.log'), 'the spool of a call');
    writeFileSync(join(folder, 'process-3.1.1.log'), 'torn');
    expect(listProcessRecords(folder).map(({ start }) => start.call_id)).toEqual(['2.1.1', call]);
    forgetProcess({ folder, call });
    expect(readdirSync(folder).sort()).toEqual([
      ...['1.1.1-1.log', 'process-2.1.1.0.out', 'process-2.1.1.log', 'process-3.1.1.log'],
    ]);
  });
});

describe('the end of a background process', () => {
  const limits = { timeoutMs: 2000, floodBytes: 64 };
  const breach = { limit: 'max_disk_mb', value: 9, max: 8 } as const;
  test.each([
    [{ kind: 'exited', code: 3 }, undefined, { reason: 'exited', exit_code: 3 }],
    [{ kind: 'exited', code: 143 }, 'stopped', { reason: 'stopped', exit_code: 143 }],
    [{ kind: 'cancelled' }, 'closed', { reason: 'closed' }],
    [{ kind: 'lost', detail: '' }, undefined, { reason: 'lost' }],
    [{ kind: 'lost', detail: '' }, 'orphaned', { reason: 'orphaned' }],
    [
      { kind: 'timeout' },
      undefined,
      { reason: 'deadline', exceeded: { limit: 'background_timeout_secs', value: 2, max: 2 } },
    ],
    [{ kind: 'limit', breach }, undefined, { reason: 'limit', exceeded: breach }],
    [
      { kind: 'flood' },
      undefined,
      { reason: 'limit', exceeded: { limit: 'max_output_bytes', value: 64, max: 64 } },
    ],
  ] as const)('%j, because of %s', (end, reason, expected) => {
    expect(toEnd(end, reason, limits)).toEqual(expected);
    const known = { start: toStart(call, 1), end: expected };
    expect(toStateSentence({ call, known })).toMatch(/^process 1\.1\.1 does not run any more: it/);
  });
});
