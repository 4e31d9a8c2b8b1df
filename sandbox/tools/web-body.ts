/** From the bytes of an answer to text: which types are text, in which charset, and no more bytes
 *  than were asked for, however small they were packed. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';

export type BodyKind = 'html' | 'text' | 'binary';

export interface ContentType {
  readonly kind: BodyKind;
  readonly name: string;
  readonly charset: string | undefined;
}

const TEXT_TYPES =
  /^(text\/|application\/(x-)?(json|xml|javascript|ecmascript|ndjson|yaml|toml|sh|sql|graphql)$)|[+](json|xml|yaml)$/;
const HTML_TYPES = ['text/html', 'application/xhtml+xml'];

/** What is said to be nothing in particular is taken for text; its bytes decide (`isBinary`). */
export function parseContentType(header: string | undefined): ContentType {
  const [name = '', ...parameters] = (header ?? '')
    .toLowerCase()
    .split(';')
    .map((x) => x.trim());
  const named = parameters.find((each) => each.startsWith('charset='));
  const charset = named?.slice('charset='.length).replaceAll('"', '');
  if (HTML_TYPES.includes(name)) return { kind: 'html', name, charset };
  const isText = name === '' || TEXT_TYPES.test(name);
  return { kind: isText ? 'text' : 'binary', name: name === '' ? 'no type' : name, charset };
}

export interface ReadBody {
  readonly bytes: Buffer;
  /** There was more. */
  readonly isCut: boolean;
}

/** Reads and unpacks at most `bytesMax`, then stops. Throws what stream or packing throw. */
export async function readBody(
  stream: Readable,
  headers: IncomingHttpHeaders,
  bytesMax: number,
): Promise<ReadBody> {
  const unpacked = unpack(stream, headers['content-encoding']);
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of unpacked) {
    const bytes = chunk as Buffer; // No encoding is set, so that chunks are bytes.
    chunks.push(bytes.subarray(0, bytesMax - length));
    length += bytes.length;
    if (length > bytesMax) break;
  }
  stream.destroy();
  return { bytes: Buffer.concat(chunks), isCut: length > bytesMax };
}

function unpack(stream: Readable, encoding: string | undefined): Readable {
  const unpacker = createUnpacker(encoding?.trim().toLowerCase());
  if (unpacker === undefined) return stream;
  stream.once('error', (error) => unpacker.destroy(error));
  return stream.pipe(unpacker);
}

function createUnpacker(encoding: string | undefined) {
  if (encoding === 'gzip' || encoding === 'x-gzip') return createGunzip();
  if (encoding === 'br') return createBrotliDecompress();
  return encoding === 'deflate' ? createInflate() : undefined;
}

/** A NUL in text is a picture, a program or an archive. UTF-16 says so itself. */
export function isBinary(bytes: Buffer, { charset }: ContentType): boolean {
  const hasMark = findMark(bytes) !== undefined;
  return !hasMark && !/^utf-?(16|32)/.test(charset ?? '') && bytes.subarray(0, 8192).includes(0);
}

/** The mark at the start wins over the header, the header over the page. */
export function decodeText(bytes: Buffer, type: ContentType): string {
  const label = findMark(bytes) ?? type.charset ?? findMeta(bytes, type) ?? 'utf-8';
  return createDecoder(label).decode(bytes);
}

function createDecoder(label: string): TextDecoder {
  try {
    return new TextDecoder(label);
  } catch {
    // A charset that nobody knows: most such pages are UTF-8 all the same.
    return new TextDecoder();
  }
}

function findMark(bytes: Buffer): string | undefined {
  if (bytes.subarray(0, 3).equals(Buffer.from([0xef, 0xbb, 0xbf]))) return 'utf-8';
  if (bytes.subarray(0, 2).equals(Buffer.from([0xff, 0xfe]))) return 'utf-16le';
  return bytes.subarray(0, 2).equals(Buffer.from([0xfe, 0xff])) ? 'utf-16be' : undefined;
}

function findMeta(bytes: Buffer, { kind }: ContentType): string | undefined {
  if (kind !== 'html') return undefined;
  const head = bytes.subarray(0, 1024).toString('latin1');
  return /<meta[^>]{0,200}charset\s*=\s*["']?([\w-]{1,40})/i.exec(head)?.[1];
}
