/** A copy of a session that changes while it is copied is whole, or there is none. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { openJournalFile } from '../../store/journal-file.ts';
import { forkStep } from '../../store/maintenance.ts';
import { trimStep as readTrimStep } from '../../store/reader-trim.ts';
import type { ForkStep } from '../../store/thread-protocol.ts';
import { trimStep } from '../../store/trim.ts';
import { Writer } from '../../store/writer.ts';
import { type Folder, makeFolder, open } from './setup.ts';
import { created, delta, sessionId } from './setup-events.ts';

const EVENTS = 1200;
const [one, two] = [sessionId(1), sessionId(2)];

let folder: Folder;
let writer: Writer;

beforeEach(async () => {
  folder = makeFolder();
  const store = await open(folder.path);
  await store.append({ events: [created(1)] });
  const deltas = Array.from({ length: EVENTS / 2 }, (_, count) => delta(`${count}`));
  for (let times = 0; times < 2; times += 1) await store.append({ events: deltas });
  await store.close();
  writer = new Writer(openJournalFile(join(folder.path, 'journal.db'), { mode: 'keep' }));
});

afterEach(() => {
  writer.db.close();
  folder.remove();
});

/** The first step of a copy up to this event. */
function begin(seq: number): ForkStep {
  const place = { name: null, workspace: null, timeMs: 1, record: null };
  const step = { from: one, to: two, seq, ...place };
  const { done, value } = forkStep(writer, step);
  expect(done).toBe(false);
  return { ...step, record: value };
}

function removeUpTo(seq: number): void {
  const point = { session: one, seq, forkFrom: 1 };
  const step = { session: one, seq: 0, link: '', record: null, limit: EVENTS };
  const report = readTrimStep(writer.db, { point, step });
  if (report.kind !== 'done') throw new Error(report.kind);
  while (!trimStep(writer, report.snapshot).done);
}

describe('of a session that loses events meanwhile, a copy', () => {
  it.each([
    [1100, 800, 'some of what was left'],
    [700, 1000, 'all that was left'],
  ])(
    'up to event %d is refused by name when retention removed up to %d: %s (regression)',
    (seq, removed) => {
      const step = begin(seq);
      removeUpTo(removed);
      expect(() => forkStep(writer, step)).toThrow(
        expect.objectContaining({
          code: 'CURSOR_GONE',
          data: { session: one, first_seq: removed + 1 },
        }),
      );
    },
  );

  it('goes on when what retention removed was copied already', () => {
    let step = begin(1100);
    removeUpTo(400);
    for (let report = forkStep(writer, step); !report.done; report = forkStep(writer, step)) {
      step = { ...step, record: report.value };
    }
    expect(writer.heads.get(two)).toMatchObject({ lastSeq: 1101 });
  });

  it.each([
    ['a missing event', `DELETE FROM events WHERE session = '${one}' AND seq = 800`],
    ['an exchanged one', `UPDATE events SET hash = 'x' WHERE session = '${one}' AND seq = 799`],
  ])('does not take over %s as if it were whole (regression)', (_, sql) => {
    const step = begin(1100);
    writer.db.exec(sql);
    expect(() => forkStep(writer, step)).toThrow(
      expect.objectContaining({
        code: 'STORE_CORRUPT',
        data: expect.objectContaining({ session: one }),
      }),
    );
  });
});

it('a copy that fails half-way leaves nothing of itself (regression)', async () => {
  const at = `session = '${one}' AND seq = 800`;
  writer.db.exec(`UPDATE events SET crc = 0 WHERE ${at}`);
  const store = await open(folder.path);
  try {
    await expect(store.forkSession(one, 1100, two)).rejects.toMatchObject({
      code: 'STORE_CORRUPT',
    });
    const left = 'SELECT count(*) AS count FROM events WHERE session = ?';
    expect(writer.db.get(left, two)).toEqual({ count: 0 });
    // And what is there already is not taken for a half copy.
    await expect(store.forkSession(one, 1, one)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(writer.db.get(left, one)).toEqual({ count: EVENTS + 1 });
  } finally {
    await store.close();
  }
});
