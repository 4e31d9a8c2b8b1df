/** The files of a journal that is open are where they were. Moved, removed or replaced by hand,
 *  they take what is written all the same; it would go with this process, and nobody would have
 *  been told. */
import { type BigIntStats, statSync } from 'node:fs';
import { basename } from 'node:path';
import { PrxError } from '../base/errors.ts';

/** @returns a check that throws STORE_DEGRADED while a file is not the one that was there at the
 *  call. */
export function watchPlaces(paths: readonly string[]): () => void {
  const known = paths.map((path) => ({ path, was: look(path) }));
  return () => {
    for (const { path, was } of known) {
      const is = look(path);
      if (is?.ino === was?.ino && is?.dev === was?.dev) continue;
      throw toMoved(path);
    }
  };
}

function look(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    // Whatever keeps us from it keeps the next start from it.
    return undefined;
  }
}

function toMoved(path: string): PrxError {
  const file = basename(path);
  const message =
    `${file} was moved, removed or replaced while it was open, so nothing more is written; put ` +
    'it back and it goes on by itself, or save what this supervisor still has of it with ' +
    '`prx-supervisor backup FILE` before you stop it';
  return new PrxError('STORE_DEGRADED', message, { data: { path, trouble: 'full' } });
}
