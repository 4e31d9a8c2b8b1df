/** What a model is shown of an output that may be endless: its head and its tail, half the cap
 *  each, with one sentence where something was cut. Holds at most the cap plus one chunk. */
import { assert } from '../base/assert.ts';

export interface Collector {
  add(text: string): void;
  /** Bytes that were neither head nor tail. */
  cutBytes(): number;
  /** The text; `sentence` stands where bytes were cut. */
  toText(sentence: string): string;
}

export function createCollector(capBytes: number): Collector {
  assert(capBytes >= 2, 'a cap leaves room for a head and a tail');
  const headMax = Math.ceil(capBytes / 2);
  const tailMax = capBytes - headMax;
  const head: Buffer[] = [];
  const tail: Buffer[] = [];
  let headBytes = 0;
  let tailBytes = 0;
  let cut = 0;

  function addTail(bytes: Buffer): void {
    tail.push(bytes);
    tailBytes += bytes.length;
    while (tailBytes > tailMax) {
      const [first] = tail;
      assert(first !== undefined, 'a tail with bytes has a chunk');
      const excess = Math.min(first.length, tailBytes - tailMax);
      // A copy, so that the few bytes that stay do not hold a big chunk.
      if (excess === first.length) tail.shift();
      else tail[0] = Buffer.from(first.subarray(excess));
      tailBytes -= excess;
      cut += excess;
    }
  }

  return {
    add(text) {
      const bytes = Buffer.from(text);
      const room = Math.min(bytes.length, headMax - headBytes);
      if (room > 0) head.push(Buffer.from(bytes.subarray(0, room)));
      headBytes += room;
      if (room < bytes.length) addTail(bytes.subarray(room));
    },
    cutBytes: () => cut,
    toText(sentence) {
      if (cut === 0) return Buffer.concat([...head, ...tail]).toString('utf8');
      const start = trimEnd(Buffer.concat(head)).toString('utf8');
      const end = trimStart(Buffer.concat(tail)).toString('utf8');
      return `${start}\n[${sentence}]\n${end}`;
    },
  };
}

/** Without the first bytes of a character whose rest was cut. */
function trimEnd(bytes: Buffer): Buffer {
  for (let back = 1; back <= Math.min(4, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte < 0x80) return bytes;
    if (byte >= 0xc0) return utf8Length(byte) === back ? bytes : bytes.subarray(0, -back);
  }
  return bytes;
}

/** Without the last bytes of a character whose start was cut. */
function trimStart(bytes: Buffer): Buffer {
  let start = 0;
  while (start < Math.min(3, bytes.length) && ((bytes[start] ?? 0) & 0xc0) === 0x80) start += 1;
  return bytes.subarray(start);
}

function utf8Length(lead: number): number {
  if (lead >= 0xf0) return 4;
  return lead >= 0xe0 ? 3 : 2;
}
