/** Another program reads an old state of the journal for a long time. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, it } from '@jest/globals';
import { type Logger, silentLogger } from '../../base/logger.ts';
import type { Store } from '../../store/contract.ts';
import { withStore } from './setup.ts';
import { created, delta } from './setup-events.ts';

const MIB = 1024 * 1024;

it('holds the log: it is told once beyond 64 MiB, and the space comes back (FAULTS 58)', async () => {
  const told: string[] = [];
  let onTold = (_event: string): void => undefined;
  const tell = (event: string): void => {
    told.push(event);
    onTold(event);
  };
  const logger: Logger = { ...silentLogger, warn: tell, info: tell };
  const text = 'x'.repeat(4 * MIB);
  /** Writes until this is told; each write is enough for a checkpoint. */
  const writeUntil = async (store: Store, event: string): Promise<void> => {
    const wanted = new Promise<void>((resolve) => {
      onTold = (each) => {
        if (each === event) resolve();
      };
    });
    for (let count = 0; count < 60 && !told.includes(event); count += 1) {
      await store.append({ events: [delta(text)] });
    }
    await wanted;
  };
  await withStore(
    async (store, path) => {
      const log = join(path, 'journal.db-wal');
      await store.append({ events: [created()] });
      const reader = new DatabaseSync(join(path, 'journal.db'), { readOnly: true });
      reader.exec('BEGIN');
      reader.prepare('SELECT count(*) FROM events').get();
      await writeUntil(store, 'store.log_held');
      expect(statSync(log).size).toBeGreaterThan(64 * MIB);
      // Reading and writing go on meanwhile.
      await store.append({ events: [delta('on')] });
      reader.exec('COMMIT');
      reader.close();
      await writeUntil(store, 'store.log_free');
      while (statSync(log).size > 8 * MIB) await store.append({ events: [delta('on')] });
      expect(told).toEqual(['store.log_held', 'store.log_free']);
      expect((await store.verify()).problems).toEqual([]);
    },
    { logger },
  );
});
