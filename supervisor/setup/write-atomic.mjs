import { chmodSync, renameSync, writeFileSync } from 'node:fs';

/** Writes a file whole or not at all: a process that starts meanwhile reads the old or the new one. */
export function writeAtomic(path, content) {
  const partial = `${path}.${process.pid}.partial`;
  writeFileSync(partial, content);
  // Programs are everybody's to read, whatever umask the one that was run here has set.
  chmodSync(partial, 0o644);
  renameSync(partial, path);
}
