/** A journal whose files are taken away while it is open: nothing is taken for written that would
 *  go with this process. */
import { copyFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { checkBackup } from '../../store/backup-file.ts';
import { withStore } from './setup.ts';
import { created, renamed, sessionId } from './setup-events.ts';

test.each([
  ['journal.db', 'is moved'],
  ['journal.db-wal', 'is moved'],
  ['journal.db', 'is another'],
])(
  '%s %s: refused by name until it is back; what there is can be saved (regression)',
  async (name, how) => {
    const changes: (() => void)[] = [];
    const changed = (): Promise<void> => new Promise((resolve) => changes.push(resolve));
    const onDegraded = (): void => changes.shift()?.();
    await withStore(
      async (store, path) => {
        const [file, away, saved] = [name, 'away', 'saved'].map((each) => join(path, each)) as [
          string,
          string,
          string,
        ];
        await store.append({ events: [created(1)] });
        // Both who read have it open, as in a supervisor that serves.
        await Promise.all(Array.from({ length: 8 }, () => store.listSessions()));
        renameSync(file, away);
        if (how === 'is another') copyFileSync(away, file);
        const isDegraded = changed();
        await expect(store.append({ events: [renamed('lost')] })).rejects.toMatchObject({
          code: 'STORE_DEGRADED',
          message: expect.stringMatching(`^${name} was moved.*backup FILE`),
        });
        await isDegraded;
        const isWell = changed();
        expect((await store.readEvents(sessionId(1), { since: 0, limit: 9 })).last_seq).toBe(1);
        await store.backup(saved);
        expect(checkBackup(saved).manifest).toMatchObject({ sessions: 1, problems: [] });
        rmSync(file, { force: true });
        renameSync(away, file);
        await isWell;
        expect(store.health().degraded).toBeUndefined();
        await store.append({ events: [renamed('kept')] });
      },
      { onDegraded },
    );
  },
);
