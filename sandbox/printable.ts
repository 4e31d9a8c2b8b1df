/** What a program prints, as it may be shown: characters that steer a terminal, a log or a reader's
 *  eye are written out. Pure. */

// biome-ignore-start lint/suspicious/noControlCharactersInRegex: they are the subject here.
/** Controls of both sets but tab, newline and return; what reorders text. */
const STEERING =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
// biome-ignore-end lint/suspicious/noControlCharactersInRegex: from here on text is plain.

/** `\x1b` for an escape, `\u202e` for what turns the reading direction; all else as it is. */
export function toPrintable(text: string): string {
  return text.replace(STEERING, (character) => {
    const code = character.charCodeAt(0);
    const digits = code.toString(16);
    return code < 0x100 ? `\\x${digits.padStart(2, '0')}` : `\\u${digits.padStart(4, '0')}`;
  });
}
