/**
 * Loaded before a program of dist/ (--import): runs its files as their loader would, and at exit
 * writes each back with the code cache that V8 has by then. Only the build uses it.
 */

import { readFileSync } from 'node:fs';
import Module from 'node:module';
import { constants, Script } from 'node:vm';
import { join, parseSelfLoading } from './self-loading.mjs';
import { writeAtomic } from './write-atomic.mjs';

const scripts = new Map();
const compileDefault = Module._extensions['.js'];

Module._extensions['.js'] = (module, filename) => {
  const parts = parseSelfLoading(readFileSync(filename, 'latin1'));
  if (parts === undefined) return compileDefault(module, filename);
  const { program, cache } = parts;
  const script = new Script(program, {
    filename,
    cachedData: cache, // The new cache holds what an earlier run put there as well.
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  scripts.set(filename, { program, script });
  const require = Module.createRequire(filename);
  script
    .runInThisContext()
    .call(module.exports, module.exports, require, module, filename, module.path);
};

process.on('exit', () => {
  for (const [filename, { program, script }] of scripts) {
    writeAtomic(filename, join(program, script.createCachedData()));
  }
});
