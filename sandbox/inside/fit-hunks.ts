/** Finds where the changes of a "*** Update File" belong, and makes them. Models copy context with
 *  small losses, so blanks at line ends, then all blanks around a line, may differ; lines that stay
 *  are always the file's own. Pure. */

import type { PatchHunk, PatchLine } from '../../protocol/patch.ts';
import { ToolFailure } from './failure.ts';
import { BYTE_ORDER_MARK } from './fit-diff.ts';

/** From strict to loose; the first that fits anywhere is used. */
const views: readonly ((line: string) => string)[] = [
  (line) => line,
  (line) => line.trimEnd(),
  (line) => line.trim(),
];
const SHOWN_LINES = 4;

interface Line {
  readonly text: string;
  /** As it stands in the file; empty: its last line has none. */
  readonly end: string;
}

/** The changed text. Throws ToolFailure naming the change that does not fit. */
export function fitHunks(old: string, hunks: readonly PatchHunk[], shown: string): string {
  const mark = old.startsWith(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK : '';
  const kept = splitLines(old.slice(mark.length));
  const lines = kept.map(({ text }) => text);
  const end = findUsualEnd(kept);
  const result: Line[] = [];
  let place = 0;
  for (const [index, hunk] of hunks.entries()) {
    const name = `change ${index + 1} of ${hunks.length} in ${shown}`;
    const from = findAnchors(lines, hunk.anchors, { place, name });
    const start = findStart(lines, hunk, { place: from, name });
    result.push(...kept.slice(place, start));
    place = start;
    for (const { mark: sign, text } of hunk.lines) {
      if (sign === '+') result.push({ text, end });
      else {
        if (sign === ' ') result.push(kept[place] ?? { text, end });
        place += 1;
      }
    }
  }
  result.push(...kept.slice(place));
  const isClosed = old === '' || old.endsWith('\n');
  const body = joinLines(result, { end, isClosed });
  return body === '' || body.startsWith(mark) ? body : mark + body;
}

function splitLines(text: string): Line[] {
  return text.split(/(?<=\n)/).flatMap((line) => {
    const [end = ''] = /\r?\n$/.exec(line) ?? [];
    return line === '' ? [] : [{ text: line.slice(0, line.length - end.length), end }];
  });
}

/** What new lines get. */
function findUsualEnd(lines: readonly Line[]): string {
  const count = lines.filter(({ end }) => end === '\r\n').length;
  return count * 2 > lines.filter(({ end }) => end !== '').length ? '\r\n' : '\n';
}

/** Each with its own end; the last one has one if the file's last one had. */
function joinLines(
  lines: readonly Line[],
  { end, isClosed }: { readonly end: string; readonly isClosed: boolean },
): string {
  return lines
    .map((line, index) => {
      const isOpen = index === lines.length - 1 && !isClosed;
      return isOpen ? line.text : line.text + (line.end || end);
    })
    .join('');
}

interface Search {
  readonly place: number;
  readonly name: string;
}

function findAnchors(lines: readonly string[], anchors: readonly string[], search: Search): number {
  let { place } = search;
  for (const anchor of anchors) {
    const found = findRun(lines, [anchor], place) ?? findHolding(lines, anchor, place);
    if (found === undefined) {
      throw new ToolFailure(
        `${search.name}: no line "${anchor}" (behind @@) stands there after line ${place}; ` +
          'read the file again, or leave the text behind @@ away',
      );
    }
    place = found + 1;
  }
  return place;
}

function findHolding(lines: readonly string[], anchor: string, from: number): number | undefined {
  const found = lines.findIndex((line, index) => index >= from && line.includes(anchor));
  return found < 0 ? undefined : found;
}

function findStart(lines: readonly string[], hunk: PatchHunk, search: Search): number {
  const wanted = hunk.lines.filter(({ mark }) => mark !== '+').map(({ text }) => text);
  // Nothing but new lines: behind the anchor, or at the end of the file.
  if (wanted.length === 0) {
    return hunk.anchors.length > 0 && !hunk.isAtEnd ? search.place : lines.length;
  }
  const atEnd = Math.max(search.place, lines.length - wanted.length);
  const found = findRun(lines, wanted, hunk.isAtEnd ? atEnd : search.place);
  if (found !== undefined) return found;
  throw new ToolFailure(`${search.name} does not fit: ${explain(lines, hunk.lines, wanted)}`);
}

function findRun(
  lines: readonly string[],
  wanted: readonly string[],
  from: number,
): number | undefined {
  for (const view of views) {
    const asked = wanted.map(view);
    for (let start = from; start + asked.length <= lines.length; start += 1) {
      if (asked.every((line, index) => view(lines[start + index] ?? '') === line)) return start;
    }
  }
  return undefined;
}

function explain(
  lines: readonly string[],
  hunk: readonly PatchLine[],
  wanted: readonly string[],
): string {
  const head = hunk.filter(({ mark }) => mark !== '+').slice(0, SHOWN_LINES);
  const quoted = head.map(({ mark, text }) => `${mark}${text}`).join('\n');
  const first = wanted.find((line) => line.trim() !== '') ?? '';
  const near = findRun(lines, [first], 0);
  const hint =
    near === undefined
      ? 'its first line is nowhere in the file'
      : `its first line resembles line ${near + 1}, what follows differs or stands before the change ahead of it`;
  return `the file does not have these lines in this order:\n${quoted}\n${hint}. Read the file again and copy the lines exactly; changes stand in the order of the file.`;
}
