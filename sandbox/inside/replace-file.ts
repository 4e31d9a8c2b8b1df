/** Writes a whole file so that a reader sees the old one or the new one, never a part: a temporary
 *  file in the same folder, then a rename. A symbolic link stays one; its target is replaced. */
import {
  chmodSync,
  closeSync,
  fchmodSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import { ToolFailure } from './failure.ts';

/** Permission bits that a replaced file keeps; set-id bits never. */
const MODE_KEPT = 0o777;
const NAME_BYTES_MAX = 200;

/** New content that lies beside its place. */
export interface StagedFile {
  /** Puts it in place. */
  commit(): void;
  /** Takes it away; nothing when it was put in place. */
  abandon(): void;
}

/** Throws ToolFailure or the system's error. `suffix` makes the temporary name unique. */
export function replaceFile(path: string, content: string | Buffer, suffix: string): void {
  const staged = stageFile(path, content, suffix);
  try {
    staged.commit();
  } finally {
    staged.abandon();
  }
}

/** As replaceFile, up to the last step. */
export function stageFile(path: string, content: string | Buffer, suffix: string): StagedFile {
  mkdirSync(dirname(path), { recursive: true });
  const target = followLink(path);
  const old = statSync(target, { throwIfNoEntry: false });
  if (old !== undefined && !old.isFile()) {
    const what = old.isDirectory() ? 'a folder' : 'a pipe, a socket or a device';
    throw new ToolFailure(`${path} is ${what}; it is not replaced by a file`);
  }
  const name = Buffer.from(basename(target)).subarray(0, NAME_BYTES_MAX).toString('latin1');
  const temporary = join(dirname(target), `.${name.replace(/[^\w.-]/g, '_')}.prx-${suffix}`);
  const abandon = (): void => rmSync(temporary, { force: true });
  // The file may be written though its folder may not: in place is then the only way.
  const writeInPlace = (error: unknown): void => {
    if (old === undefined || !isFolderClosed(error)) throw error;
    writeFileSync(target, content);
    chmodSync(target, old.mode & MODE_KEPT);
  };
  try {
    writeTemporary(temporary, content, old?.mode);
  } catch (error) {
    abandon();
    if (old === undefined || !isFolderClosed(error)) throw error;
    return { commit: () => writeInPlace(error), abandon: () => undefined };
  }
  const commit = (): void => {
    try {
      renameSync(temporary, target);
    } catch (error) {
      abandon();
      writeInPlace(error);
    }
  };
  return { commit, abandon };
}

function writeTemporary(path: string, content: string | Buffer, mode: number | undefined): void {
  const fd = openSync(path, 'wx', 0o666);
  try {
    writeFileSync(fd, content);
    if (mode !== undefined) fchmodSync(fd, mode & MODE_KEPT);
  } finally {
    closeSync(fd);
  }
}

function isFolderClosed(error: unknown): boolean {
  return ['EACCES', 'EPERM', 'EROFS'].includes(systemCode(error) ?? '');
}

/** Where a link ends; a link that ends nowhere is replaced itself. */
function followLink(path: string): string {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat?.isSymbolicLink() !== true) return path;
  try {
    return realpathSync(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return path;
    throw error;
  }
}
