/** Opens a file for reading without ever waiting on it: a pipe, a device or a folder is refused
 *  before the first byte. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { systemCode } from '../../base/errors.ts';
import { ToolFailure, toToolFailure } from './failure.ts';
import { toMissing, toShownPath } from './paths.ts';

export interface OpenFile {
  readonly fd: number;
  readonly size: number;
  readonly mode: number;
}

/** Throws ToolFailure. The caller closes it. */
export function openRegular(workspace: string, absolute: string): OpenFile {
  const shown = toShownPath(workspace, absolute);
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
  let fd: number;
  try {
    fd = openSync(absolute, flags);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw toMissing(workspace, absolute);
    throw toToolFailure(error, 'read', shown);
  }
  const stat = fstatSync(fd);
  if (stat.isFile()) return { fd, size: stat.size, mode: stat.mode & 0o7777 };
  closeSync(fd);
  if (stat.isDirectory()) throw new ToolFailure(`${shown} is a folder; use list_files`);
  throw new ToolFailure(`${shown} is a pipe, a socket or a device, not a file`);
}

/** Reads the whole file, refusing more than `bytesMax`. Throws ToolFailure. */
export function readWhole(workspace: string, absolute: string, bytesMax: number): Buffer {
  const { fd, size } = openRegular(workspace, absolute);
  try {
    const shown = toShownPath(workspace, absolute);
    if (size > bytesMax) {
      throw new ToolFailure(`${shown} has ${size} bytes; the limit is ${bytesMax}; use shell`);
    }
    const bytes = Buffer.alloc(size + 1);
    let filled = 0;
    for (;;) {
      const count = readSync(fd, bytes, filled, bytes.length - filled, null);
      if (count === 0) return bytes.subarray(0, filled);
      filled += count;
      if (filled === bytes.length) throw new ToolFailure(`${shown} grows while it is read`);
    }
  } finally {
    closeSync(fd);
  }
}

/** The text of a file that shall be changed: exact, or not at all. Throws ToolFailure. */
export function decodeExact(bytes: Buffer, shown: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // A lossy decode would change bytes that nobody asked to change.
    throw new ToolFailure(`${shown} is not UTF-8 text; use shell to change it`);
  }
}
