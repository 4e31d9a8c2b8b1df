/** Removes a folder that others filled: also where they closed parts of it to its owner, as a cache
 *  of modules that is made read-only. Root can remove such a folder, its owner cannot before it is
 *  opened. Never changes anything but folders of our own below the one that is named, and is not
 *  led out of it by a link. */
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  rmSync,
  type Stats,
} from 'node:fs';
import { systemCode } from './errors.ts';
import { RAW, toPathBytes, toRawPath } from './raw-path.ts';

const OWNER_MODE = 0o700;
const O_PATH = 0o10000000;
/** A folder that nobody may read can be passed so, and named under /proc. */
const PASSED = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Each level is a descriptor. What is closed below that many is left, and said as before. */
const DEPTH_MAX = 256;

/** Nothing there: nothing is done. Throws what the system says, as `rmSync`, of what lies with
 *  somebody else or on a disk that takes no changes. Takes time with its content, like `rmSync`. */
export function removeTree(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    if (systemCode(error) !== 'EACCES') throw error;
    openBelow(toRawPath(path), DEPTH_MAX);
    rmSync(path, { recursive: true, force: true });
  }
}

/** @param path  raw. */
function openBelow(path: string, depth: number): void {
  const fd = findFolder(toPathBytes(path));
  if (fd === undefined) return;
  try {
    const step = `/proc/self/fd/${fd}`;
    if (!isOpened(step, fstatSync(fd)) || depth === 0) return;
    for (const entry of readdirSync(step, { withFileTypes: true, encoding: RAW })) {
      if (entry.isDirectory()) openBelow(`${step}/${entry.name}`, depth - 1);
    }
  } finally {
    closeSync(fd);
  }
}

/** @returns false: somebody else's. */
function isOpened(step: string, { uid, mode }: Stats): boolean {
  if (uid !== process.getuid?.()) return false;
  if ((mode & OWNER_MODE) !== OWNER_MODE) chmodSync(step, (mode & 0o7777) | OWNER_MODE);
  return true;
}

function findFolder(path: Buffer): number | undefined {
  try {
    return openSync(path, PASSED);
  } catch {
    // Gone meanwhile, or no folder.
    return undefined;
  }
}
