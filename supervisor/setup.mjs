/**
 * Makes a clone ready to run: packages (the pinned Node among them), what they need of the system,
 * dist/. Started by npm before `npm start`, `npm test` and `npm pack`; with nothing to do it costs
 * about 50 ms.
 *
 * Runs under any Node from 20 on and without a dependency, because it is what installs them. Two at
 * once are safe: one works, the other waits and finds it done.
 */

import { fileURLToPath } from 'node:url';
import { isBuilt, isInstalled } from './setup/stamps.mjs';

// Not import.meta.dirname, which the first releases of Node 20 lack.
const root = fileURLToPath(new URL('..', import.meta.url));

if (!(isInstalled(root) && isBuilt(root))) {
  const { withLock } = await import('./setup/lock.mjs');
  const { setUp } = await import('./setup/set-up.mjs');
  try {
    await withLock(root, () => setUp(root));
  } catch (error) {
    process.stderr.write(`setup: ${error.message}\n`);
    process.exit(1);
  }
}
const { adviseSystemPackage, bubblewrap, lacksBubblewrap } = await import(
  './setup/system-packages.mjs'
);
if (lacksBubblewrap()) process.stderr.write(`setup: ${adviseSystemPackage(bubblewrap)}\n`);
