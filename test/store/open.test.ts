import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import { migrate, migrations } from '../../store/schema.ts';
import { checkSqliteVersion, Database } from '../../store/sqlite.ts';
import { makeFolder, open, startFixture } from './setup.ts';
import { created } from './setup-events.ts';

const NOBODY = 65534;

describe('one state directory', () => {
  it('is held by one process: a second one is told who; after its death it is free (FAULTS 60)', async () => {
    const folder = makeFolder();
    const { program, line } = await startFixture('hold', folder.path);
    expect(await line).toBe('held\n');
    const holder = JSON.parse(readFileSync(join(folder.path, 'lock.json'), 'utf8')) as object;
    await expect(open(folder.path)).rejects.toMatchObject({
      code: 'ALREADY_RUNNING',
      message: expect.stringContaining(`process ${program.pid}, started 20`),
      data: { pid: program.pid, ...holder },
    });
    program.kill('SIGKILL');
    await program.exited;
    const store = await open(folder.path);
    await store.close();
    folder.remove();
  });

  it('is won by one of two that start at once, each time; the other writes nothing (FAULTS 60)', async () => {
    const folder = makeFolder();
    for (let round = 0; round < 3; round += 1) {
      const both = await Promise.all([1, 2].map(() => startFixture('hold', folder.path)));
      const lines = await Promise.all(both.map(({ line }) => line));
      const winners = lines.filter((line) => line === 'held\n');
      expect([winners.length, lines.join()]).toEqual([
        1,
        expect.stringContaining('ALREADY_RUNNING'),
      ]);
      for (const { program } of both) program.kill('SIGKILL');
      await Promise.all(both.map(({ program }) => program.exited));
    }
    const store = await open(folder.path);
    expect((await store.verify()).problems).toEqual([]);
    await store.close();
    folder.remove();
  });

  it('is held against a second opener in the same process, by whatever name', async () => {
    const folder = makeFolder();
    const real = join(folder.path, 'real');
    const alias = join(folder.path, 'alias');
    const store = await open(real);
    symlinkSync(real, alias);
    for (const path of [real, alias, `${real}/../real`]) {
      await expect(open(path)).rejects.toMatchObject({
        code: 'ALREADY_RUNNING',
        data: { pid: process.pid },
      });
    }
    await store.append({ events: [created()] });
    await Promise.all([store.close(), store.close()]);
    await expect(store.append({ events: [created()] })).rejects.toMatchObject({
      code: 'SHUTTING_DOWN',
    });
    await (await open(alias)).close();
    folder.remove();
  });

  it('is made private, with all that is in it', async () => {
    const folder = makeFolder();
    const path = join(folder.path, 'a', 'b');
    const store = await open(path);
    const modeOf = (name: string) => statSync(join(path, name)).mode & 0o777;
    expect([modeOf('.'), modeOf('journal.db'), modeOf('journal.db-wal')]).toEqual([
      0o700, 0o600, 0o600,
    ]);
    await store.close();
    folder.remove();
  });

  it('that cannot be used is refused with what to do', async () => {
    const folder = makeFolder();
    const file = join(folder.path, 'file');
    writeFileSync(file, '');
    for (const path of [file, join(file, 'below'), '/proc/prx']) {
      await expect(open(path)).rejects.toMatchObject({
        code: 'STATE_DIR_UNUSABLE',
        message: expect.stringMatching(/cannot be used \(E\w+\); .*--state-dir/),
      });
    }
    folder.remove();
  });

  it('that is read-only is refused', async () => {
    const folder = makeFolder();
    const path = join(folder.path, 'locked');
    mkdirSync(path);
    chmodSync(folder.path, 0o755);
    chmodSync(path, 0o555);
    // Root may write anywhere, so it is somebody else who tries.
    const { program, line } = await startFixture('hold', path, NOBODY);
    expect(await line).toMatch(
      /^STATE_DIR_UNUSABLE: .*\(EACCES\); give this user write permission/,
    );
    await program.exited;
    folder.remove();
  });
});

describe('the schema', () => {
  const withDatabase = (test: (db: Database) => void): void => {
    const folder = makeFolder();
    const db = new Database(join(folder.path, 'x.db'), { readOnly: false, busyTimeoutMs: 0 });
    test(db);
    db.close();
    folder.remove();
  };

  it('goes from any older version to the newest, each step once (FAULTS 59)', () =>
    withDatabase((db) => {
      migrate(db);
      migrate(db);
      const addColumn = (to: Database) => to.exec('ALTER TABLE meta ADD COLUMN extra TEXT');
      const newer = [...migrations, addColumn];
      migrate(db, newer);
      migrate(db, newer);
      expect(db.pragma('user_version')).toBe(String(migrations.length + 1));
    }));

  it('stays as it was when a step fails', () =>
    withDatabase((db) => {
      migrate(db);
      const fail = (to: Database): void => {
        to.exec('DROP TABLE meta');
        throw new Error('step failed');
      };
      expect(() => migrate(db, [...migrations, fail])).toThrow('step failed');
      expect(db.all('SELECT * FROM meta')).toEqual([]);
      expect(db.pragma('user_version')).toBe(String(migrations.length));
    }));

  it.each([
    ['a newer version', 'PRAGMA user_version = 99', /version 99.*knows versions up to 2.*newer/],
    ['another program', 'PRAGMA application_id = 7', /database of another program/],
  ])('of %s is refused (FAULTS 59)', async (_, sql, message) => {
    const folder = makeFolder();
    await (await open(folder.path)).close();
    const db = new DatabaseSync(join(folder.path, 'journal.db'));
    db.exec(sql);
    db.close();
    await expect(open(folder.path)).rejects.toMatchObject({
      code: 'STATE_DIR_UNUSABLE',
      message: expect.stringMatching(message),
    });
    folder.remove();
  });

  it('with tables but no mark is not ours', () =>
    withDatabase((db) => {
      db.exec('CREATE TABLE theirs (x)');
      expect(() => migrate(db)).toThrow('another program');
    }));
});

describe('the SQLite version', () => {
  it.each(['3.51.2', '3.50.9', '2.99.99', ''])('%p is refused', (version) => {
    expect(() => checkSqliteVersion(version)).toThrow('older than 3.51.3');
  });

  it.each(['3.51.3', '3.52.0', '4.0.0', undefined])('%p is taken', (version) => {
    expect(() => checkSqliteVersion(version)).not.toThrow();
  });
});
