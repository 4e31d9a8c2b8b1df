import { describe, expect, test } from '@jest/globals';
import type { AppendLog } from '../../base/append-log.ts';
import { createDeltaSink, type Delta } from '../../gateway/delta-sink.ts';

/** A log in memory that fails from the n-th append on. */
function createLog(failFrom = Number.POSITIVE_INFINITY): AppendLog & { records: unknown[] } {
  const records: unknown[] = [];
  return {
    records,
    append(record) {
      if (records.length + 1 >= failFrom) throw new Error('ENOSPC: no space left on device');
      return records.push(record);
    },
    sync: () => undefined,
    close: () => undefined,
  };
}

const taken = async (): Promise<void> => undefined;

describe('createDeltaSink', () => {
  test('merges what comes in one turn of the loop, kind by kind', async () => {
    const log = createLog();
    const seen: Delta[] = [];
    const sink = createDeltaSink(log, async (delta) => void seen.push(delta));
    sink.push({ kind: 'reasoning', text: 'h' });
    sink.push({ kind: 'reasoning', text: 'm' });
    sink.push({ kind: 'text', text: 'a' });
    sink.push({ kind: 'text', text: 'b' });
    sink.push({ kind: 'tool_call', index: 0, id: 'x', name: 'shell', arguments: '{' });
    sink.push({ kind: 'tool_call', index: 0, arguments: '}' });
    sink.push({ kind: 'tool_call', index: 1, name: 'shell', arguments: '' });
    sink.finish();
    const texts = [
      ['reasoning', 'hm'],
      ['text', 'ab'],
      ['tool_call', '{"index":0,"name":"shell","arguments":"{}"}'],
      ['tool_call', '{"index":1,"name":"shell","arguments":""}'],
    ];
    expect(seen.map(({ kind, text }) => [kind, text])).toEqual(texts);
    expect(seen.map(({ offset }) => offset)).toEqual([1, 2, 3, 4]);
    expect(log.records).toEqual(texts.map(([delta, text]) => ({ kind: 'delta', delta, text })));
  });

  test('a slow reader gets fewer, longer deltas, and holds the stream over 64 Ki (FAULTS 37, 39)', async () => {
    const seen: string[] = [];
    let release: () => void = () => undefined;
    let arrived: () => void = () => undefined;
    const first = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const sink = createDeltaSink(createLog(), ({ text }) => {
      seen.push(text);
      arrived();
      return new Promise((resolve) => {
        release = resolve;
      });
    });
    expect(sink.push({ kind: 'text', text: 'first' })).toBeUndefined();
    await first;
    const half = 'x'.repeat(32 * 1024);
    expect(sink.push({ kind: 'text', text: half })).toBeUndefined();
    expect(sink.push({ kind: 'text', text: half })).toBeUndefined();
    const full = sink.push({ kind: 'text', text: 'y' });
    expect(full).toBeInstanceOf(Promise);
    release();
    await Promise.resolve();
    await Promise.resolve();
    release();
    await full;
    expect(seen).toEqual(['first', `${half}${half}y`]);
  });

  test.each([1, 2, 3])('a spool that fails at append %d is told to the next push', async (n) => {
    const log = createLog(n);
    const seen: Delta[] = [];
    const sink = createDeltaSink(log, async (delta) => void seen.push(delta));
    const kinds = ['text', 'reasoning'] as const;
    let failure: unknown;
    try {
      for (let turn = 0; turn < 5; turn += 1) {
        await sink.push({ kind: kinds[turn % 2] ?? 'text', text: 'x' });
        sink.finish();
      }
    } catch (error) {
      failure = error;
    }
    expect(failure).toMatchObject({ code: 'STORE_DEGRADED' });
    expect(() => sink.push({ kind: 'text', text: 'x' })).toThrow('ENOSPC');
    expect(() => sink.finish()).toThrow('ENOSPC');
    expect(seen).toHaveLength(n - 1);
    expect(log.records).toHaveLength(n - 1);
  });

  test('nothing said, nothing done', () => {
    const log = createLog();
    createDeltaSink(log, taken).finish();
    expect(log.records).toEqual([]);
  });
});
