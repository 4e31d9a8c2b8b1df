/** The extra pipes of a child, beyond its three standard streams. */
import { Duplex } from 'node:stream';
import { assert } from '../../base/assert.ts';
import type { QuickProcess } from '../../base/process.ts';

/** Our end of the child's descriptor `index`, which was started as a pipe. A reset of such a pipe
 *  says the same as its end, so errors are swallowed here. */
export function getPipe(quick: QuickProcess, index: number): Duplex {
  const all: readonly unknown[] = quick.child.stdio;
  const pipe = all[index];
  assert(pipe instanceof Duplex, `descriptor ${index} was started as a pipe`);
  return pipe.on('error', () => undefined);
}
