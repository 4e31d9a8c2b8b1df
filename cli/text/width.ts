/** How wide text is on a terminal, and what of it may be shown there. Text from a model, a tool or
 *  a journal never reaches a terminal before `sanitize`: an escape sequence in it could move the
 *  cursor over an approval. Widths are of whole graphemes, so that no emoji is cut in half. */

// biome-ignore-start lint/suspicious/noControlCharactersInRegex: they are the subject here.
// Escape sequences (CSI, OSC … up to their end), then every other control character but tab and
// newline, then the characters that reorder text: what is read must be what is there.
const ESCAPES =
  /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -~]?)/g;
const CONTROLS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
/** A colour sequence of ours. */
const STYLES = /\u001b\[[0-9;]*m/g;
const STYLE_PARTS = /(\u001b\[[0-9;]*m)/;
// biome-ignore-end lint/suspicious/noControlCharactersInRegex: from here on text is plain.

const TAB = '    ';
const WIDE: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x33ff],
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xa000, 0xa4cf],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x1f300, 0x1f64f],
  [0x1f680, 0x1f6ff],
  [0x1f900, 0x1f9ff],
  [0x20000, 0x3fffd],
];

/** Text that is safe on a terminal: printable characters, newlines, and tabs as four blanks. */
export function sanitize(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .replace(ESCAPES, '')
    .replace(CONTROLS, '')
    .replaceAll('\t', TAB);
}

/** As `sanitize`, on one line: newlines become a visible mark. */
export function sanitizeLine(text: string): string {
  return sanitize(text).trimEnd().replaceAll('\n', ' ⏎ ');
}

/** ASCII needs no segmenter: the first one of a process costs 7 ms, later ones nothing. */
export function toGraphemes(text: string): string[] {
  if (/^[\n -~]*$/.test(text)) return text.split('');
  const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
  return Array.from(segmenter.segment(text), (part) => part.segment);
}

function graphemeWidth(grapheme: string): number {
  const code = grapheme.codePointAt(0) ?? 0;
  if (code < 0x300) return code < 0x20 ? 0 : 1;
  if (/^\p{Mark}|^\p{Default_Ignorable_Code_Point}/u.test(grapheme)) return 0;
  if (/\p{Emoji_Presentation}|\ufe0f/u.test(grapheme)) return 2;
  return WIDE.some(([from, to]) => code >= from && code <= to) ? 2 : 1;
}

/** Columns that `text` takes; colour sequences take none. */
export function widthOf(text: string): number {
  const bare = text.includes('\u001b') ? text.replace(STYLES, '') : text;
  if (/^[ -~]*$/.test(bare)) return bare.length;
  return toGraphemes(bare).reduce((sum, grapheme) => sum + graphemeWidth(grapheme), 0);
}

/** Cuts plain text to at most `columns`, with an ellipsis where something was cut. */
export function truncate(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  if (columns <= 0) return '';
  let width = 0;
  let kept = '';
  for (const grapheme of toGraphemes(text)) {
    const next = width + graphemeWidth(grapheme);
    if (next > columns - 1) break;
    width = next;
    kept += grapheme;
  }
  return `${kept}…`;
}

/** Cuts a line that may carry colour: never inside a sequence, and its colour ends with it. */
export function fitLine(line: string, columns: number): string {
  if (widthOf(line) <= columns) return line;
  if (!line.includes('\u001b')) return truncate(line, columns);
  return `${cutAt(line, columns - 1)}…\u001b[0m`;
}

export function padEnd(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - widthOf(text)));
}

export function padStart(text: string, columns: number): string {
  return ' '.repeat(Math.max(0, columns - widthOf(text))) + text;
}

/** Wraps one line (which may carry colour) at blanks, and inside a word only when it must. */
export function wrapLine(line: string, columns: number): string[] {
  if (columns <= 0 || widthOf(line) <= columns) return [line];
  const lines: string[] = [];
  let current = '';
  for (const word of line.split(/(?<= )/)) {
    if (widthOf(current + word.trimEnd()) <= columns) {
      current += word;
      continue;
    }
    if (current !== '') lines.push(current.trimEnd());
    current = word;
    while (widthOf(current.trimEnd()) > columns) {
      const head = cutAt(current, columns);
      lines.push(head);
      current = current.slice(head.length);
    }
  }
  if (current.trimEnd() !== '') lines.push(current.trimEnd());
  return lines;
}

/** As `wrapLine`; every row keeps the blanks that the line begins with. */
export function wrapIndented(line: string, columns: number): string[] {
  const indent = /^ */.exec(line)?.[0] ?? '';
  return wrapLine(line.slice(indent.length), columns - indent.length).map((row) => indent + row);
}

/** The longest head of `text` that fits; at least one grapheme, so that a loop over it ends. */
function cutAt(text: string, columns: number): string {
  let head = '';
  let width = 0;
  // A colour sequence is kept whole and takes no column.
  for (const part of text.split(STYLE_PARTS)) {
    if (part.startsWith('\u001b')) {
      head += part;
      continue;
    }
    for (const grapheme of toGraphemes(part)) {
      width += graphemeWidth(grapheme);
      if (width > columns && head !== '') return head;
      head += grapheme;
    }
  }
  return head;
}
