/** A file of lines that does not grow without end: two of a bounded size, the present one and the
 *  one before it (`PATH.1`). Owner-only. */
import { appendFileSync, renameSync, statSync } from 'node:fs';

/** Appends, then the line is in the file, whole. Throws the system error as it is.
 *  @param text  one line or several, each with its end.
 *  @param bytesMax  a file that is larger is put aside first. */
export function appendBounded(path: string, text: string, bytesMax: number): void {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size > bytesMax) renameSync(path, `${path}.1`);
  appendFileSync(path, text, { mode: 0o600 });
}
