import { copyFileSync, existsSync, mkdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import type { Store } from '../../store/contract.ts';
import { verifyOffline } from '../../store/offline.ts';
import { makeFolder, open, startFixture } from './setup.ts';
import { created, delta, renamed, sessionId } from './setup-events.ts';

/** Runs the appending program, kills it after `lines` acknowledgements, and gives the newest
 *  acknowledged sequence number of each session. */
async function killWhileAppending(path: string, lines: number): Promise<Map<number, number>> {
  const { program } = await startFixture('append-loop', path);
  let text = '';
  let seen = 0;
  program.stdout.on('data', (chunk: string) => {
    text += chunk;
    seen += chunk.split('\n').length - 1;
    if (seen >= lines) program.kill('SIGKILL');
  });
  await Promise.all([
    program.exited,
    new Promise((resolve) => program.stdout.once('end', resolve)),
  ]);
  const acknowledged = new Map<number, number>();
  for (const line of text.split('\n').slice(0, -1)) {
    const [n = 0, seq = 0] = line.split(' ').map(Number);
    acknowledged.set(n, seq);
  }
  return acknowledged;
}

async function lastSeq(store: Store, n: number): Promise<number> {
  return (await store.getSession(sessionId(n)))?.last_seq ?? 0;
}

describe('a killed process', () => {
  it('loses nothing that was acknowledged, and its epoch goes on (FAULTS 51)', async () => {
    const folder = makeFolder();
    try {
      for (const lines of [1, 200, 700]) {
        // The program creates its sessions anew, so each round has a folder of its own.
        const path = join(folder.path, String(lines));
        const acknowledged = await killWhileAppending(path, lines);
        const store = await open(path);
        expect(store.epoch).toBe(1);
        for (const [n, seq] of acknowledged) {
          expect(await lastSeq(store, n)).toBeGreaterThanOrEqual(seq);
        }
        expect(acknowledged.size).toBeGreaterThan(0);
        expect((await store.verify()).problems).toEqual([]);
        await store.append({ events: [delta('on', [...acknowledged.keys()][0])] });
        await store.close();
      }
    } finally {
      folder.remove();
    }
  });

  it('leaves a log whose cut tail is dropped: a whole prefix stays', async () => {
    const folder = makeFolder();
    try {
      await killWhileAppending(folder.path, 300);
      const wal = join(folder.path, 'journal.db-wal');
      expect(existsSync(wal)).toBe(true);
      let before = Number.POSITIVE_INFINITY;
      for (const cut of [100, 5000, 20_001]) {
        truncateSync(wal, Math.max(0, statSync(wal).size - cut));
        const store = await open(folder.path);
        const report = await store.verify();
        expect(report.problems).toEqual([]);
        expect(report.events).toBeLessThanOrEqual(before);
        before = report.events + 10;
        await store.close();
        if (!existsSync(wal)) break; // A clean stop leaves no log.
      }
    } finally {
      folder.remove();
    }
  });
});

describe('after an end that was not clean', () => {
  it('all that is visible is written anew before anything else, so a lost page harms nobody (FAULTS 56)', async () => {
    const folder = makeFolder();
    try {
      const acknowledged = await killWhileAppending(folder.path, 300);
      const wal = join(folder.path, 'journal.db-wal');
      expect(statSync(wal).size).toBeGreaterThan(100_000);
      const store = await open(folder.path);
      expect(statSync(wal).size).toBe(0);
      for (const [n, seq] of acknowledged) {
        expect(await lastSeq(store, n)).toBeGreaterThanOrEqual(seq);
      }
      await store.close();
    } finally {
      folder.remove();
    }
  });
});

describe('a log that was cut off', () => {
  const FRAME_BYTES = 24 + 4096;

  it('at any byte is a whole prefix of what was committed, and never anything else (FAULTS 52)', async () => {
    const folder = makeFolder();
    const cut = join(folder.path, 'cut');
    const store = await open(join(folder.path, 'whole'));
    await store.append({ events: [created(1)] });
    for (let i = 1; i <= 12; i += 1) await store.append({ events: [renamed(`n${i}`), delta('d')] });
    mkdirSync(cut);
    for (const name of ['journal.db', 'journal.db-wal']) {
      copyFileSync(join(folder.path, 'whole', name), join(cut, name));
    }
    await store.close();
    const log = join(cut, 'journal.db-wal');
    const whole = statSync(log).size;
    const counts: number[] = [];
    // Every byte of the last frame, and of each header before it; between them one of each 31.
    for (let bytes = whole; bytes > whole - 12 * FRAME_BYTES; bytes -= 1) {
      const inFrame = (bytes - 32) % FRAME_BYTES;
      if (bytes < whole - FRAME_BYTES && inFrame > 24 && inFrame % 31 !== 0) continue;
      truncateSync(log, bytes);
      const db = new DatabaseSync(join(cut, 'journal.db'), { readOnly: true });
      const seqs = db.prepare('SELECT seq FROM events ORDER BY id').all();
      db.close();
      rmSync(join(cut, 'journal.db-shm'), { force: true });
      const count = seqs.length;
      if (seqs.some(({ seq }, index) => seq !== index + 1)) throw new Error(`a hole at ${bytes}`);
      if (counts.at(-1) === count) continue;
      counts.push(count);
      expect(verifyOffline({ stateDir: cut, clock: realClock })).toMatchObject({
        problems: [],
        events: count,
      });
    }
    // Transactions go as a whole, the newest first.
    expect(counts.slice(0, 3)).toEqual([25, 23, 21]);
    folder.remove();
  });
});

describe('the epoch', () => {
  const withBoots = async (
    boots: readonly { readonly bootId: string; readonly isClean: boolean }[],
  ): Promise<readonly number[]> => {
    const folder = makeFolder();
    const epochs: number[] = [];
    for (const { bootId, isClean } of boots) {
      const store = await open(folder.path, {
        bootId,
        // A stop is not clean when the last sync failed; the first one is at the opening.
        ...(isClean ? {} : { faults: { failSyncAt: 2 } }),
      });
      epochs.push(store.epoch);
      if (!isClean) await store.append({ events: [created()] }).catch(() => undefined);
      await store.close();
    }
    folder.remove();
    return epochs;
  };

  it.each([
    ['stays over clean stops and reboots', [true, true, true], ['a', 'a', 'b'], [1, 1, 1]],
    ['stays when the process died', [false, true], ['a', 'a'], [1, 1]],
    ['rises when the machine died', [false, true, true], ['a', 'b', 'b'], [1, 2, 2]],
    ['rises when nobody knows', [false, true], ['', ''], [1, 2]],
  ])('its number %s', async (_, clean, bootIds, expected) => {
    const boots = bootIds.map((bootId, i) => ({ bootId, isClean: clean[i] ?? true }));
    expect(await withBoots(boots)).toEqual(expected);
  });
});
