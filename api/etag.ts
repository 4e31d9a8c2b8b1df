/** Entity tags of JSON answers. Made of the bytes, because a session's view has more in it than its
 *  journal (residency, pid, lag): a sequence number would call changed things equal. It saves the
 *  transfer and the client's work, not ours. */
import { createHash } from 'node:crypto';

const TAG_CHARS = 22;

export function toEtag(text: string): string {
  const hash = createHash('sha256').update(text).digest('base64url');
  return `"${hash.slice(0, TAG_CHARS)}"`;
}

/** Whether an If-None-Match header names it: `*`, or a list of tags, compared weakly (RFC 9110). */
export function isKnown(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  const tags = header.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return tags.includes('*') || tags.includes(etag);
}
