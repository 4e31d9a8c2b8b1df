/** The prompt from standard input: whole, bounded, and valid UTF-8 or refused by name. */
import { PrxError } from '../base/errors.ts';
import type { Input } from './machine.ts';

/** The server's limit on an input's text, in characters; a byte is at most one of them. */
const PROMPT_CHARS_MAX = 8_000_000;
const PROMPT_BYTES_MAX = 4 * PROMPT_CHARS_MAX;

/** @throws INVALID_REQUEST for bytes that are no UTF-8 or none at all, PAYLOAD_TOO_LARGE. */
export async function readPrompt(stdin: Input): Promise<string> {
  const chunks: Buffer[] = [];
  let byteCount = 0;
  for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, 'utf8') : chunk;
    byteCount += bytes.length;
    if (byteCount > PROMPT_BYTES_MAX) throw tooLarge(byteCount, 'bytes');
    chunks.push(bytes);
  }
  const text = decode(Buffer.concat(chunks)).replace(/\r?\n$/, '');
  if (text.trim() === '') {
    throw new PrxError('INVALID_REQUEST', 'the prompt on standard input is empty');
  }
  return checkPrompt(text);
}

/** @throws INVALID_REQUEST without a word in it, PAYLOAD_TOO_LARGE beyond the limit. */
export function checkPrompt(text: string): string {
  if (text.trim() === '') {
    throw new PrxError('INVALID_REQUEST', 'the prompt is empty; say what to do');
  }
  if (text.length > PROMPT_CHARS_MAX) throw tooLarge(text.length, 'characters');
  return text;
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    const offset = findInvalidByte(bytes);
    const message =
      `standard input is not valid UTF-8: byte ${offset} (counted from 0) is not part of a ` +
      'character; convert it first, e.g. with iconv';
    throw new PrxError('INVALID_REQUEST', message, { data: { offset }, cause });
  }
}

/** Offset of the first byte that breaks the encoding: the longest valid head ends there. */
function findInvalidByte(bytes: Buffer): number {
  let offset = 0;
  for (const char of bytes.toString('utf8')) {
    const length = Buffer.byteLength(char, 'utf8');
    // A replacement character that the input does not itself contain marks the place.
    const isMark = char === '\ufffd';
    if (isMark && !bytes.subarray(offset, offset + 3).equals(Buffer.from('\ufffd'))) return offset;
    offset += length;
  }
  return offset;
}

function tooLarge(seen: number, unit: string): PrxError {
  const message =
    `the prompt has ${seen} ${unit} or more; the limit is ${PROMPT_CHARS_MAX} characters. ` +
    'Put it into a file of the workspace and name the file';
  return new PrxError('PAYLOAD_TOO_LARGE', message);
}
