/** Before any test: dist/ is built from the sources as they are now, whoever started the tests. The
 *  tests of whole processes run what is there, and each store loads its threads from there: from
 *  their sources a thread takes twice the processor time, and most tests open a store. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

export default function build() {
  const program = join(import.meta.dirname, '../supervisor/setup.mjs');
  const { status } = spawnSync(process.execPath, [program], { stdio: 'inherit' });
  if (status !== 0) throw new Error('dist/ could not be built; what is wrong stands above');
}
