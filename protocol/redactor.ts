/** Takes secrets out of what passes: bytes in pieces, or whole texts. A value that is cut in two
 *  by the pieces is found all the same: what may be the beginning of one waits for the rest. */
import { digest, type Fingerprints, hashWindow, rollHash, WINDOW_BYTES } from './fingerprints.ts';

export interface Redactor {
  /** What can be passed on; the last few bytes may wait. */
  push(bytes: Buffer): Buffer;
  /** The rest. */
  end(): Buffer;
}

type Print = Fingerprints['prints'][number];

interface Tables {
  readonly of: Fingerprints;
  readonly byHead: ReadonlyMap<number, readonly Print[]>;
  readonly alphabet: ReadonlySet<number>;
}

/** Passes everything at once while there is nothing to look for.
 *  @param current  asked at each piece: a value may be set, or replaced, while a stream is open. */
export function createRedactor(current: () => Fingerprints): Redactor {
  let tables = toTables(current());
  let waiting: Buffer = Buffer.alloc(0);

  function read(bytes: Buffer, isLast: boolean): Buffer {
    const now = current();
    if (now !== tables.of) tables = toTables(now);
    if (waiting.length > 0) return scan(Buffer.concat([waiting, bytes]), isLast);
    return now.prints.length === 0 ? bytes : scan(bytes, isLast);
  }

  /** Reads on from the start of `bytes`; gives what is clean, keeps what may go on. */
  function scan(bytes: Buffer, isLast: boolean): Buffer {
    const out: Buffer[] = [];
    let from = 0;
    let at = 0;
    let hash = bytes.length >= WINDOW_BYTES ? hashWindow(bytes, 0) : 0;
    while (at + WINDOW_BYTES <= bytes.length) {
      const found = tables.byHead.get(hash)?.map((print) => match(print, bytes, at));
      // A longer one that may still come is waited for before a shorter one is taken.
      const best = found?.find((one) => one?.kind === 'whole' || (one !== undefined && !isLast));
      if (best?.kind === 'short') break;
      if (best !== undefined) {
        out.push(bytes.subarray(from, at), Buffer.from(`[secret ${best.print.name}]`));
        at += best.print.length;
        from = at;
        if (at + WINDOW_BYTES <= bytes.length) hash = hashWindow(bytes, at);
        continue;
      }
      hash = rollHash(hash, bytes[at] ?? 0, bytes[at + WINDOW_BYTES] ?? 0);
      at += 1;
    }
    const end = isLast ? bytes.length : findWaiting(bytes, Math.max(from, at));
    out.push(bytes.subarray(from, end));
    waiting = Buffer.from(bytes.subarray(end));
    return Buffer.concat(out);
  }

  /** From where on it may be the beginning of one: what was not looked at, back to the last byte
   *  that none of them has. */
  function findWaiting(bytes: Buffer, unseen: number): number {
    const isHeld = unseen + WINDOW_BYTES <= bytes.length;
    if (isHeld) return unseen;
    let start = bytes.length;
    while (start > unseen && tables.alphabet.has(bytes[start - 1] ?? -1)) start -= 1;
    return start;
  }

  function match(print: Print, bytes: Buffer, at: number) {
    if (at + print.length > bytes.length) return { kind: 'short', print } as const;
    const isIt = digest(bytes.subarray(at, at + print.length), tables.of.seed) === print.digest;
    return isIt ? ({ kind: 'whole', print } as const) : undefined;
  }

  return {
    push: (bytes) => read(bytes, false),
    end: () => read(Buffer.alloc(0), true),
  };
}

function toTables(fingerprints: Fingerprints): Tables {
  const { prints, alphabet } = fingerprints;
  return { of: fingerprints, byHead: groupByHead(prints), alphabet: new Set(alphabet) };
}

/** Longer ones first: one value may begin with another. */
function groupByHead(prints: readonly Print[]): ReadonlyMap<number, readonly Print[]> {
  const groups = new Map<number, Print[]>();
  for (const print of [...prints].sort((a, b) => b.length - a.length)) {
    const group = groups.get(print.head);
    if (group === undefined) groups.set(print.head, [print]);
    else group.push(print);
  }
  return groups;
}

/** A whole text at once. */
export function redactText(text: string, fingerprints: Fingerprints): string {
  if (fingerprints.prints.length === 0) return text;
  return redactBytes(Buffer.from(text), fingerprints).toString('utf8');
}

/** A whole file at once. */
export function redactBytes(bytes: Buffer, fingerprints: Fingerprints): Buffer {
  if (fingerprints.prints.length === 0 || bytes.length < WINDOW_BYTES) return bytes;
  const redactor = createRedactor(() => fingerprints);
  return Buffer.concat([redactor.push(bytes), redactor.end()]);
}

/** A text whose rest was cut away: what may be the beginning of a value goes as well. */
export function redactBeginning(text: string, fingerprints: Fingerprints): string {
  if (fingerprints.prints.length === 0) return text;
  return readBeginning(
    createRedactor(() => fingerprints),
    text,
  );
}

/** A text in which a mark stands wherever something was cut away.
 *  @param mark  with one group, which is all of it. */
export function redactAround(mark: RegExp, text: string, fingerprints: Fingerprints): string {
  const parts = text.split(mark);
  const last = parts.pop() ?? '';
  if (fingerprints.prints.length === 0 || parts.length === 0) return redactText(text, fingerprints);
  const redactor = createRedactor(() => fingerprints);
  const clean = parts.map((part, i) => (i % 2 === 0 ? readBeginning(redactor, part) : part));
  return clean.join('') + redactText(last, fingerprints);
}

function readBeginning(redactor: Redactor, text: string): string {
  const shown = redactor.push(Buffer.from(text));
  const rest = redactor.end();
  // What is shorter than a window waits in any case.
  return Buffer.concat(rest.length < WINDOW_BYTES ? [shown, rest] : [shown]).toString('utf8');
}
