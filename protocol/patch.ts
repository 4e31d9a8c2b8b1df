/** What a patch says: the "*** Begin Patch" format that many models were taught, and unified diffs.
 *  Here because policy judges the paths that the sandbox then writes: both must read the same. */
import { parsePatch, type StructuredPatch } from 'diff';

/** A line of an update: as it is, goes, comes. */
export interface PatchLine {
  readonly mark: ' ' | '-' | '+';
  readonly text: string;
}

export interface PatchHunk {
  /** Lines that stand somewhere before it, outermost first: a class, a function. */
  readonly anchors: readonly string[];
  readonly lines: readonly PatchLine[];
  /** Its last line is the last of the file. */
  readonly isAtEnd: boolean;
}

export type FileChange =
  | {
      readonly kind: 'add';
      readonly path: string;
      readonly content: string;
      readonly isExecutable: boolean;
    }
  | {
      readonly kind: 'delete';
      readonly path: string;
      /** What the file holds; undefined: whatever it holds. */
      readonly diff: StructuredPatch | undefined;
    }
  | {
      readonly kind: 'update';
      readonly path: string;
      readonly moveTo: string | undefined;
      readonly hunks: readonly PatchHunk[];
    }
  | {
      readonly kind: 'diff';
      readonly path: string;
      readonly moveTo: string | undefined;
      readonly diff: StructuredPatch;
      /** Undefined: as it was. */
      readonly isExecutable: boolean | undefined;
    };

export type ParsedPatch =
  | { readonly kind: 'changes'; readonly changes: readonly FileChange[] }
  /** Why it is no patch, and what one looks like. */
  | { readonly kind: 'problem'; readonly problem: string };

const CHANGES_MAX = 500;
const BEGIN = '*** Begin Patch';
const END = '*** End Patch';
const HEADER = /^\*\*\* (Add|Delete|Update) File: (.+)$/;
const MOVE = /^\*\*\* Move to: (.+)$/;
const END_OF_FILE = '*** End of File';

class PatchProblem extends Error {}

export function readPatch(text: string): ParsedPatch {
  try {
    const lines = text.replaceAll('\r\n', '\n').split('\n');
    const begin = lines.findIndex((line) => line.trim() === BEGIN);
    const changes = begin < 0 ? readDiff(text) : readEnvelope(lines.slice(begin + 1));
    if (changes.length === 0) throw new PatchProblem('the patch changes no file');
    if (changes.length > CHANGES_MAX) {
      throw new PatchProblem(`the patch changes more than ${CHANGES_MAX} files; split it`);
    }
    return { kind: 'changes', changes };
  } catch (error) {
    if (error instanceof PatchProblem) return { kind: 'problem', problem: error.message };
    throw error;
  }
}

/** Every path that a patch may read or write; empty when it is no patch, and then nothing is. */
export function listPatchPaths(text: string): readonly string[] {
  const parsed = readPatch(text);
  if (parsed.kind === 'problem') return [];
  return parsed.changes.flatMap((change) =>
    'moveTo' in change && change.moveTo !== undefined
      ? [change.path, change.moveTo]
      : [change.path],
  );
}

function readEnvelope(lines: readonly string[]): FileChange[] {
  const end = lines.findIndex((line) => line.trim() === END);
  if (end < 0) throw new PatchProblem(`the patch has no line "${END}" at its end`);
  const body = lines.slice(0, end);
  const starts = body.flatMap((line, index) => (HEADER.test(line) ? [index] : []));
  if (starts[0] !== 0) {
    const found = body[0] ?? '';
    throw new PatchProblem(
      `behind "${BEGIN}" a line "*** Add File: ", "*** Delete File: " or "*** Update File: " with a path is expected, not ${JSON.stringify(found)}`,
    );
  }
  return starts.map((start, index) => readChange(body.slice(start, starts[index + 1])));
}

function readChange([header = '', ...lines]: readonly string[]): FileChange {
  const [, action, name = ''] = HEADER.exec(header) ?? [];
  const path = name.trim();
  if (action === 'Delete') {
    const more = lines.find((line) => line.trim() !== '');
    if (more === undefined) return { kind: 'delete', path, diff: undefined };
    throw new PatchProblem(
      `nothing may follow "*** Delete File: ${path}": ${JSON.stringify(more)}`,
    );
  }
  if (action === 'Add') {
    return { kind: 'add', path, content: readContent(path, lines), isExecutable: false };
  }
  const [, target] = MOVE.exec(lines[0] ?? '') ?? [];
  const hunks = readHunks(path, target === undefined ? lines : lines.slice(1));
  if (hunks.length === 0 && target === undefined) {
    throw new PatchProblem(`"*** Update File: ${path}" has no change behind it`);
  }
  return { kind: 'update', path, moveTo: target?.trim(), hunks };
}

