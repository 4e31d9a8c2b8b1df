/** Server-sent events from text chunks. Handles what our server writes (LF lines, one data line a
 *  frame) and what the standard allows besides (CRLF, several data lines, comments). A line is
 *  joined only once its end has arrived, so a large event in many chunks costs linear time. */
import { PrxError } from '../../base/errors.ts';

export interface SseFrame {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

/** Characters of one frame; the largest event is an input of 8 MB whose text JSON escapes. */
export const FRAME_CHARS_MAX = 64 * 1024 * 1024;

export interface SseParser {
  /** The frames that `chunk` completed. @throws FRAME_TOO_LARGE beyond FRAME_CHARS_MAX. */
  push(chunk: string): readonly SseFrame[];
}

export function createSseParser(): SseParser {
  let parts: string[] = [];
  let charCount = 0;
  let fields = emptyFields();
  const takeLine = (end: string): string => {
    const line = parts.length === 0 ? end : parts.join('') + end;
    parts = [];
    return line.endsWith('\r') ? line.slice(0, -1) : line;
  };
  const readLine = (line: string): SseFrame | undefined => {
    if (line !== '') {
      addField(fields, line);
      return undefined;
    }
    const done = fields;
    fields = emptyFields();
    charCount = 0;
    return done.data.length === 0 ? undefined : { ...done, data: done.data.join('\n') };
  };
  return {
    push(chunk) {
      charCount += chunk.length;
      if (charCount > FRAME_CHARS_MAX) throw tooLarge(charCount);
      const frames: SseFrame[] = [];
      let start = 0;
      for (let end = chunk.indexOf('\n'); end >= 0; end = chunk.indexOf('\n', start)) {
        const frame = readLine(takeLine(chunk.slice(start, end)));
        if (frame !== undefined) frames.push(frame);
        start = end + 1;
      }
      if (start < chunk.length) parts.push(chunk.slice(start));
      return frames;
    },
  };
}

interface Fields {
  id: string | undefined;
  event: string | undefined;
  data: string[];
}

function emptyFields(): Fields {
  return { id: undefined, event: undefined, data: [] };
}

function addField(fields: Fields, line: string): void {
  const colon = line.indexOf(':');
  if (colon === 0) return; // A comment: the heartbeat.
  const name = colon < 0 ? line : line.slice(0, colon);
  const rest = colon < 0 ? '' : line.slice(colon + 1);
  const value = rest.startsWith(' ') ? rest.slice(1) : rest;
  if (name === 'data') fields.data.push(value);
  else if (name === 'id') fields.id = value;
  else if (name === 'event') fields.event = value;
}

function tooLarge(charCount: number): PrxError {
  return new PrxError(
    'FRAME_TOO_LARGE',
    `an event of the stream is longer than ${FRAME_CHARS_MAX} characters (${charCount} so far)`,
  );
}
