/** Whole outputs that were too long for a result: one file each, below their session's folder. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PrxError } from '../base/errors.ts';
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
