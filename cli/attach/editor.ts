/** The input line: text, cursor, history. Pure; a whole grapheme is one step of the cursor. */
import { toGraphemes } from '../text/width.ts';
import type { Key } from './keys.ts';

export interface Editor {
  readonly graphemes: readonly string[];
  /** Graphemes left of the cursor. */
  readonly cursor: number;
  readonly history: readonly string[];
  /** Index into history; its length: the line being typed. */
  readonly historyAt: number;
  /** The line being typed, while an older one is shown. */
  readonly draft: string;
}

const HISTORY_MAX = 200;

export const emptyEditor: Editor = {
  graphemes: [],
  cursor: 0,
  history: [],
  historyAt: 0,
  draft: '',
};

export interface Edited {
  readonly editor: Editor;
  /** The whole text, when Enter was pressed on one. */
  readonly submitted: string | undefined;
}

export function textOf(editor: Editor): string {
  return editor.graphemes.join('');
}

export function withText(editor: Editor, text: string): Editor {
  const graphemes = toGraphemes(text);
  return { ...editor, graphemes, cursor: graphemes.length };
}

const kept = (editor: Editor): Edited => ({ editor, submitted: undefined });

export function editLine(editor: Editor, key: Key): Edited {
  switch (key.kind) {
    case 'text':
    case 'paste':
      return kept(insert(editor, key.text));
    case 'ctrl':
      return kept(editByControl(editor, key.letter));
    case 'named':
      return key.name === 'enter' ? submit(editor) : kept(editByName(editor, key.name));
  }
}

function insert(editor: Editor, text: string): Editor {
  const before = editor.graphemes.slice(0, editor.cursor).join('') + text;
  const after = editor.graphemes.slice(editor.cursor).join('');
  // Joined anew: a combining mark belongs to the character before the cursor.
  return { ...editor, graphemes: toGraphemes(before + after), cursor: toGraphemes(before).length };
}

function submit(editor: Editor): Edited {
  const text = textOf(editor);
  if (text.trim() === '') return kept(editor);
  const isRepeat = editor.history.at(-1) === text;
  const history = isRepeat ? editor.history : [...editor.history, text].slice(-HISTORY_MAX);
  return {
    editor: { graphemes: [], cursor: 0, history, historyAt: history.length, draft: '' },
    submitted: text,
  };
}

function editByName(editor: Editor, name: string): Editor {
  const { cursor, graphemes } = editor;
  switch (name) {
    case 'newline':
      return insert(editor, '\n');
    case 'tab':
      return insert(editor, '  ');
    case 'backspace':
      return remove(editor, cursor - 1, cursor);
    case 'delete':
      return remove(editor, cursor, cursor + 1);
    case 'left':
      return moveTo(editor, cursor - 1);
    case 'right':
      return moveTo(editor, cursor + 1);
    case 'home':
      return moveTo(editor, lineStart(editor));
    case 'end':
      return moveTo(editor, lineEnd(editor));
    case 'word-left':
      return moveTo(editor, wordLeft(graphemes, cursor));
    case 'word-right':
      return moveTo(editor, wordRight(graphemes, cursor));
    case 'delete-word':
      return remove(editor, wordLeft(graphemes, cursor), cursor);
    case 'up':
      return recall(editor, -1);
    case 'down':
      return recall(editor, 1);
    default:
      return editor;
  }
}

const CONTROL_NAMES: Readonly<Record<string, string>> = {
  a: 'home',
  b: 'left',
  d: 'delete',
  e: 'end',
  f: 'right',
  h: 'backspace',
  n: 'down',
  p: 'up',
  w: 'delete-word',
};

function editByControl(editor: Editor, letter: string): Editor {
  if (letter === 'k') return remove(editor, editor.cursor, lineEnd(editor));
  if (letter === 'u') return remove(editor, lineStart(editor), editor.cursor);
  const name = CONTROL_NAMES[letter];
  return name === undefined ? editor : editByName(editor, name);
}

function moveTo(editor: Editor, cursor: number): Editor {
  return { ...editor, cursor: Math.max(0, Math.min(editor.graphemes.length, cursor)) };
}

function remove(editor: Editor, from: number, to: number): Editor {
  const start = Math.max(0, from);
  const graphemes = [...editor.graphemes.slice(0, start), ...editor.graphemes.slice(to)];
  return { ...editor, graphemes, cursor: start };
}

function lineStart({ graphemes, cursor }: Editor): number {
  return graphemes.lastIndexOf('\n', cursor - 1) + 1 || 0;
}

function lineEnd({ graphemes, cursor }: Editor): number {
  const at = graphemes.indexOf('\n', cursor);
  return at < 0 ? graphemes.length : at;
}

function wordLeft(graphemes: readonly string[], cursor: number): number {
  let at = cursor;
  while (at > 0 && isBlank(graphemes[at - 1])) at -= 1;
  while (at > 0 && !isBlank(graphemes[at - 1])) at -= 1;
  return at;
}

function wordRight(graphemes: readonly string[], cursor: number): number {
  let at = cursor;
  while (at < graphemes.length && isBlank(graphemes[at])) at += 1;
  while (at < graphemes.length && !isBlank(graphemes[at])) at += 1;
  return at;
}

function isBlank(grapheme: string | undefined): boolean {
  return grapheme === undefined || /^\s$/.test(grapheme);
}

function recall(editor: Editor, by: number): Editor {
  const at = editor.historyAt + by;
  if (at < 0 || at > editor.history.length) return editor;
  const draft = editor.historyAt === editor.history.length ? textOf(editor) : editor.draft;
  const text = at === editor.history.length ? draft : (editor.history[at] ?? '');
  return { ...withText(editor, text), historyAt: at, draft };
}
