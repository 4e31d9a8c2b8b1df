/** What people work with works inside: a sandbox that breaks it is switched off. The rows of the
 *  table in docs/sandbox.md that have a test. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { noNetwork } from '../../protocol/network.ts';
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
  const version = { name: 'tiny', version: '1.0.0', dist: { tarball: url() + '/tiny.tgz', integrity } };
  const about = { name: 'tiny', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version } };
  response.end(JSON.stringify(about));
}).listen(0, process.argv[2] ?? '127.0.0.1', () => {
  writeFileSync('url', url());
  console.log(url());
});
const url = () => 'http://' + server.address().address + ':' + server.address().port;
`;

const CMAKE =
  'echo "int main(){return 0;}" > m.cc; printf "project(m CXX)\\nadd_executable(m m.cc)\\n" > ' +
  'CMakeLists.txt; cmake -S . -B b; cmake --build b; ./b/m';
const FIRST = 'git init -q r; cd r; echo a > a; git add a; git commit -qm one';

const rows: readonly (readonly [what: string, needs: readonly string[], script: string])[] = [
  [
    'git, with nobody named: commits, branches, merges, work trees, stashes',
    ['git'],
    `${FIRST}; git log --format="<%ae>" | grep "<agent@sandbox.invalid>"; git checkout -qb b; ` +
      'echo b >> a; git diff --stat; git commit -qam two; git checkout -q -; git merge -q b; ' +
      'git tag t; git worktree add -q ../w; echo c >> a; git stash -q; git rebase -q HEAD~1; ' +
      '[ "$(git log --oneline | wc -l)" = 2 ]',
  ],
  [
    'git, with somebody named by the repository',
    ['git'],
    'git init -q r; cd r; git config user.email me@example.org; git config user.name me; ' +
      'git commit -qm one --allow-empty; git log --format="%an %ae" | grep "me me@example.org"',
  ],
  [
    'git: clone of a repository on the disk, and push to one',
    ['git'],
    `${FIRST}; cd ..; git clone -q --bare r bare; git clone -q bare s; cd s; echo b > b; ` +
      'git add b; git commit -qm two; git push -q; [ "$(git -C ../bare log --oneline | wc -l)" = 2 ]',
  ],
  [
    'copies and servers that would have the kernel send a file',
    ['python3', 'node'],
    "seq 90000 > a; python3 -c \"import shutil, socket; shutil.copyfile('a', 'b'); " +
      "x, y = socket.socketpair(); x.sendfile(open('a', 'rb'), 0, 900)\"; " +
      "node -e \"fs.copyFileSync('a', 'c')\"; cmp a b; cmp a c",
  ],
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
  [
    'node: its test runner, and a watch on files',
    ['node'],
    "echo \"require('node:test')('x', () => {})\" > x.test.cjs; node --test; " +
      'node -e \'const w = fs.watch(".", () => w.close()); setTimeout(() => fs.writeFileSync("a", ""), 50)\'',
  ],
  [
    'npm: init, run, pack, version',
    ['npm'],
    'npm init -y; npm pkg set scripts.x="echo ran"; npm run x | grep ran; npm pack; ' +
      'npm version patch --no-git-tag-version',
  ],
  ['ripgrep', [], 'echo needle > a; rg needle | grep a:needle'],
  [
    'tar, gzip, diff, patch, and times and links that are kept',
    ['tar', 'gzip', 'diff', 'patch'],
    'mkdir d; echo a > d/a; touch -d 2001-01-01 d/a; ln -s a d/l; chmod 750 d/a; tar czf t d; ' +
      'mkdir e; tar xzpf t -C e; [ "$(stat -c "%a %Y" e/d/a)" = "$(stat -c "%a %Y" d/a)" ]; ' +
      'echo b > b; diff -u d/a b > p || true; patch d/a p; cmp d/a b',
  ],
  [
    'processes: ps, whoami, a fifo, timeout',
    ['ps'],
    `ps; [ "$(whoami)" = agent ]; mkfifo p; (echo x > p &); cat p; timeout 5 true`,
  ],
  ['a terminal', ['script'], 'script -qec tty /dev/null | grep /dev/pts'],
  ['perl', ['perl'], 'perl -e "print 1"'],
  ['java', ['java'], 'java -version'],
  [
    'python: venv',
    ['python3'],
    'python3 -m venv --without-pip v; . v/bin/activate; python -c "import sys; exit(\'row\' not in sys.prefix)"',
  ],
  ['python: threads, processes, a database', ['python3'], 'python3 works.py'],
  [
    'make with several jobs',
    ['make'],
    'printf "all: a b\\na b:\\n\\ttouch \\$@\\n" > Makefile; make -j4 && ls a b',
  ],
  ['C++ and cmake', ['c++', 'cmake'], CMAKE],
  ['a C compiler', ['cc'], 'echo "int main(){return 0;}" > m.c && cc m.c -o m && ./m'],
];

const UNIX = `node -e 'require("net").createServer().on("error", console.log).listen("s")'`;

const PYTHON = `
import multiprocessing, sqlite3, subprocess, threading
if __name__ == "__main__":
    subprocess.check_call(["true"])
    thread = threading.Thread(target=print); thread.start(); thread.join()
    assert multiprocessing.Pool(2).map(abs, [1, -2]) == [1, 2]
    sqlite3.connect("a.db").execute("create table a(b)")
`;

/** One session for all rows, as somebody works: each in a folder of its own. */
on.each(users)('inside works, as uid %s', (uid) => {
  let session: TestHost;
  beforeAll(async () => {
    session = await startTestHost(uid === undefined ? {} : { uid });
    writeFileSync(join(session.workspace, 'registry.js'), REGISTRY);
    writeFileSync(join(session.workspace, 'works.py'), PYTHON);
    await session.initialize();
  });
  afterAll(() => session.close());

  for (const [index, [what, needs, script]] of rows.entries()) {
    const testHere = needs.every((name) => findProgram(name) !== undefined) ? test : test.skip;
    testHere(what, async () => {
      const place = `mkdir row-${index}; cp registry.js works.py row-${index}; cd row-${index}`;
      const outcome = await session.shell(`set -e; ${place}; ${script}`);
      expect([outcome.status, outcome.output]).toEqual(['ok', expect.anything()]);
    });
  }
});

