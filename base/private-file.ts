/** Files that only our own user may read: written whole or not at all, and not read when somebody
 *  else could have read or written them. */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { PrxError, systemCode } from './errors.ts';
import { makeFolder } from './make-folder.ts';

const OTHERS = 0o077;
const BYTES_MAX = 16 * 1024 * 1024;

/** The content, or undefined when there is no such file. Throws STATE_DIR_UNUSABLE when it is not
 *  ours alone; other system errors as they are. */
export function readPrivateFile(path: string): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { mode, uid, size } = fstatSync(fd);
    const isOurs = uid === process.getuid?.() || uid === 0;
    if (!isOurs || (mode & OTHERS) !== 0) {
      const seen = `mode ${(mode & 0o777).toString(8).padStart(4, '0')}, owner ${uid}`;
      const message = `${path} holds secrets and others can reach it (${seen}); chmod 600 it, as your own`;
      throw new PrxError('STATE_DIR_UNUSABLE', message);
    }
    if (size > BYTES_MAX) {
      throw new PrxError('STATE_DIR_UNUSABLE', `${path} has ${size} bytes; at most ${BYTES_MAX}`);
    }
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Replaces the file in one step, durable when it returns. Throws the system error as it is; the
 *  old content then stands. */
export function writePrivateFile(path: string, content: string | Buffer): void {
  const draft = `${path}.${process.pid}.draft`;
  makeFolder(dirname(path));
  rmSync(draft, { force: true });
  try {
    const fd = openSync(draft, 'wx', 0o600);
    try {
      writeFileSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(draft, path);
  } finally {
    rmSync(draft, { force: true });
  }
  syncFolder(dirname(path));
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
