/** Backups are made while events are appended, verified from the file, and restored where no
 *  supervisor runs; nothing is replaced by what does not verify. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import { realClock } from '../../base/clock.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { Store } from '../../store/contract.ts';
import { verifyOffline } from '../../store/offline.ts';
import { restoreOffline } from '../../store/restore.ts';
import { makeFolder, open } from './setup.ts';
import { created, delta, renamed, sessionId } from './setup-events.ts';

interface Places {
  readonly store: Store;
  readonly stateDir: string;
  readonly file: string;
  readonly fresh: string;
}

async function withPlaces(test: (places: Places) => Promise<void>): Promise<void> {
  const folder = makeFolder();
  const stateDir = join(folder.path, 'state');
  const store = await open(stateDir);
  await store.append({ events: [created(1, { private_workspace: true }), created(2)] });
  await store.append({ events: [delta('a', 1), renamed('two', 2)] });
  try {
    const at = { file: join(folder.path, 'backup.db'), fresh: join(folder.path, 'fresh') };
    await test({ store, stateDir, ...at });
  } finally {
    await store.close();
    folder.remove();
  }
}

const put = (stateDir: string, file: string, force = false) =>
  restoreOffline({ stateDir, file, force, clock: realClock });

function codeOf(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

describe('a backup', () => {
  it('holds one instant of a journal that goes on, artifacts too; it restores to the same', () =>
    withPlaces(async ({ store, stateDir, file, fresh }) => {
      const artifact = Buffer.alloc(2_500_000, 'artifact ');
      mkdirSync(join(stateDir, 'artifacts', sessionId(1)), { recursive: true });
      writeFileSync(join(stateDir, 'artifacts', sessionId(1), '1.1.1-stdout'), artifact);
      writeFileSync(join(stateDir, 'artifacts', sessionId(1), 'empty'), '');
      let isOver = false;
      const appends = (async () => {
        for (let i = 0; !isOver; i += 1) await store.append({ events: [delta(`${i}`, 2)] });
      })();
      const summary = await store.backup(file);
      isOver = true;
      await appends;
      expect(summary).toMatchObject({
        path: file,
        bytes: statSync(file).size,
        epoch: 1,
        sessions: 2,
        files: 2,
        file_bytes: artifact.length,
        problems: [],
      });
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(readdirSync(join(file, '..')).sort()).toEqual(['backup.db', 'state']);

      const report = put(fresh, file);
      expect(report).toMatchObject({ events: summary.events, new_epoch: 1001, aside: undefined });
      const entries = readdirSync(fresh).filter((name) => !/-(wal|shm)$/.test(name));
      expect(entries.sort()).toEqual(['artifacts', 'journal.db', 'lock.db', 'workspaces']);
      const restoredArtifact = join(fresh, 'artifacts', sessionId(1), '1.1.1-stdout');
      expect(readFileSync(restoredArtifact).equals(artifact)).toBe(true);
      expect(existsSync(join(fresh, 'workspaces', sessionId(1)))).toBe(true);
      expect(verifyOffline({ stateDir: fresh, clock: realClock })).toMatchObject({
        sessions: 2,
        events: summary.events,
        problems: [],
      });
      const restored = await open(fresh);
      const page = { since: 0, limit: 1000 };
      const before = (await store.readEvents(sessionId(1), page)).events;
      expect((await restored.readEvents(sessionId(1), page)).events).toEqual(before);
      const known = (await restored.readEvents(sessionId(2), page)).events;
      const all = (await store.readEvents(sessionId(2), page)).events;
      expect(known).toEqual(all.slice(0, known.length));
      await restored.append({ events: [delta('on', 2)] });
      await restored.close();
    }));

  it('takes back: a cursor of the time after it is refused, whatever its epoch', () =>
    withPlaces(async ({ store, stateDir, file }) => {
      await store.backup(file);
      await store.append({ events: [delta('b', 1), delta('c', 1)] });
      await store.putProcess({
        kind: 'gateway',
        session: undefined,
        started_at: 't',
        pid: 7,
        startTicks: 8,
        bootId: 'b',
      });
      const { cursor } = await store.readAll(undefined, 100);
      await store.close();
      mkdirSync(join(stateDir, 'spool'));
      writeFileSync(join(stateDir, 'spool', 'x'), 'old');
      expect(codeOf(() => put(stateDir, file))).toBe('STATE_DIR_UNUSABLE');
      const { aside = '' } = put(stateDir, file, true);
      expect(readdirSync(aside).sort()).toEqual(['journal.db', 'spool']);
      expect(verifyOffline({ stateDir: aside, clock: realClock })).toMatchObject({ problems: [] });

      const restored = await open(stateDir);
      await restored.append({ events: [delta('x', 1), delta('y', 1)] });
      const read = (epoch: number) =>
        restored.readEvents(sessionId(1), { since: 4, epoch, limit: 9 });
      for (const epoch of [1, 2, 900]) {
        await expect(read(epoch)).rejects.toMatchObject({
          code: 'CURSOR_SUPERSEDED',
          data: { epoch: 1001, last_good_seq: 2 },
        });
      }
      await expect(restored.readAll(cursor, 9)).rejects.toMatchObject({
        code: 'CURSOR_SUPERSEDED',
      });
      // What an earlier supervisor left running here must still be found.
      expect(await restored.listProcesses()).toMatchObject([{ pid: 7 }]);
      await restored.close();
    }));

  it('never overwrites, and leaves nothing of what it cannot finish', () =>
    withPlaces(async ({ store, stateDir, file }) => {
      writeFileSync(file, 'mine');
      await expect(store.backup(file)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
      expect(readFileSync(file, 'utf8')).toBe('mine');
      mkdirSync(join(stateDir, 'y.partial'));
      await expect(store.backup(join(stateDir, 'y'))).rejects.toMatchObject({
        code: 'INVALID_REQUEST',
      });
      await expect(store.backup(join(stateDir, 'no', 'x'))).rejects.toMatchObject({
        code: 'INVALID_REQUEST',
        message: expect.stringMatching(/ENOENT|unable to open/),
      });
      expect(readdirSync(join(file, '..')).sort()).toEqual(['backup.db', 'state']);
    }));

  it('leaves nothing of one that was killed under its name either (regression)', () =>
    withPlaces(async ({ store, file }) => {
      for (const name of [`${file}.partial`, `${file}.partial-journal`]) writeFileSync(name, 'cut');
      await store.backup(file);
      expect(readdirSync(dirname(file)).sort()).toEqual(['backup.db', 'state']);
    }));

  it('is made one at a time: a second one is refused by name (regression)', () =>
    withPlaces(async ({ store, file }) => {
      const [first, ...others] = await Promise.allSettled([
        store.backup(file),
        store.backup(file),
        store.backup(`${file}-2`),
      ]);
      expect(first).toMatchObject({ status: 'fulfilled' });
      const refused = { status: 'rejected', reason: { code: 'AT_CAPACITY' } };
      expect(others).toMatchObject([refused, refused]);
      await store.backup(`${file}-2`);
    }));

  it('names what was damaged before, and keeps it as it was', () =>
    withPlaces(async ({ store, stateDir, file, fresh }) => {
      await store.close();
      const db = new DatabaseSync(join(stateDir, 'journal.db'));
      db.exec(`UPDATE events SET crc = 1 WHERE session = '${sessionId(2)}' AND seq = 2`);
      db.close();
      const again = await open(stateDir);
      const problems = [{ session: sessionId(2), seq: 2 }];
      expect(await again.backup(file)).toMatchObject({ problems });
      await again.close();
      expect(put(fresh, file)).toMatchObject({ problems });
    }));
});

/** An old journal with an artifact and a spool, and the backup of a time before these. */
const withOld = (test: (stateDir: string, file: string, artifact: string) => Promise<void>) =>
  withPlaces(async ({ store, stateDir, file }) => {
    const artifact = join(stateDir, 'artifacts', 's', 'a');
    mkdirSync(dirname(artifact), { recursive: true });
    writeFileSync(artifact, 'of the backup');
    await store.backup(file);
    await store.close();
    writeFileSync(artifact, 'of a later time');
    mkdirSync(join(stateDir, 'spool'));
    await test(stateDir, file, artifact);
  });

