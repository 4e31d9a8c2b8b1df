/** Whole outputs that were too long for a result: one file each, below their session's folder. */
import { constants, existsSync } from 'node:fs';
import { cp, lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { PrxError, systemCode } from '../base/errors.ts';
import type { SessionId } from '../protocol/ids.ts';

/** @returns its full path. @throws NOT_FOUND, also for a name that no artifact can have. */
export function findArtifact(stateDir: string, session: SessionId, artifactId: string): string {
  const path = join(stateDir, 'artifacts', session, artifactId);
  const isName = /^[A-Za-z0-9._-]{1,128}$/.test(artifactId) && !artifactId.startsWith('.');
  if (!isName || !existsSync(path)) {
    throw new PrxError('NOT_FOUND', `session ${session} has no artifact '${artifactId}'`);
  }
  return path;
}

/** A fork's own copy: the results that it took over name them, and the original may be removed.
 *  Sharing blocks where the file system can, never the files: turns of both have the same numbers,
 *  and so have their artifacts. Throws LIMIT_EXCEEDED when it does not fit. */
export async function copyArtifacts(
  stateDir: string,
  from: SessionId,
  to: SessionId,
): Promise<void> {
  const folder = join(stateDir, 'artifacts', from);
  if (!existsSync(folder)) return;
  try {
    await cp(folder, join(stateDir, 'artifacts', to), {
      recursive: true,
      preserveTimestamps: true,
      mode: constants.COPYFILE_FICLONE,
      // A host without isolation has pipes there while a command runs.
      filter: async (source) => !(await lstat(source)).isFIFO(),
    });
  } catch (cause) {
    const reason = systemCode(cause) ?? String(cause);
    const message = `the artifacts of ${from} could not be copied (${reason}); not forked`;
    throw new PrxError('LIMIT_EXCEEDED', message, { data: { session: from, reason }, cause });
  }
}
