/** Reading an outcome that somebody else writes: to its end, in order, bounded, and no further
 *  than the death of the writer. */
import { mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type AppendLog, openAppendLog } from '../../../base/append-log.ts';
import type { EffectId, SessionId } from '../../../protocol/ids.ts';
import {
  type Progress,
  realSpools,
  type SpoolFiles,
  tailSpool,
  toSpoolPath,
} from '../../../supervisor/effects/spool.ts';
import { createSteppedClock } from '../stepped-clock.ts';

const session = 's_0123456789abcdef' as SessionId;
const effect = '1.1' as EffectId;
const POLL_MS = 20;

let stateDir = '';
let path = '';
let log: AppendLog;
beforeAll(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'prx-spool-'));
});
beforeEach(() => {
  rmSync(join(stateDir, 'spool'), { recursive: true, force: true });
  path = toSpoolPath({ stateDir, session, effect, attempt: 1 });
  log = openAppendLog(path);
});
afterAll(() => rmSync(stateDir, { recursive: true, force: true }));

interface Tailing {
  readonly end: Promise<string | undefined>;
  readonly batches: (readonly Progress<string>[])[];
  readonly clock: ReturnType<typeof createSteppedClock>;
  readonly writer: { alive: boolean };
  readonly abort: AbortController;
}

function tail(offset = 0, alive = false, files: SpoolFiles = realSpools): Tailing {
  const batches: (readonly Progress<string>[])[] = [];
  const clock = createSteppedClock();
  const writer = { alive };
  const abort = new AbortController();
  const end = tailSpool<string, string>({
    files,
    path,
    offset,
    classify(value) {
      if (typeof value !== 'string') return undefined;
      return value.startsWith('end') ? { end: value } : { progress: value };
    },
    async onProgress(batch) {
      batches.push(batch);
    },
    isWriterAlive: () => writer.alive,
    clock,
    signal: abort.signal,
  });
  return { end, batches, clock, writer, abort };
}

const texts = ({ batches }: Tailing): string[] => batches.flat().map(({ record }) => record);

describe('the tail of a spool', () => {
  test('is read to its end, what is of another shape is passed over', async () => {
    const offsets = ['a', 'b'].map((text) => log.append(text));
    log.append({ other: true });
    log.append('end');
    const tailing = tail();
    expect(await tailing.end).toBe('end');
    expect(tailing.batches.flat()).toEqual([
      { record: 'a', offset: offsets[0] },
      { record: 'b', offset: offsets[1] },
    ]);
  });

  test('starts behind what the journal has', async () => {
    const behind = log.append('a');
    log.append('b');
    log.append('end');
    const tailing = tail(behind);
    await tailing.end;
    expect(texts(tailing)).toEqual(['b']);
  });

  test('a writer that lives is waited for; what it wrote last is read', async () => {
    log.append('a');
    const tailing = tail(0, true);
    await tailing.clock.armed(POLL_MS);
    log.append('b');
    tailing.clock.advance(POLL_MS);
    await tailing.clock.armed(POLL_MS);
    log.append('end');
    tailing.writer.alive = false;
    tailing.clock.advance(POLL_MS);
    expect(await tailing.end).toBe('end');
    expect(texts(tailing)).toEqual(['a', 'b']);
  });

  test('a writer that ends while its spool is read is read once more', async () => {
    let reads = 0;
    const read: typeof realSpools.read = (from, offset) => {
      const slice = realSpools.read(from, offset);
      reads += 1;
      if (reads === 2) {
        log.append('end');
        writer.alive = false;
      }
      return slice;
    };
    const { end, clock, writer } = tail(0, true, { ...realSpools, read });
    await clock.armed(POLL_MS);
    clock.advance(POLL_MS);
    await clock.armed(POLL_MS);
    clock.advance(POLL_MS);
    expect(await end).toBe('end');
  });

  test.each([
    ['that died without an end', (): void => void log.append('a')],
    ['that never began', (): void => rmSync(path)],
    [
      'that died within its last record',
      (): void => {
        log.append('a');
        truncateSync(path, log.append('end') - 3);
      },
    ],
  ])('a writer %s leaves none', async (_, write) => {
    write();
    expect(await tail().end).toBeUndefined();
  });

  test('an abort ends the wait, not what is there to read', async () => {
    log.append('a');
    const tailing = tail(0, true);
    await tailing.clock.armed(POLL_MS);
    log.append('end');
    tailing.abort.abort();
    expect(await tailing.end).toBe('end');
  });

  test('a long one is handed on in bounded batches, in order', async () => {
    const all = Array.from({ length: 1000 }, (_, index) => `r${index}`);
    for (const text of all) log.append(text);
    log.append('end');
    const tailing = tail();
    await tailing.end;
    expect(texts(tailing)).toEqual(all);
    expect(Math.max(...tailing.batches.map((batch) => batch.length))).toBe(128);
  });
});

test('the spools of one effect are removed, and no others, behind the answer', async () => {
  const place = { stateDir, session, attempt: 1 };
  const other = toSpoolPath({ ...place, effect: '1.10' as EffectId });
  openAppendLog(other).append('kept');
  openAppendLog(toSpoolPath({ ...place, effect, attempt: 2 })).close();
  realSpools.remove(stateDir, session, effect);
  realSpools.remove(stateDir, session, effect);
  realSpools.remove(stateDir, 's_fedcba9876543210' as SessionId, effect);
  expect(() => truncateSync(path)).not.toThrow();
  await new Promise((resolve) => setImmediate(resolve));
  expect(() => truncateSync(path)).toThrow('ENOENT');
  expect(() => truncateSync(other)).not.toThrow();
});
