/** Looks for texts in what a process holds: its environment, its command line, and every page that
 *  it can read. For root on Linux: no process of ours lets another user look. */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** Read at once; a text across the seam is found because the chunks overlap. */
const CHUNK_BYTES = 4 * 1024 * 1024;

/** Each text by its name. */
export type Canaries = Readonly<Record<string, string>>;

export interface Found {
  /** The names of those that it holds. */
  readonly names: readonly string[];
  /** What was looked through; nothing of one that has ended. */
  readonly bytes: number;
}

/** The forms in which a runtime or a library keeps a text. */
function toForms(text: string): readonly Buffer[] {
  const bytes = Buffer.from(text);
  const base64 = bytes.toString('base64');
  // Without its last signs, which depend on what stands behind it.
  const shortened = base64.slice(0, Math.floor(bytes.length / 3) * 4);
  return [
    bytes,
    Buffer.from(text, 'utf16le'),
    Buffer.from(bytes.toString('hex')),
    Buffer.from(shortened),
  ];
}

export function searchProcess(pid: number, canaries: Canaries): Found {
  const forms = Object.entries(canaries).map(([name, text]) => ({ name, forms: toForms(text) }));
  const overlap = Math.max(...forms.flatMap((each) => each.forms.map((form) => form.length)));
  const names = new Set<string>();
  let bytes = 0;
  const look = (part: Buffer): void => {
    bytes += part.length;
    for (const each of forms) {
      if (names.has(each.name)) continue;
      if (each.forms.some((form) => part.includes(form))) names.add(each.name);
    }
  };
  for (const file of ['environ', 'cmdline']) look(readFileSync(`/proc/${pid}/${file}`));
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES + overlap);
    for (const { from, to } of listReadable(pid)) {
      for (let at = from; at < to; at += CHUNK_BYTES) {
        const size = Math.min(chunk.length, to - at);
        look(chunk.subarray(0, readQuietly(memory, chunk, { at, size })));
      }
    }
  } finally {
    closeSync(memory);
  }
  return { names: [...names].sort(), bytes };
}

function listReadable(pid: number): readonly { readonly from: number; readonly to: number }[] {
  const lines = readFileSync(`/proc/${pid}/maps`, 'utf8').trim().split('\n');
  return lines
    .filter((line) => / r\S{3} /.test(line) && !/\[v(var|syscall)/.test(line))
    .map((line) => {
      const [from = '', to = ''] = line.slice(0, line.indexOf(' ')).split('-');
      return { from: Number.parseInt(from, 16), to: Number.parseInt(to, 16) };
    });
}

/** The bytes that were there: a mapped file may be shorter than its mapping. */
function readQuietly(
  file: number,
  into: Buffer,
  { at, size }: { readonly at: number; readonly size: number },
): number {
  let done = 0;
  while (done < size) {
    try {
      const got = readSync(file, into, done, size - done, at + done);
      if (got === 0) break;
      done += got;
    } catch {
      // Unmapped meanwhile, or behind the end of its file.
      break;
    }
  }
  return done;
}
