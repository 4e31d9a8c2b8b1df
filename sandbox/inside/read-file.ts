/** read_file: numbered lines of a text file, a page at a time, never more than the cap. */
import { closeSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import type { z } from 'zod';
import type { readFileArgumentsSchema } from '../../protocol/tools.ts';
import { ToolFailure, toToolFailure } from './failure.ts';
import { openRegular } from './open-file.ts';
import { resolvePath, toShownPath } from './paths.ts';
import type { FileContext, FileResult } from './result.ts';

const LINES_DEFAULT = 2000;
const LINE_CHARS_MAX = 4000;
/** Its number, and what is said where it is cut. */
const LINE_EXTRA_CHARS = 48;
/** Of one UTF-16 unit, in UTF-8. */
const CHAR_BYTES_MAX = 3;
const CHUNK_BYTES = 64 * 1024;
/** Nothing is read beyond it: what looks for a place in more than that is a command. */
const SCAN_BYTES_MAX = 256 * 1024 * 1024;
const BINARY_PROBE_BYTES = 8192;

export function readFile(
  args: z.infer<typeof readFileArgumentsSchema>,
  context: FileContext,
): FileResult {
  const absolute = resolvePath(context.workspace, args.path);
  const shown = toShownPath(context.workspace, absolute);
  const { fd, size } = openRegular(context.workspace, absolute);
  try {
    const first = args.offset ?? 1;
    const page = createPage({
      first,
      count: args.limit ?? LINES_DEFAULT,
      bytesMax: context.maxOutputBytes,
    });
    const scanned = scan(fd, shown, size, page);
    return page.finish(shown, scanned);
  } catch (error) {
    throw toToolFailure(error, 'read', shown);
  } finally {
    closeSync(fd);
  }
}

/** Feeds the file to the page. Returns false when it stopped before the end. */
function scan(fd: number, shown: string, size: number, page: Page): boolean {
  const decoder = new StringDecoder('utf8');
  const buffer = Buffer.alloc(CHUNK_BYTES);
  for (let done = 0; done < SCAN_BYTES_MAX; ) {
    const count = readSync(fd, buffer, 0, CHUNK_BYTES, null);
    if (count === 0) {
      page.push(decoder.end());
      return true;
    }
    const bytes = buffer.subarray(0, count);
    if (done === 0 && bytes.subarray(0, BINARY_PROBE_BYTES).includes(0)) {
      throw new ToolFailure(`${shown} is a binary file of ${size} bytes; use shell to look at it`);
    }
    done += count;
    page.push(decoder.write(bytes));
  }
  return false;
}

interface Page {
  push(text: string): void;
  finish(shown: string, complete: boolean): FileResult;
}

function createPage(limits: { first: number; count: number; bytesMax: number }): Page {
  const { first, count, bytesMax } = limits;
  // A page has at least one line, or nobody would get on.
  const fitting = Math.floor(bytesMax / CHAR_BYTES_MAX) - LINE_EXTRA_CHARS;
  const lineCharsMax = Math.max(1, Math.min(LINE_CHARS_MAX, fitting));
  const lines: string[] = [];
  let number = 1;
  let rest = '';
  let restChars = 0;
  let bytes = 0;
  let full = false;
  let damaged = false;

  function endLine(): void {
    const inPage = number >= first && number < first + count && !full;
    if (inPage) addLine();
    number += 1;
    rest = '';
    restChars = 0;
  }
  function addLine(): void {
    const cut = restChars > lineCharsMax ? ` [line cut: ${restChars} characters]` : '';
    const line = `${String(number).padStart(6)}\t${rest.replace(/\r$/, '')}${cut}`;
    bytes += Buffer.byteLength(line) + 1;
    full = bytes > bytesMax;
    if (!full) lines.push(line);
  }
  function extend(part: string): void {
    restChars += part.length;
    if (rest.length < lineCharsMax) rest = (rest + part).slice(0, lineCharsMax);
  }

  return {
    push(text) {
      damaged ||= text.includes('\ufffd');
      let start = 0;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', start)) {
        extend(text.slice(start, end));
        endLine();
        start = end + 1;
      }
      extend(text.slice(start));
    },
    finish(shown, complete) {
      // Where reading stopped is no end of a line, but a first one of that length is shown as cut.
      if (restChars > 0 && (complete || number === 1)) endLine();
      const total = number - 1;
      return toResult({ lines, first, total, complete, damaged, shown });
    },
  };
}

interface PageState {
  readonly lines: readonly string[];
  readonly first: number;
  readonly total: number;
  readonly complete: boolean;
  readonly damaged: boolean;
  readonly shown: string;
}

function toResult(page: PageState): FileResult {
  const { lines, first, total, complete, damaged, shown } = page;
  if (total === 0) return { status: 'ok', output: `(${shown} is empty)`, truncated: false };
  if (lines.length === 0 && first > total && !complete) {
    throw new ToolFailure(
      `${shown} has more than ${total} lines in its first ${SCAN_BYTES_MAX} bytes, and nothing ` +
        `behind those is read; see line ${first} with shell: tail -n +${first} | head`,
    );
  }
  if (lines.length === 0 && first > total) {
    throw new ToolFailure(`${shown} has ${total} lines; offset ${first} is beyond the end`);
  }
  const last = first + lines.length - 1;
  const more = last < total || !complete;
  const notes: string[] = [];
  if (more) {
    const of = complete ? `${total}` : `more than ${total}`;
    notes.push(`[lines ${first} to ${last} of ${of}; continue with offset ${last + 1}]`);
  }
  if (damaged) notes.push('[the file is not valid UTF-8; bytes that are not are shown as \ufffd]');
  return { status: 'ok', output: [...lines, ...notes].join('\n'), truncated: more };
}
