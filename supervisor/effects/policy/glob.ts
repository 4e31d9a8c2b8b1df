/** Patterns with `*`, `?`, `**` and `{a,b}`, compared in time pattern × text whatever they hold:
 *  the text is the model's, and a regular expression could be made to take for ever. Names that
 *  begin with a dot are names like others; a rule that overlooked them would fail open. Pure. */

type Token =
  | { readonly kind: 'char'; readonly char: string }
  /** `?`, and `*`: within one folder of a path. */
  | { readonly kind: 'one' | 'star' }
  /** `**`: across folders; and a `**` with its slash: any folders, also none. */
  | { readonly kind: 'all' | 'folders' };

/** What one pattern may be written out to. */
const ALTERNATIVES_MAX = 64;

/** A path: `*` and `?` stay within a folder. */
export function matchesPath(pattern: string, path: string): boolean {
  return matches(pattern, path, '/');
}

/** A name or a word: they cross everything. */
export function matchesName(pattern: string, name: string): boolean {
  return matches(pattern, name, undefined);
}

/** The patterns that `{a,b}` stands for; undefined: more than we take, or a brace without its
 *  other. */
export function expandBraces(pattern: string): readonly string[] | undefined {
  let open = [pattern];
  const done: string[] = [];
  while (open.length > 0) {
    if (open.length + done.length > ALTERNATIVES_MAX) return undefined;
    open = open.flatMap((each) => {
      // The innermost first, so that one inside another is no special case.
      const [group, inner] = /\{([^{}]*)\}/.exec(each) ?? [];
      if (group === undefined || inner === undefined) {
        done.push(each);
        return [];
      }
      return inner.split(',').map((choice) => each.replace(group, () => choice));
    });
  }
  return done.some((each) => /[{}]/.test(each)) ? undefined : done;
}

function matches(pattern: string, text: string, separator: string | undefined): boolean {
  const alternatives = expandBraces(pattern) ?? [];
  return alternatives.some((each) => run(toTokens(each), text, separator));
}

function toTokens(pattern: string): readonly Token[] {
  return [...pattern.matchAll(/\*\*\/|\*\*|[\s\S]/gu)].map(([piece]): Token => {
    if (piece === '**/') return { kind: 'folders' };
    if (piece === '**') return { kind: 'all' };
    if (piece === '*') return { kind: 'star' };
    return piece === '?' ? { kind: 'one' } : { kind: 'char', char: piece };
  });
}

/** All places in the pattern at once, a character of the text after the other. */
function run(tokens: readonly Token[], text: string, separator: string | undefined): boolean {
  let places = new Set<number>();
  const enter = (into: Set<number>, place: number): void => {
    for (let at = place; !into.has(at); at += 1) {
      into.add(at);
      const kind = tokens[at]?.kind;
      // These may also stand for nothing.
      if (kind !== 'star' && kind !== 'all' && kind !== 'folders') return;
    }
  };
  enter(places, 0);
  for (const char of text) {
    const next = new Set<number>();
    for (const place of places) step(next, place, char);
    places = next;
    if (places.size === 0) return false;
  }
  return places.has(tokens.length);

  function step(next: Set<number>, place: number, char: string): void {
    const token = tokens[place];
    switch (token?.kind) {
      case undefined:
        return;
      case 'char':
        if (token.char === char) enter(next, place + 1);
        return;
      case 'one':
        if (char !== separator) enter(next, place + 1);
        return;
      case 'star':
        if (char !== separator) enter(next, place);
        return;
      case 'all':
        enter(next, place);
        return;
      case 'folders':
        next.add(place);
        if (char === '/') enter(next, place + 1);
    }
  }
}