on.each(users)('inside does not work, by intent, and says so, as uid %s', (uid) => {
  test.each([
    ['to listen on a unix socket', ['node'], UNIX, /EAFNOSUPPORT/],
    ['to trace', ['strace'], 'strace true', /Operation not permitted/],
    ['to become somebody else', ['su'], 'su -c id', /su:/],
  ] as const)('%s', async (_, needs, script, said) => {
    if (!needs.every((name) => findProgram(name) !== undefined)) return;
    host = await startTestHost(uid === undefined ? {} : { uid });
    await host.initialize();
    expect((await host.shell(script)).output).toMatch(said);
  });
});

const canInstall = ['node', 'npm', 'tar'].every((name) => findProgram(name) !== undefined);
const installs = hasBubblewrap && canInstall ? test : test.skip;

installs.each(users)(
  'npm install from a registry of this machine, through the allow-list, as uid %s',
  async (uid) => {
    const folder = mkdtempSync(join(tmpdir(), 'prx-registry-'));
    writeFileSync(join(folder, 'registry.js'), REGISTRY);
    // Not 127.0.0.1, which is the session's own and asked without a proxy.
    const registry = spawn(process.execPath, ['registry.js', '127.0.0.2'], {
      ...{ cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] as const },
    });
    try {
      const url = await new Promise<string>((resolve) => {
        registry.stdout.once('data', (text: Buffer) => resolve(text.toString().trim()));
      });
      const domain = url.slice('http://'.length);
      const network = { ...noNetwork, mode: 'allowlist' as const, allowedDomains: [domain] };
      host = await startTestHost({ policy: { network }, ...(uid === undefined ? {} : { uid }) });
      await host.initialize();
      const script = `npm init -y; npm install --no-audit --no-fund --registry ${url} tiny; node -e "if (require('tiny') !== 7) process.exit(1)"`;
      expect(await host.shell(`set -e; ${script}`)).toMatchObject({ status: 'ok' });
      const asked = host.requests.filter((request) => request.host === '127.0.0.2');
      expect(new Set(asked.map(({ decision }) => decision))).toEqual(new Set(['allow']));
    } finally {
      registry.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
