/** A log that is removed or cut while nobody runs: SQLite takes what is left for whole. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import type { Store } from '../../store/contract.ts';
import { verifyOffline } from '../../store/offline.ts';
import { repairOffline } from '../../store/repair.ts';
import { restoreOffline } from '../../store/restore.ts';
import { makeFolder, open } from './setup.ts';
import { accepted, created, renamed, sessionId } from './setup-events.ts';

const FIRST = { since: 0, limit: 100 };
const all = async (store: Store, session = sessionId(1)) =>
  (await store.readEvents(session, FIRST)).events;
const systemOf = async (store: Store) =>
  (await store.readEvents('system', FIRST)).events.map(({ type, data }) => [
    type,
    (data as { reason: string }).reason,
  ]);

/** A state directory as the death of a supervisor leaves it, with four events in its log. */
async function withDeath(
  test: (stateDir: string, wal: string, backup: string) => Promise<void>,
): Promise<void> {
  const folder = makeFolder();
  try {
    const live = join(folder.path, 'live');
    const [stateDir, backup] = [join(folder.path, 'dead'), join(folder.path, 'backup')];
    await (await open(live)).close();
    const store = await open(live);
    await store.append({ events: [created(1), accepted('q')] });
    await store.backup(backup);
    await store.append({ events: [renamed('a')] });
    await store.append({ events: [renamed('b')] });
    cpSync(live, stateDir, { recursive: true, filter: (path) => !path.includes('lock') });
    await store.close();
    mkdirSync(join(stateDir, 'spool', sessionId(1)), { recursive: true });
    writeFileSync(join(stateDir, 'spool', sessionId(1), '1.1.1-1.log'), 'an outcome');
    await test(stateDir, join(stateDir, 'journal.db-wal'), backup);
  } finally {
    folder.remove();
  }
}

describe('a log that was whole', () => {
  it('is no alarm, nor after a restart of the machine or a clean stop', () =>
    withDeath(async (stateDir, wal) => {
      expect(verifyOffline({ stateDir, clock: realClock }).problems).toEqual([]);
      const store = await open(stateDir);
      expect([store.epoch, (await all(store)).length]).toEqual([1, 4]);
      await store.close();
      rmSync(wal, { force: true });
      const next = await open(stateDir);
      expect([next.epoch, await systemOf(next)]).toEqual([1, []]);
      await next.close();
      expect(existsSync(join(stateDir, 'spool', sessionId(1)))).toBe(true);
    }));
});

describe('a log that is gone or was cut while no supervisor ran (regression)', () => {
  it.each([
    ['gone', 0],
    ['cut', 0.9],
  ])('%s: a whole prefix stays, the epoch rises, and the journal says it (FAULTS 52)', (_, share) =>
    withDeath(async (stateDir, wal) => {
      if (share === 0) rmSync(wal);
      else truncateSync(wal, Math.floor(statSync(wal).size * share));
      const gone = share === 0 ? 4 : 1;
      const problem = expect.stringMatching(`^the newest ${gone} events are gone: journal.db-wal`);
      const found = { session: 'journal.db', seq: 0, problem };
      expect(verifyOffline({ stateDir, clock: realClock }).problems).toEqual([found]);
      const store = await open(stateDir);
      expect(store.epoch).toBe(2);
      expect(await systemOf(store)).toEqual([['store.repaired', problem]]);
      expect(existsSync(join(stateDir, 'spool', sessionId(1)))).toBe(false);
      if (share > 0) {
        // Whether it ran in what is gone, nobody knows.
        expect((await all(store)).at(-1)?.type).toBe('input.quarantined');
        await expect(
          store.readEvents(sessionId(1), { since: 4, limit: 9, epoch: 1 }),
        ).rejects.toMatchObject({ code: 'CURSOR_SUPERSEDED' });
      }
      await store.close();
      expect(verifyOffline({ stateDir, clock: realClock }).problems).toEqual([]);
      const again = await open(stateDir);
      expect([again.epoch, (await systemOf(again)).length]).toEqual([2, 1]);
      await again.close();
    }),
  );

  it('under another boot it is what a power loss takes', () =>
    withDeath(async (stateDir, wal) => {
      rmSync(wal);
      const store = await open(stateDir, { bootId: 'another' });
      expect(await systemOf(store)).toEqual([]);
      await store.close();
    }));

  it('what a restore took back on purpose is no loss', () =>
    withDeath(async (stateDir, _, file) => {
      restoreOffline({ stateDir, clock: realClock, file, force: true });
      const store = await open(stateDir);
      expect(await systemOf(store)).toEqual([]);
      await store.close();
    }));

  it('a repair that comes first says it, once', () =>
    withDeath(async (stateDir, wal) => {
      rmSync(wal);
      const { lost } = repairOffline({ stateDir, clock: realClock });
      expect(lost).toMatch(/^the newest 4 events are gone: .*; what was open is closed$/);
      expect(repairOffline({ stateDir, clock: realClock }).lost).toBeUndefined();
      const store = await open(stateDir);
      expect([store.epoch, (await systemOf(store)).length]).toEqual([2, 1]);
      await store.close();
    }));
});
