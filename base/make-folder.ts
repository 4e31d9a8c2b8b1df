/** A folder and those above it that are missing. `mkdirSync` with `recursive` never returns where a
 *  folder that exists refuses with ENOENT, as /proc does (Node 26.10). */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from './errors.ts';

/** Owner-only unless told. What is there is left as it is, a file too; somebody else may make the
 *  same at the same time. Throws what the system says. */
export function makeFolder(path: string, mode = 0o700): void {
  try {
    makeOne(path, mode);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    makeFolder(dirname(path), mode);
    makeOne(path, mode);
  }
}

function makeOne(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
}
