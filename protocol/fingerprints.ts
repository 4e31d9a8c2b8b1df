/** Fingerprints of secrets: enough to find a value in a stream of bytes, also encoded, and not
 *  enough to know it. A rolling hash over a small window finds where one may begin, in one pass
 *  whatever their number; a keyed digest of the whole says whether it is one. */
import { createHmac } from 'node:crypto';
import { z } from 'zod';

export const fingerprintsSchema = z.object({
  /** Of this set; another set has another seed or another version. */
  seed: z.string(),
  /** Every byte that occurs in any of them, so that, say, a line end does not wait for the rest. */
  alphabet: z.array(z.number()),
  prints: z.array(
    z.object({
      name: z.string(),
      length: z.number(),
      /** Rolling hash of its first bytes. */
      head: z.number(),
      digest: z.string(),
    }),
  ),
});
export type Fingerprints = z.infer<typeof fingerprintsSchema>;

export const noFingerprints: Fingerprints = { seed: '', alphabet: [], prints: [] };

/** Shorter values are found in too much that is none; they are not looked for. */
export const WINDOW_BYTES = 8;

export interface NamedValue {
  readonly name: string;
  readonly value: Buffer;
}

/** @param seed  a new one each start; without it a digest says nothing about short values. */
export function toFingerprints(values: readonly NamedValue[], seed: string): Fingerprints {
  const forms = values.flatMap(({ name, value }) => toForms(value).map((form) => ({ name, form })));
  const prints = forms.map(({ name, form }) => {
    const head = hashWindow(form, 0);
    return { name, length: form.length, head, digest: digest(form, seed) };
  });
  const alphabet = new Set(forms.flatMap(({ form }) => [...new Set(form)]));
  return { seed, alphabet: [...alphabet].sort((a, b) => a - b), prints };
}

/** What is looked for when values are set, replaced or removed: one that was given away may still
 *  come back from a file or a process. The same object while nothing is added.
 *  @param next  of the same seed. @param formerMax  prints of former ones; more: the oldest go. */
export function addFingerprints(
  former: Fingerprints,
  next: Fingerprints,
  formerMax: number,
): Fingerprints {
  const digests = new Set(former.prints.map((print) => toKey(print)));
  if (next.prints.every((print) => digests.has(toKey(print)))) return former;
  const own = new Set(next.prints.map(({ digest: of }) => of));
  const kept = former.prints.filter(({ digest: of }) => !own.has(of)).slice(0, formerMax);
  const alphabet = [...new Set([...next.alphabet, ...former.alphabet])].sort((a, b) => a - b);
  return { seed: next.seed, alphabet, prints: [...next.prints, ...kept] };
}

function toKey({ name, digest: of }: Fingerprints['prints'][number]): string {
  return `${name} ${of}`;
}

/** As it is, and as it looks inside URLs, JSON, hex and base64. The start of a base64 text depends
 *  on what stands before the value, so there are three of it, each without the unsure ends. */
function toForms(value: Buffer): Buffer[] {
  const text = value.toString('utf8');
  const base64 = [0, 1, 2].map((shift) => toBase64Core(value, shift));
  const hex = value.toString('hex');
  const texts = [
    ...toUrlForms(text),
    ...toJsonForms(text),
    ...toOwnLines(text),
    ...[hex, hex.toUpperCase()],
    ...base64,
    ...base64.map((each) => each.replaceAll('+', '-').replaceAll('/', '_')),
    ...LINE_CHARS.flatMap((chars) => toLines(value.toString('base64'), chars)),
    ...toLines(hex, HEX_LINE_CHARS),
  ];
  const forms = new Set([value.toString('latin1'), ...texts.map(toLatin1)]);
  return [...forms]
    .map((form) => Buffer.from(form, 'latin1'))
    .filter((form) => form.length >= WINDOW_BYTES);
}

/** As languages differ in it: which marks stay, whether a slash and a blank are written out, and in
 *  which letters. */
function toUrlForms(text: string): string[] {
  const web = [encodeURIComponent(text), new URLSearchParams({ v: text }).toString().slice(2)];
  const strict = encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  const forms = [strict, strict.replaceAll('%2F', '/'), strict.replaceAll('%20', '+')];
  return [...web, ...forms].flatMap((form) => [
    form,
    form.replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()),
  ]);
}

/** What JSON does not ask for, some writers do: no sign beyond ASCII, no slash, none of HTML. */
function toJsonForms(text: string): string[] {
  const plain = JSON.stringify(text).slice(1, -1);
  const write = (form: string, signs: RegExp): string =>
    form.replaceAll(signs, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all but ASCII is what is meant.
  const ascii = write(plain, /[^\u0000-\u007f]/g);
  const html = write(plain, /[<>&]/g);
  return [plain, ascii, html, plain.replaceAll('/', '\\/'), ascii.replaceAll('/', '\\/')];
}

/** Programs break long texts: base64 of a value alone at 76 or 64 characters, its hex at 60. Where
 *  something stands before it, the breaks lie elsewhere, and are not looked for. */
const LINE_CHARS = [76, 64];
const HEX_LINE_CHARS = 60;

function toLines(text: string, chars: number): string[] {
  if (text.length <= chars) return [];
  return text.match(new RegExp(`.{1,${chars}}`, 'g')) ?? [];
}

/** What numbers lines, sets them in or marks them (read_file, search, a diff) shows a value of
 *  several of them line by line. Shorter ones are common words; a PEM's first and last are, too. */
const OWN_LINE_CHARS_MIN = 16;

function toOwnLines(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim());
  if (lines.length === 1) return [];
  return lines.filter((line) => line.length >= OWN_LINE_CHARS_MIN && !line.startsWith('-----'));
}

const toLatin1 = (text: string): string => Buffer.from(text).toString('latin1');

function toBase64Core(value: Buffer, shift: number): string {
  const whole = Buffer.concat([Buffer.alloc(shift), value]);
  const certainBits = Math.floor((whole.length * 8) / 6);
  const uncertain = [0, 2, 3][shift] ?? 0;
  return whole.toString('base64').slice(uncertain, certainBits);
}

const BASE = 0x01000193;
const BASE_TO_WINDOW = Array.from({ length: WINDOW_BYTES - 1 }).reduce<number>(
  (power) => Math.imul(power, BASE),
  1,
);

export function hashWindow(bytes: Uint8Array, at: number): number {
  let hash = 0;
  for (let i = at; i < at + WINDOW_BYTES; i += 1) hash = Math.imul(hash, BASE) + (bytes[i] ?? 0);
  return hash >>> 0;
}

/** The hash of the window one byte further. */
export function rollHash(hash: number, leaving: number, entering: number): number {
  const without = hash - Math.imul(leaving, BASE_TO_WINDOW);
  return (Math.imul(without, BASE) + entering) >>> 0;
}

export function digest(bytes: Uint8Array, seed: string): string {
  return createHmac('sha256', seed).update(bytes).digest('hex').slice(0, 32);
}
