/** Values as text, and text as a digest: the version of a policy, what an approval is bound to. */
import { createHash } from 'node:crypto';

export function toDigest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

/** The same text for the same value, in whatever order its keys were written. */
export function toCanonicalJson(value: unknown): string {
  const sorted = (_key: string, each: unknown): unknown =>
    typeof each === 'object' && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each;
  return JSON.stringify(value, sorted) ?? 'null';
}
