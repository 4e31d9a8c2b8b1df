/** A file operation that cannot be done, in words for the model: what was wrong and what to do. */
import { systemCode } from '../../base/errors.ts';

export class ToolFailure extends Error {
  override readonly name = 'ToolFailure';
}

const sentences: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'it lies on a read-only part of the sandbox; write into the workspace',
  EISDIR: 'it is a folder',
  EEXIST: 'a part of the path is a file, not a folder',
  ENOTDIR: 'a part of the path is a file, not a folder',
  ENOSPC: 'no space is left on the disk',
  EDQUOT: 'the disk quota is used up',
  ELOOP: 'the path leads through too many symbolic links',
  ENAMETOOLONG: 'the name is too long',
  EBUSY: 'it is protected and cannot be replaced',
  ETXTBSY: 'it is a program that runs',
  EFBIG: 'the file would be larger than the limit',
  EMFILE: 'too many files are open',
  EIO: 'it cannot be read as a file',
  ENXIO: 'it is a pipe or a device that nobody serves',
};

/** A system error as a sentence about `path`; other errors pass unchanged. */
export function toToolFailure(error: unknown, action: string, path: string): unknown {
  const code = systemCode(error);
  if (code === undefined || error instanceof ToolFailure) return error;
  const sentence = sentences[code] ?? code;
  return new ToolFailure(`cannot ${action} ${path}: ${sentence}`);
}
