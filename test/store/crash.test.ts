import { existsSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { Store } from '../../store/contract.ts';
import { makeFolder, open, startFixture } from './setup.ts';
import { created, delta, sessionId } from './setup-events.ts';

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
  it('loses nothing that was acknowledged, and its epoch goes on', async () => {
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
  }, 30_000);

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
  }, 30_000);
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
  ])('%s', async (_, clean, bootIds, expected) => {
    const boots = bootIds.map((bootId, i) => ({ bootId, isClean: clean[i] ?? true }));
    expect(await withBoots(boots)).toEqual(expected);
  });
});
