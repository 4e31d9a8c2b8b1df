import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Collects the garbage of the calling thread and gives back the pages that were emptied, which a
 *  plain collection keeps. Holds the thread for tens of milliseconds. The flag is set here and not
 *  at the start, where it would make the code cache void. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')({ type: 'major', flavor: 'last-resort' });
}
