/** A line that carries an invariant, and what takes its place when we look whether a test notices.
 *  The lists beside this file are read by the runner (main.ts), by docs/guarantees.md, and by
 *  mutations.test.ts, which fails as soon as a line is not there any more. */
import { assert } from '../../base/assert.ts';

export interface Mutation {
  /** The number of the invariant, a point, a name. */
  readonly id: string;
  /** The line in words, as docs/guarantees.md has it: what is kept by it. */
  readonly line: string;
  /** From the root. */
  readonly file: string;
  /** Stands exactly once in the file. */
  readonly original: string;
  readonly replacement: string;
  readonly finder: Finder;
}

export type Finder =
  | {
      readonly kind: 'test';
      readonly file: string;
      /** As docs/guarantees.md would cite it: without what its requirement says. */
      readonly name: string;
    }
  | { readonly kind: 'simulation'; readonly runs: number };

export function invariantOf({ id }: Mutation): number {
  return Number.parseInt(id, 10);
}

export function countOriginals(text: string, { original }: Mutation): number {
  return text.split(original).length - 1;
}

export function mutate(text: string, mutation: Mutation): string {
  assert(countOriginals(text, mutation) === 1, `${mutation.id}: its line stands there once`);
  return text.replace(mutation.original, () => mutation.replacement);
}

/** What finds it, as docs/guarantees.md says it. */
export function describeFinder(finder: Finder): string {
  if (finder.kind === 'simulation') return `simulation, ${finder.runs} runs`;
  return `${finder.file}: ${finder.name}`;
}

export function byTest(file: string, name: string): Finder {
  return { kind: 'test', file: `test/${file}.test.ts`, name };
}

export function bySimulation(runs: number): Finder {
  return { kind: 'simulation', runs };
}
