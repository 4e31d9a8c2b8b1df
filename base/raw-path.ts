/** Paths as the kernel has them: bytes, of which a name may hold any but two. A raw path is a
 *  string with one character for each byte: it is joined, split and compared as any other, and
 *  never loses what is no UTF-8. Who reads names as text instead asks for a file that is not there,
 *  so that what lies behind such a name is not seen. */

/** The encoding to read raw names with. */
export const RAW = 'latin1';

/** For calls of the file system. */
export function toPathBytes(raw: string): Buffer {
  return Buffer.from(raw, RAW);
}

export function toRawPath(path: string): string {
  return Buffer.from(path).toString(RAW);
}

/** For people; not a name to ask for. */
export function toShownPath(raw: string): string {
  return toPathBytes(raw).toString();
}