describe('a restore', () => {
  it('of a damaged, cut, or foreign file changes nothing', () =>
    withPlaces(async ({ store, stateDir, file, fresh }) => {
      mkdirSync(join(stateDir, 'artifacts', 's'), { recursive: true });
      writeFileSync(join(stateDir, 'artifacts', 's', 'a'), 'x'.repeat(9000));
      await store.backup(file);
      const whole = readFileSync(file);
      let noticed = 0;
      for (let i = 0; i < 60; i += 1) {
        const bytes = Buffer.from(whole);
        const position = 100 + ((i * 7919) % (whole.length - 100));
        bytes[position] = (bytes[position] ?? 0) ^ 0x10;
        writeFileSync(file, bytes);
        const target = `${fresh}-${i}`;
        const outcome = codeOf(() => put(target, file));
        if (typeof outcome === 'object') {
          // The bit belonged to nothing that is restored.
          expect(verifyOffline({ stateDir: target, clock: realClock }).problems).toEqual([]);
          continue;
        }
        expect(['STORE_CORRUPT', 'INVALID_REQUEST']).toContain(outcome);
        expect(existsSync(join(target, 'journal.db'))).toBe(false);
        noticed += 1;
      }
      expect(noticed).toBeGreaterThan(5);
      writeFileSync(file, whole);
      truncateSync(file, whole.length - 4096);
      expect(codeOf(() => put(fresh, file))).toBe('STORE_CORRUPT');
      writeFileSync(file, 'garbage');
      expect(codeOf(() => put(fresh, file))).toBe('STORE_CORRUPT');
      writeFileSync(file, whole);
      writeFileSync(`${file}-journal`, 'of a backup that was killed');
      expect(codeOf(() => put(fresh, file))).toBe('STORE_CORRUPT');
      expect(codeOf(() => put(fresh, `${file}-none`))).toBe('INVALID_REQUEST');
      expect(codeOf(() => put(fresh, join(stateDir, 'journal.db')))).toBe('INVALID_REQUEST');
    }));

  it('that names a place elsewhere writes nothing there, and leaves nothing (regression)', () =>
    withPlaces(async ({ store, stateDir, file, fresh }) => {
      mkdirSync(join(stateDir, 'artifacts', 's'), { recursive: true });
      writeFileSync(join(stateDir, 'artifacts', 's', 'a'), 'x');
      await store.backup(file);
      const db = new DatabaseSync(file);
      db.exec("UPDATE backup_files SET path = '../../x'");
      db.close();
      const forged = {
        ...created(3, { private_workspace: true }),
        session: '../../x' as SessionId,
      };
      await store.append({ events: [forged] });
      await store.backup(`${file}-2`);
      for (const each of [file, `${file}-2`]) {
        expect(codeOf(() => put(fresh, each))).toBe('STORE_CORRUPT');
        expect(readdirSync(fresh)).toEqual(['lock.db']);
        expect(existsSync(join(stateDir, '..', 'x'))).toBe(false);
      }
    }));

  it('is refused while a supervisor runs there', () =>
    withPlaces(async ({ store, stateDir, file }) => {
      await store.backup(file);
      expect(codeOf(() => put(stateDir, file, true))).toBe('ALREADY_RUNNING');
      await store.append({ events: [delta('goes on', 1)] });
    }));

  it('puts aside what is left of a journal that was taken away (regression)', () =>
    withOld(async (stateDir, file, artifact) => {
      mkdirSync(join(stateDir, 'unsettled'));
      renameSync(join(stateDir, 'journal.db'), join(stateDir, 'mine.db'));
      writeFileSync(join(stateDir, 'journal.db-wal'), 'of another journal');
      const { aside = '' } = put(stateDir, file);
      expect(readdirSync(aside).sort()).toEqual([
        'artifacts',
        'journal.db-wal',
        'spool',
        'unsettled',
      ]);
      expect(readFileSync(artifact, 'utf8')).toBe('of the backup');
      expect(existsSync(join(stateDir, 'spool'))).toBe(false);
      expect(verifyOffline({ stateDir, clock: realClock })).toMatchObject({ problems: [] });
    }));

  it('replaces a journal that cannot be read at all, and keeps it', () =>
    withPlaces(async ({ store, stateDir, file }) => {
      await store.backup(file);
      await store.close();
      writeFileSync(join(stateDir, 'journal.db'), 'garbage '.repeat(2000));
      const { aside = '', new_epoch: epoch } = put(stateDir, file, true);
      expect(readFileSync(join(aside, 'journal.db'), 'utf8')).toContain('garbage');
      const restored = await open(stateDir);
      expect([restored.epoch, (await restored.listSessions()).length]).toEqual([epoch, 2]);
      await restored.close();
    }));
});

