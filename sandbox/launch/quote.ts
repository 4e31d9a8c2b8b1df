/** A word as /bin/sh takes it literally, whatever it holds. NUL cannot be said and is dropped. */
export function quote(word: string): string {
  return `'${word.replaceAll('\0', '').replaceAll("'", `'\\''`)}'`;
}
