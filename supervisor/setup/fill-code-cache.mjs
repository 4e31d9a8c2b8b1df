/**
 * Starts each program of dist/ once, so that its code cache also holds the functions that V8
 * compiles only when they are first called. What does not end by itself keeps the cache it had.
 */

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const hook = join(import.meta.dirname, 'code-cache-hook.mjs');
const runLimitMs = 3_000;

/** @param runs  [name of a file in dist/ without .js, ...arguments] each. */
export async function fillCodeCaches(dist, runs) {
  const scratch = mkdtempSync(join(tmpdir(), 'prx-build-'));
  try {
    // One lane a program: two runs of one program would overwrite each other's cache.
    const lanes = Map.groupBy(runs, ([name]) => name);
    await Promise.all(
      [...lanes.values()].map(async (lane) => {
        for (const [name, ...args] of lane) await runOnce(dist, name, args, scratch);
      }),
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function runOnce(dist, name, args, scratch) {
  const { promise, resolve } = Promise.withResolvers();
  // Nothing of the user's is in reach: no key, no running supervisor, no state.
  const env = { PATH: process.env.PATH, HOME: scratch, TMPDIR: scratch, PRX_STATE_DIR: scratch };
  const child = spawn(process.execPath, ['--import', hook, join(dist, `${name}.js`), ...args], {
    cwd: scratch,
    env,
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: runLimitMs,
    killSignal: 'SIGKILL',
  });
  // A program that says it is ready is asked to end; the others end by themselves at EOF.
  child.stdout.once('data', () => child.kill('SIGTERM'));
  child.on('error', resolve);
  child.on('close', resolve);
  return promise;
}
