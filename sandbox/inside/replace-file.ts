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
  rmdirSync,
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

/** With a mode of its own where it does not keep that of the file it replaces. */
export type NewContent =
  | string
  | { readonly text: string | Buffer; readonly mode: number | undefined };

/** New content that lies beside its place. */
export interface StagedFile {
  /** Puts it in place. */
  commit(): void;
  /** Takes it away, with the folders that were made for it; nothing of what is in place. */
  abandon(): void;
}

/** Throws ToolFailure or the system's error. `suffix` makes the temporary name unique. */
export function replaceFile(path: string, content: NewContent, suffix: string): void {
  const staged = stageFile(path, content, suffix);
  try {
    staged.commit();
  } finally {
    staged.abandon();
  }
}

/** As replaceFile, up to the last step. */
export function stageFile(path: string, content: NewContent, suffix: string): StagedFile {
  if (path.endsWith('/')) throw new ToolFailure(`${path} names a folder; name a file in it`);
  const { text, mode } = typeof content === 'string' ? { text: content, mode: undefined } : content;
  const made = mkdirSync(dirname(path), { recursive: true });
  const target = followLink(path);
  const old = statSync(target, { throwIfNoEntry: false });
  if (old !== undefined && !old.isFile()) {
    const what = old.isDirectory() ? 'a folder' : 'a pipe, a socket or a device';
    throw new ToolFailure(`${path} is ${what}; it is not replaced by a file`);
  }
  const name = Buffer.from(basename(target)).subarray(0, NAME_BYTES_MAX).toString('latin1');
  const temporary = join(dirname(target), `.${name.replace(/[^\w.-]/g, '_')}.prx-${suffix}`);
  const abandon = (): void => {
    rmSync(temporary, { force: true });
    if (made !== undefined) removeEmpty(dirname(path), made);
  };
  // The file may be written though its folder may not: in place is then the only way.
  const writeInPlace = (error: unknown): void => {
    if (old === undefined || !isFolderClosed(error)) throw error;
    writeFileSync(target, text);
    chmodSync(target, (mode ?? old.mode) & MODE_KEPT);
  };
  try {
    writeTemporary(temporary, text, mode ?? old?.mode);
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

/** Folders from the inner one to the outer one, as far as nothing is in them. */
function removeEmpty(inner: string, outer: string): void {
  try {
    for (let folder = inner; folder.length >= outer.length; folder = dirname(folder)) {
      rmdirSync(folder);
    }
  } catch {
    // Something is in there, or it is gone.
  }
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
