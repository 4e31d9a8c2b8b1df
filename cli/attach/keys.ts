/** Bytes of a raw terminal to keys. Pure: what is left of an unfinished sequence or paste is kept
 *  in the state, so that a split read changes nothing. */

export type Key =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'paste'; readonly text: string }
  /** enter, escape, backspace, delete, up, down, left, right, home, end, tab, word-left … */
  | { readonly kind: 'named'; readonly name: KeyName }
  | { readonly kind: 'ctrl'; readonly letter: string };

export type KeyName =
  | 'enter'
  | 'newline'
  | 'escape'
  | 'backspace'
  | 'delete'
  | 'up'
  | 'down'
  | 'left'
  | 'right'
  | 'home'
  | 'end'
  | 'tab'
  | 'word-left'
  | 'word-right'
  | 'delete-word';

export interface KeyState {
  readonly rest: string;
  /** Text of a bracketed paste whose end has not come yet. */
  readonly paste: string | undefined;
}

export const initialKeyState: KeyState = { rest: '', paste: undefined };

const PASTE_START = '\u001b[200~';
const PASTE_END = '\u001b[201~';
/** A paste beyond this is cut: an input has the same limit. */
const PASTE_CHARS_MAX = 8_000_000;

const SEQUENCES: Readonly<Record<string, KeyName>> = {
  '\u001b[A': 'up',
  '\u001b[B': 'down',
  '\u001b[C': 'right',
  '\u001b[D': 'left',
  '\u001bOA': 'up',
  '\u001bOB': 'down',
  '\u001bOC': 'right',
  '\u001bOD': 'left',
  '\u001b[H': 'home',
  '\u001b[F': 'end',
  '\u001bOH': 'home',
  '\u001bOF': 'end',
  '\u001b[1~': 'home',
  '\u001b[4~': 'end',
  '\u001b[7~': 'home',
  '\u001b[8~': 'end',
  '\u001b[3~': 'delete',
  '\u001b[1;5C': 'word-right',
  '\u001b[1;5D': 'word-left',
  '\u001b[1;3C': 'word-right',
  '\u001b[1;3D': 'word-left',
  '\u001bb': 'word-left',
  '\u001bf': 'word-right',
  '\u001b\r': 'newline',
  '\u001b\n': 'newline',
  '\u001b\u007f': 'delete-word',
  '\r': 'enter',
  '\n': 'newline',
  '\t': 'tab',
  '\u007f': 'backspace',
  '\b': 'backspace',
};

// biome-ignore lint/suspicious/noControlCharactersInRegex: terminal input is control characters.
const WHOLE_SEQUENCE = /^\u001b(?:\[[0-?]*[ -/]*[@-~]|O[A-Za-z]|[^[O])/;

export interface ParsedKeys {
  readonly state: KeyState;
  readonly keys: readonly Key[];
}

/** @param chunk  decoded text: a character is never split between two chunks. */
export function parseKeys(state: KeyState, chunk: string): ParsedKeys {
  let input = state.rest + chunk;
  let paste = state.paste;
  const keys: Key[] = [];
  while (input !== '') {
    if (paste !== undefined) {
      const end = input.indexOf(PASTE_END);
      const kept = end < 0 ? cutBeforePartial(input, PASTE_END) : end;
      paste = (paste + input.slice(0, kept)).slice(0, PASTE_CHARS_MAX);
      if (end < 0) return { state: { rest: input.slice(kept), paste }, keys };
      keys.push({ kind: 'paste', text: paste.replace(/\r\n?/g, '\n') });
      paste = undefined;
      input = input.slice(end + PASTE_END.length);
      continue;
    }
    if (input.startsWith(PASTE_START)) {
      paste = '';
      input = input.slice(PASTE_START.length);
      continue;
    }
    const { key, length } = readKey(input);
    if (length === 0) return { state: { rest: input, paste }, keys };
    if (key !== undefined) keys.push(key);
    input = input.slice(length);
  }
  return { state: { rest: '', paste }, keys };
}

/** Where a tail begins that may be the start of `mark`; the length when there is none. */
function cutBeforePartial(text: string, mark: string): number {
  for (let length = Math.min(mark.length - 1, text.length); length > 0; length -= 1) {
    if (text.endsWith(mark.slice(0, length))) return text.length - length;
  }
  return text.length;
}

interface ReadKey {
  /** Absent: a sequence that means nothing here. */
  readonly key: Key | undefined;
  /** 0: more input is needed. */
  readonly length: number;
}

function readKey(input: string): ReadKey {
  const first = input[0] ?? '';
  if (first === '\u001b') return readEscape(input);
  const name = SEQUENCES[first];
  if (name !== undefined) return { key: { kind: 'named', name }, length: 1 };
  if (first < ' ') {
    const letter = String.fromCharCode(first.charCodeAt(0) + 96);
    return { key: { kind: 'ctrl', letter }, length: 1 };
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: text ends where a control begins.
  const text = /^[^\u0000-\u001f\u007f]+/.exec(input)?.[0] ?? first;
  return { key: { kind: 'text', text }, length: text.length };
}

function readEscape(input: string): ReadKey {
  const sequence = WHOLE_SEQUENCE.exec(input)?.[0];
  if (sequence === undefined) {
    // The Escape key alone arrives alone; the start of a sequence has more behind it.
    if (input.length === 1) return { key: { kind: 'named', name: 'escape' }, length: 1 };
    return { key: undefined, length: 0 };
  }
  const name = SEQUENCES[sequence];
  return {
    key: name === undefined ? undefined : { kind: 'named', name },
    length: sequence.length,
  };
}

/** Detach keys as docker writes them: `ctrl-p,ctrl-q`. Undefined when it is none. */
export function parseDetachKeys(text: string): readonly string[] | undefined {
  const parts = text.toLowerCase().split(',');
  const ids = parts.map((part) => {
    const ctrl = /^ctrl-([a-z])$/.exec(part)?.[1];
    if (ctrl !== undefined) return `ctrl-${ctrl}`;
    return part.length === 1 ? part : undefined;
  });
  const isWhole = ids.every((id) => id !== undefined);
  // A plain letter first would make it impossible to type.
  return isWhole && ids[0]?.startsWith('ctrl-') ? ids : undefined;
}

export const DETACH_DEFAULT: readonly (readonly string[])[] = [
  ['ctrl-p', 'ctrl-q'],
  ['ctrl-b', 'd'],
];

/** How a key is called in a detach sequence. */
function toKeyId(key: Key): string | undefined {
  if (key.kind === 'ctrl') return `ctrl-${key.letter}`;
  return key.kind === 'text' ? key.text : undefined;
}

export interface DetachMatch {
  /** The keys pressed so far that begin a sequence. */
  readonly pressed: readonly string[];
  readonly isDetach: boolean;
}

/** @param pressed  what DetachMatch gave before. */
export function matchDetach(
  sequences: readonly (readonly string[])[],
  pressed: readonly string[],
  key: Key,
): DetachMatch {
  const id = toKeyId(key);
  if (id === undefined) return { pressed: [], isDetach: false };
  for (const tried of [[...pressed, id], [id]]) {
    const begun = sequences.filter((one) => tried.every((part, index) => one[index] === part));
    if (begun.some((one) => one.length === tried.length)) return { pressed: [], isDetach: true };
    if (begun.length > 0) return { pressed: tried, isDetach: false };
  }
  return { pressed: [], isDetach: false };
}
