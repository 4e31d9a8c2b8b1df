/** edit_file: an exact replacement or a unified diff. Nothing is written unless it fits exactly. */
import { parsePatch } from 'diff';
import type { z } from 'zod';
import type { Random } from '../../base/random.ts';
import type { editFileArgumentsSchema } from '../../protocol/tools.ts';
import { ToolFailure, toToolFailure } from './failure.ts';
import { fitDiff } from './fit-diff.ts';
import { decodeExact, readWhole } from './open-file.ts';
import { refuseGuarded, resolvePath, toShownPath } from './paths.ts';
import { replaceFile } from './replace-file.ts';
import { type FileContext, type FileResult, toOk } from './result.ts';

export type EditArguments = z.infer<typeof editFileArgumentsSchema>;

const EDIT_BYTES_MAX = 20 * 1024 * 1024;

export function editFile(
  args: EditArguments,
  context: FileContext & { readonly random: Random },
): FileResult {
  const absolute = resolvePath(context.workspace, args.path);
  const shown = toShownPath(context.workspace, absolute);
  refuseGuarded(context.workspace, absolute);
  const edit = chooseEdit(args);
  const old = decodeExact(readWhole(context.workspace, absolute, EDIT_BYTES_MAX), shown);
  const { text, summary } = edit(old, shown);
  if (text === old) throw new ToolFailure(`the edit changes nothing in ${shown}`);
  try {
    replaceFile(absolute, text, context.random.hex(4));
  } catch (error) {
    throw toToolFailure(error, 'write', shown);
  }
  return toOk(summary);
}

type Edit = (old: string, shown: string) => { readonly text: string; readonly summary: string };

function chooseEdit(args: EditArguments): Edit {
  const { old_text: oldText, new_text: newText, patch, replace_all: all } = args;
  if (patch !== undefined) {
    if (oldText !== undefined || newText !== undefined) {
      throw new ToolFailure('give either patch, or old_text and new_text, not both');
    }
    return (old, shown) => patchText(old, patch, shown);
  }
  if (oldText === undefined || newText === undefined) {
    throw new ToolFailure('give old_text and new_text, or patch');
  }
  return (old, shown) => replaceText(old, { oldText, newText, all: all ?? false }, shown);
}

export interface Replacement {
  readonly oldText: string;
  readonly newText: string;
  readonly all: boolean;
}

/** Replaces exact text. Pure. Throws ToolFailure when it does not occur as often as it must. */
export function replaceText(old: string, replacement: Replacement, shown: string) {
  const { oldText, newText, all } = fitLineEnds(old, replacement);
  const places = findPlaces(old, oldText);
  const [first] = places;
  if (first === undefined) throw notFound(old, oldText, shown);
  if (places.length > 1 && !all) {
    const lines = places.slice(0, 10).map((place) => toLineNumber(old, place));
    throw new ToolFailure(
      `old_text occurs ${places.length} times in ${shown} (lines ${lines.join(', ')}); ` +
        'add surrounding lines to make it unique, or set replace_all',
    );
  }
  const length = old.length + places.length * (newText.length - oldText.length);
  if (length > EDIT_BYTES_MAX) {
    throw new ToolFailure(
      `${shown} would have ${length} characters; the limit of an edit is ${EDIT_BYTES_MAX}; use shell`,
    );
  }
  const text = old.split(oldText).join(newText);
  const line = toLineNumber(old, first);
  const summary =
    places.length === 1
      ? `Replaced 1 occurrence in ${shown} at line ${line}.`
      : `Replaced ${places.length} occurrences in ${shown}, the first at line ${line}.`;
  return { text, summary };
}

/** A model writes LF; in a file of CRLF lines that means CRLF. Where a file has both, what stands
 *  there as it was written is taken as it is. */
function fitLineEnds(old: string, replacement: Replacement): Replacement {
  const { oldText, newText, all } = replacement;
  if (oldText.includes('\r') || !old.includes('\r\n')) return replacement;
  const isMixed = /(?<!\r)\n/.test(old);
  if (isMixed && old.includes(oldText)) return replacement;
  const toCrlf = (text: string): string => text.replaceAll(/\r?\n/g, '\r\n');
  return { oldText: toCrlf(oldText), newText: toCrlf(newText), all };
}

function findPlaces(text: string, wanted: string): number[] {
  const places: number[] = [];
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
    places.push(at);
  }
  return places;
}

function toLineNumber(text: string, place: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at >= 0 && at < place; at = text.indexOf('\n', at + 1)) {
    line += 1;
  }
  return line;
}

/** Says where the first line of the wanted text does stand, which is the usual mistake. */
function notFound(old: string, wanted: string, shown: string): ToolFailure {
  const head =
    wanted
      .split('\n')
      .find((line) => line.trim() !== '')
      ?.trim() ?? '';
  const near = head === '' ? -1 : old.indexOf(head);
  const hint =
    near < 0
      ? 'read the file again and copy the text exactly'
      : `its first line resembles line ${toLineNumber(old, near)}: compare indentation and the ` +
        'lines after it';
  return new ToolFailure(`old_text does not occur in ${shown}; ${hint}`);
}

/** Applies a unified diff of one file. Pure. Throws ToolFailure when it does not fit. */
export function patchText(old: string, patch: string, shown: string) {
  const files = parse(patch).filter((file) => file.hunks.length > 0);
  const [file] = files;
  if (file === undefined) {
    throw new ToolFailure(
      'the patch has no hunk: a hunk starts with @@ -line,count +line,count @@',
    );
  }
  if (files.length > 1) {
    throw new ToolFailure(`the patch changes ${files.length} files; give one call per file`);
  }
  const text = fitDiff(old, file);
  if (text === undefined) {
    throw new ToolFailure(
      `the patch does not fit ${shown}: its context or removed lines are not what the file has; ` +
        'read the file again, or use old_text and new_text',
    );
  }
  const count = file.hunks.length;
  return { text, summary: `Applied ${count} ${count === 1 ? 'hunk' : 'hunks'} to ${shown}.` };
}

function parse(patch: string) {
  try {
    return parsePatch(patch.endsWith('\n') ? patch : `${patch}\n`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ToolFailure(`the patch is not a unified diff: ${why}`);
  }
}
