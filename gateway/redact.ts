/** Keeps secrets out of what is said: the key itself wherever it occurs, and whatever has the
 *  form of a key or of a bearer header (a proxy may echo another one than ours). */

const KEY_FORMS = /\b(?:sk|rk|pk)-[\w-]{16,}|\bBearer\s+[^\s"',;]{4,}/gi;

/** `secrets`: values never to be shown; empty ones are ignored. */
export function redact(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret !== '') clean = clean.replaceAll(secret, '[redacted]');
  }
  return clean.replace(KEY_FORMS, '[redacted]');
}

/** Other people's words in a message of ours: one line, at most 500 characters. Redacted before: of
 *  a secret that the end cuts, the rest would not be known for one. */
export function toQuote(text: string, charsMax = 500): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length <= charsMax ? line : `${line.slice(0, charsMax)} …`;
}
