/** What people work with works inside: a sandbox that breaks it is switched off. The rows of the
 *  table in docs/sandbox.md that have a test. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { findProgram } from '../../sandbox/launch/survey.ts';
import { hasBubblewrap, isRoot, startTestHost, type TestHost } from './harness.ts';

const OTHER_UID = 61_004;
const users = isRoot ? [undefined, OTHER_UID] : [undefined];
const on = hasBubblewrap ? describe : describe.skip;

let host: TestHost | undefined;
afterEach(async () => {
  await host?.close();
  host = undefined;
});

/** A package registry with one package, as npm asks for it. */
const REGISTRY = `
const { createServer } = require('node:http');
const { execFileSync, spawnSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const { mkdirSync, readFileSync, writeFileSync } = require('node:fs');
mkdirSync('made/package', { recursive: true });
writeFileSync('made/package/package.json', '{"name":"tiny","version":"1.0.0"}');
writeFileSync('made/package/index.js', 'module.exports = 7;');
execFileSync('tar', ['czf', 'tiny.tgz', '-C', 'made', 'package']);
const tarball = readFileSync('tiny.tgz');
const integrity = 'sha512-' + createHash('sha512').update(tarball).digest('base64');
const server = createServer((request, response) => {
  if (request.url.endsWith('.tgz')) return response.end(tarball);
  const url = 'http://127.0.0.1:' + server.address().port;
  const version = { name: 'tiny', version: '1.0.0', dist: { tarball: url + '/tiny.tgz', integrity } };
  const about = { name: 'tiny', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version } };
  response.end(JSON.stringify(about));
}).listen(0, '127.0.0.1', () => writeFileSync('url', 'http://127.0.0.1:' + server.address().port));
`;

const rows: readonly (readonly [what: string, needs: readonly string[], script: string])[] = [
  [
    'npm install, from a registry inside',
    ['node', 'npm', 'tar'],
    'node registry.js & while [ ! -s url ]; do sleep 0.05; done; mkdir p; cd p; echo "{}" > ' +
      'package.json; npm install --no-audit --no-fund --registry $(cat ../url) tiny; ' +
      'node -e "if (require(\'tiny\') !== 7) process.exit(1)"',
  ],
  [
    'a development server on loopback',
    ['node'],
    `node -e 'const h = require("http").createServer((q, r) => r.end("x")).listen(0, "127.0.0.1", async () => { const r = await fetch("http://127.0.0.1:" + h.address().port); process.exit((await r.text()) === "x" ? 0 : 1); })'`,
  ],
  [
    'node: children, workers',
    ['node'],
    `node -e 'require("child_process").execSync("true"); new (require("worker_threads").Worker)("1", { eval: true })'`,
  ],
  ['python: threads, processes, a database', ['python3'], 'python3 works.py'],
  [
    'make with several jobs',
    ['make'],
    'printf "all: a b\\na b:\\n\\ttouch \\$@\\n" > Makefile; make -j4 && ls a b',
  ],
  ['a C compiler', ['cc'], 'echo "int main(){return 0;}" > m.c && cc m.c -o m && ./m'],
];

const PYTHON = `
import multiprocessing, sqlite3, subprocess, threading
if __name__ == "__main__":
    subprocess.check_call(["true"])
    thread = threading.Thread(target=print); thread.start(); thread.join()
    assert multiprocessing.Pool(2).map(abs, [1, -2]) == [1, 2]
    sqlite3.connect("a.db").execute("create table a(b)")
`;

on.each(users)('inside works, as uid %s', (uid) => {
  for (const [what, needs, script] of rows) {
    const testHere = needs.every((name) => findProgram(name) !== undefined) ? test : test.skip;
    testHere(what, async () => {
      host = await startTestHost(uid === undefined ? {} : { uid });
      writeFileSync(join(host.workspace, 'registry.js'), REGISTRY);
      writeFileSync(join(host.workspace, 'works.py'), PYTHON);
      await host.initialize();
      const outcome = await host.shell(`set -e; ${script}`);
      expect([outcome.status, outcome.output]).toEqual(['ok', expect.anything()]);
    });
  }
});