function readContent(path: string, lines: readonly string[]): string {
  const own = lines.at(-1) === '' ? lines.slice(0, -1) : lines;
  const bad = own.find((line) => !line.startsWith('+'));
  if (bad !== undefined) {
    const found = JSON.stringify(bad);
    throw new PatchProblem(`each line of the new file ${path} begins with "+", not so ${found}`);
  }
  return own.map((line) => `${line.slice(1)}\n`).join('');
}

function readHunks(path: string, lines: readonly string[]): PatchHunk[] {
  const hunks: PatchHunk[] = [];
  let anchors: string[] = [];
  let own: PatchLine[] = [];
  let isAtEnd = false;
  const close = (): void => {
    if (own.some(({ mark }) => mark !== ' ')) hunks.push({ anchors, lines: own, isAtEnd });
    else if (own.length > 0) {
      throw new PatchProblem(`a change of ${path} has no line with "-" or "+"`);
    }
    if (own.length > 0) anchors = [];
    own = [];
    isAtEnd = false;
  };
  for (const [index, line] of lines.entries()) {
    const mark = line[0] ?? ' ';
    if (line.startsWith('@@')) {
      close();
      const anchor = line
        .slice(2)
        .trim()
        .replace(/^-\d+(,\d+)? \+\d+(,\d+)? @@ ?/, '');
      if (anchor !== '') anchors.push(anchor);
    } else if (line === END_OF_FILE) isAtEnd = true;
    else if (mark === ' ' || mark === '-' || mark === '+') {
      // The last line break of the patch is no empty line of the file.
      if (line !== '' || index < lines.length - 1) own.push({ mark, text: line.slice(1) });
    } else {
      throw new PatchProblem(
        `a line of a change of ${path} begins with " ", "-", "+" or "@@", this one does not: ${JSON.stringify(line)}`,
      );
    }
  }
  close();
  return hunks;
}

function readDiff(text: string): FileChange[] {
  let files: StructuredPatch[];
  try {
    files = parsePatch(text.endsWith('\n') ? text : `${text}\n`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new PatchProblem(`the patch is neither "${BEGIN} …" nor a unified diff: ${why}`);
  }
  // Git says more of a file than its lines; text around the diff says nothing.
  const own = files.filter((file) => file.hunks.length > 0 || file.isGit);
  if (own.length === 0) {
    throw new PatchProblem(
      `the patch is neither "${BEGIN} …" nor a unified diff with a hunk (@@ -line,count +line,count @@)`,
    );
  }
  return own.map(readFileDiff);
}

function readFileDiff(diff: StructuredPatch): FileChange {
  const { from, to } = readNames(diff);
  if (diff.isCopy) throw new PatchProblem(`copies are not supported: add ${to} as a new file`);
  refuseUnreadable(diff, to ?? from ?? '');
  if (to === undefined || diff.isDelete) {
    if (from !== undefined) return { kind: 'delete', path: from, diff };
    throw new PatchProblem('a file of the diff has no name: write --- a/path and +++ b/path');
  }
  const isExecutable = diff.newMode === undefined ? undefined : diff.newMode.endsWith('755');
  if (from !== undefined && !diff.isCreate) {
    const isMoved = diff.isRename === true && from !== to;
    const [path, moveTo] = isMoved ? [from, to] : [to, undefined];
    return { kind: 'diff', path, moveTo, diff, isExecutable };
  }
  const lines = diff.hunks.flatMap((hunk) => hunk.lines);
  const added = lines.filter((line) => line.startsWith('+')).map((line) => line.slice(1));
  const isOpen = lines.at(-1)?.startsWith('\\') === true;
  const end = isOpen || added.length === 0 ? '' : '\n';
  const content = added.join('\n') + end;
  return { kind: 'add', path: to, content, isExecutable: isExecutable ?? false };
}

/** What is not done must not be passed over: the others would be done without it. */
function refuseUnreadable(diff: StructuredPatch, path: string): void {
  const { hunks, isBinary, isCreate, isDelete, isRename, oldMode, newMode } = diff;
  if ([oldMode, newMode].some((mode) => mode !== undefined && !mode.startsWith('100'))) {
    throw new PatchProblem(`${path} is a link or a submodule in this diff; use shell for it`);
  }
  if (isBinary && !isDelete) {
    throw new PatchProblem(`the diff does not hold the bytes of the binary file ${path}`);
  }
  if (hunks.length > 0 || isCreate || isDelete || isRename || newMode !== undefined) return;
  throw new PatchProblem(`the diff says nothing of ${path} that could be done: it has no hunk`);
}

/** Undefined: no file on that side. Git's a/ and b/ are no folders, where both sides have them. */
function readNames(diff: StructuredPatch): { from: string | undefined; to: string | undefined } {
  const [from, to] = [diff.oldFileName, diff.newFileName].map((name) =>
    name === undefined || name === '/dev/null' || name === '' ? undefined : name,
  );
  const isPrefixed = (from?.startsWith('a/') ?? true) && (to?.startsWith('b/') ?? true);
  return isPrefixed ? { from: from?.slice(2), to: to?.slice(2) } : { from, to };
}
