/** What was open in whoever started us. The runtime keeps the first of them from our children, up
 *  to 15 or the first gap behind; others would be open in every process that we start, and so in
 *  every tool: a folder of the host, the lock of a script (`exec 200>lock`), a secret. */
import { closeSync, readdirSync, readFileSync } from 'node:fs';

const OWN = '/proc/self/fd';
/** The standard streams are handed on by name. */
const FIRST = 3;
const O_CLOEXEC = 0o2000000;

/** Closes what a child would inherit, once. Not to be called before a file that was named by its
 *  descriptor (`--config <(…)`) was read. */
export function closeInherited(): void {
  for (const fd of listOpen()) {
    if (fd < FIRST || !isInherited(fd)) continue;
    try {
      closeSync(fd);
    } catch {
      // The one that listed them, which is closed by now.
    }
  }
}

function listOpen(): readonly number[] {
  try {
    return readdirSync(OWN).map(Number);
  } catch {
    // No /proc: then there is no sandbox either.
    return [];
  }
}

function isInherited(fd: number): boolean {
  try {
    const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`${OWN}info/${fd}`, 'utf8'))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & O_CLOEXEC) === 0;
  } catch {
    // Closed meanwhile.
    return false;
  }
}
