/** What a session has outside of the journal. Its private workspace is made before it and all goes
 *  behind it, so a death in between leaves folders without a session. A note is written first and
 *  taken back when both agree; what has a note and no session is swept. Nothing is ever removed
 *  without one: a session that a restore took out of the journal may be brought back. */
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { makeFolder } from '../../base/make-folder.ts';
import { removeTree } from '../../base/remove-tree.ts';
import { type SessionId, sessionIdSchema } from '../../protocol/ids.ts';
import type { Store } from '../../store/contract.ts';
import { toSessionLogDir } from '../session-log.ts';
import { privateWorkspacePath } from './workspace.ts';

export interface SessionFolders {
  /** Does what makes the session with its folders, or removes it, under a note. */
  settle<T>(session: SessionId, work: () => Promise<T>): Promise<T>;
  /** Of a session that is gone. Throws what the system says. */
  remove(session: SessionId): void;
  /** Ends what a death left half done. @returns what was removed, below the state dir. */
  sweep(): Promise<readonly string[]>;
}

const NOTES = 'unsettled';

export function createSessionFolders(
  stateDir: string,
  store: Pick<Store, 'getSession'>,
): SessionFolders {
  /** Being made or removed here: nobody else decides about them. */
  const held = new Set<SessionId>();
  const noteOf = (session: SessionId): string => join(stateDir, NOTES, session);
  const listPresent = (session: SessionId): readonly string[] =>
    listFolders(stateDir, session).filter((path) => existsSync(path));

  /** @returns what was there. */
  function removeAll(session: SessionId): readonly string[] {
    const present = listPresent(session);
    for (const path of present) removeTree(path);
    return present;
  }

  async function sweepOne(session: SessionId): Promise<readonly string[]> {
    try {
      const record = await store.getSession(session);
      if (held.has(session)) return [];
      const removed = record === undefined ? removeAll(session) : [];
      takeBack(noteOf(session));
      return removed.map((path) => relative(stateDir, path));
    } catch {
      // Damaged, or on a disk that takes no changes: the next sweep looks again.
      return [];
    }
  }

  return {
    async settle(session, work) {
      held.add(session);
      let isSettled = false;
      try {
        writeNote(noteOf(session));
        const result = await work();
        isSettled = true;
        return result;
      } finally {
        held.delete(session);
        // What is there still, of work that failed, is for the sweep to judge.
        if (isSettled || listPresent(session).length === 0) takeBack(noteOf(session));
      }
    },
    remove: (session) => void removeAll(session),
    async sweep() {
      const removed: string[] = [];
      for (const session of listNotes(join(stateDir, NOTES))) {
        if (!held.has(session)) removed.push(...(await sweepOne(session)));
      }
      return removed;
    },
  };
}

function listFolders(stateDir: string, session: SessionId): readonly string[] {
  return [
    privateWorkspacePath(stateDir, session),
    join(stateDir, 'artifacts', session),
    join(stateDir, 'spool', session),
    toSessionLogDir(stateDir, session),
  ];
}

function writeNote(path: string): void {
  try {
    makeFolder(dirname(path));
    writeFileSync(path, '', { mode: 0o600 });
  } catch {
    // A full disk must not keep a session from being removed: only a death right now leaves more.
  }
}

function takeBack(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The next sweep finds that both agree.
  }
}

function listNotes(folder: string): readonly SessionId[] {
  try {
    return readdirSync(folder).flatMap((name) => sessionIdSchema.safeParse(name).data ?? []);
  } catch {
    // There was never one.
    return [];
  }
}
