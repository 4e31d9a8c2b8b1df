/** Files with byte ranges (RFC 9110, section 14): one range is honoured, a list of ranges gets the
 *  whole file, one outside of the file gets 416. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { PrxError, systemCode } from '../base/errors.ts';
import { isKnown } from './etag.ts';
import { HttpError } from './problem.ts';

export interface FileAnswer {
  readonly status: 200 | 206 | 304;
  readonly headers: Readonly<Record<string, string>>;
  /** The file is closed when it ends or is destroyed. Absent: an answer without a body. */
  readonly stream: Readable | undefined;
}

export interface FileRequest {
  readonly headers: IncomingHttpHeaders;
  /** Ranges are GET's alone. */
  readonly isHead: boolean;
}

/** Opens a file for an answer. @throws NOT_FOUND, or a 416 for a range outside of the file. */
export async function openFile(
  { path, name }: { readonly path: string; readonly name: string },
  { headers: asked, isHead }: FileRequest,
): Promise<FileAnswer> {
  const file = await openRegular(path, name);
  let stream: Readable | undefined;
  try {
    const { size, mtimeMs } = await file.stat();
    const etag = `"${size.toString(16)}-${Math.trunc(mtimeMs).toString(16)}"`;
    if (isKnown(asked['if-none-match'], etag)) return { status: 304, headers: { etag }, stream };
    const isCurrent = asked['if-range'] === undefined || asked['if-range'] === etag;
    const range = isCurrent && !isHead ? parseRange(asked.range, size) : undefined;
    const { first, last } = range ?? { first: 0, last: size - 1 };
    // `end` is inclusive: an empty file has no last byte to name.
    if (!isHead) stream = file.createReadStream(size === 0 ? {} : { start: first, end: last });
    return {
      status: range === undefined ? 200 : 206,
      headers: {
        'accept-ranges': 'bytes',
        'content-disposition': `attachment; filename="${name}"`,
        'content-length': String(last - first + 1),
        'content-type': 'application/octet-stream',
        etag,
        ...(range === undefined ? {} : { 'content-range': `bytes ${first}-${last}/${size}` }),
      },
      stream,
    };
  } finally {
    if (stream === undefined) await file.close();
  }
}

async function openRegular(path: string, name: string): Promise<FileHandle> {
  const missing = (cause: unknown): PrxError =>
    new PrxError('NOT_FOUND', `the artifact '${name}' is not there`, { cause });
  let file: FileHandle;
  try {
    // Neither a link to elsewhere nor a pipe that would block the open.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    file = await open(path, flags);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ELOOP') throw missing(error);
    throw error;
  }
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw missing(undefined);
}

export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

/** The range a Range header asks of `size` bytes; undefined: the whole. Pure.
 *  @throws a 416 when it lies outside of the file. */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.replaceAll(' ', '') ?? '');
  const [, from = '', to = ''] = match ?? [];
  if (match === null || (from === '' && to === '')) return undefined;
  const first = from === '' ? Math.max(0, size - Number(to)) : Number(from);
  const last = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1);
  if (from !== '' && to !== '' && Number(to) < Number(from)) return undefined;
  if (first < size && first <= last) return { first, last };
  throw new HttpError(416, `the range '${header}' is outside of the file's ${size} bytes`, {
    headers: { 'content-range': `bytes */${size}` },
  });
}