describe('a restore that was killed (regression)', () => {
  const PARTIAL = 'restore.partial';

  it.each([
    ['the journal is in its place', ['artifacts', 'spool']],
    ['the old spool is put aside', ['artifacts']],
    ['the old artifacts are put aside', []],
  ])('when %s: the next start does the rest', (_, old) =>
    withOld(async (stateDir, file, artifact) => {
      const { aside = '', new_epoch: epoch } = put(stateDir, file, true);
      mkdirSync(join(stateDir, PARTIAL));
      renameSync(join(stateDir, 'artifacts'), join(stateDir, PARTIAL, 'artifacts'));
      for (const name of old) renameSync(join(aside, name), join(stateDir, name));
      const store = await open(stateDir);
      expect(store.epoch).toBe(epoch);
      await store.close();
      expect(readFileSync(artifact, 'utf8')).toBe('of the backup');
      const names = readdirSync(stateDir);
      expect(names).not.toContain('spool');
      expect(names).not.toContain(PARTIAL);
      const kept = names.filter((name) => name.startsWith('replaced-'));
      const found = kept.flatMap((name) => readdirSync(join(stateDir, name)));
      expect(found.sort()).toEqual(['artifacts', 'journal.db', 'spool']);
    }),
  );

  it('before that: what was there is as it was, and nothing is left of it', () =>
    withOld(async (stateDir, file, artifact) => {
      mkdirSync(join(stateDir, PARTIAL, 'artifacts'), { recursive: true });
      copyFileSync(file, join(stateDir, PARTIAL, 'journal.db'));
      const store = await open(stateDir);
      expect(store.epoch).toBe(1);
      await store.close();
      expect(readFileSync(artifact, 'utf8')).toBe('of a later time');
      expect(readdirSync(stateDir)).toContain('spool');
      expect(readdirSync(stateDir)).not.toContain(PARTIAL);
    }));
});
