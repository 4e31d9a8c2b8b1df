/**
 * The form of a file in dist/: a loader of a few lines, then the program as a JSON string, then V8's
 * code cache for it in base64, the last two as comments. One file, so that it cannot be parted from
 * its cache; a cache that this Node cannot use is ignored by V8 and the program compiled as usual.
 */

import { Script } from 'node:vm';

const mark = '\n//=';

/** `module`, `require` and the rest are those of the file itself, so it behaves as any CommonJS file. */
const loader = `'use strict';
const { Script, constants } = require('node:vm');
const [, program, cache] = require('node:fs').readFileSync(__filename, 'latin1').split('\\n//=');
new Script(JSON.parse(program), {
  filename: __filename,
  cachedData: Buffer.from(cache, 'base64'),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
}).runInThisContext().call(exports, exports, require, module, __filename, __dirname);`;

/** @returns the file for a CommonJS program that was not run yet: the cache holds its outer part. */
export function toSelfLoading(code) {
  const program = `(function (exports, require, module, __filename, __dirname) {${code}\n})`;
  return join(program, new Script(program).createCachedData());
}

/** @returns {program, cache}, ready for vm.Script; undefined for a file of another form. */
export function parseSelfLoading(text) {
  const [head, program, cache, ...rest] = text.split(mark);
  if (head !== loader || cache === undefined || rest.length > 0) return undefined;
  return { program: JSON.parse(program), cache: Buffer.from(cache, 'base64') };
}

export function join(program, cache) {
  return [loader, toAsciiJson(program), cache.toString('base64')].join(mark);
}

/** The loader reads the file as latin1, which costs no decoding. */
function toAsciiJson(program) {
  return JSON.stringify(program).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
