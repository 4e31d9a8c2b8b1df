/** The work of setup.mjs, done under its lock: packages, then what they need, then dist/. */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { findPinnedNode, nodeMajor } from './pinned-node.mjs';
import {
  clearStamp,
  digestSources,
  isBuilt,
  isInstalled,
  markBuilt,
  markInstalled,
} from './stamps.mjs';
import {
  adviseSystemPackage,
  bubblewrap,
  installSystemPackage,
  lacksBubblewrap,
  libatomic,
} from './system-packages.mjs';

export function setUp(root) {
  if (!isInstalled(root)) {
    install(root);
    if (lacksBubblewrap()) installSystemPackage(bubblewrap);
  }
  if (!isBuilt(root)) build(root);
}

/**
 * `npm install --no-save` and not `npm ci`: it leaves what is right in place (1 s instead of 15 for
 * one changed package, and a supervisor that runs keeps its files), and takes a lock file from
 * which a platform's binary is missing.
 */
function install(root) {
  const modules = join(root, 'node_modules');
  const unfinished = join(modules, '.installing');
  if (isUnfinished(modules, unfinished)) {
    say('an earlier install did not finish; starting over');
    rmSync(modules, { recursive: true, force: true });
  }
  say('installing packages (the first time about 15 s)');
  mkdirSync(modules, { recursive: true });
  writeFileSync(unfinished, '');
  clearStamp(root, 'install');
  // Everything is named: the caller may have NODE_ENV=production or an omit of its own.
  const args = ['install', '--no-save', '--loglevel=error', '--include=dev', '--include=optional'];
  const [command, ...before] = outerNpm();
  const result = run(root, command, [...before, ...args]);
  // An npm that fails by itself puts back what it found; one that was killed does not.
  if (result.signal === null) rmSync(unfinished, { force: true });
  assertSucceeded(result, 'npm install');
  markInstalled(root);
}

/** npm writes .package-lock.json last, so its absence tells of an install that was not ours. */
function isUnfinished(modules, marker) {
  if (!existsSync(modules) || readdirSync(modules).length === 0) return false;
  return existsSync(marker) || !existsSync(join(modules, '.package-lock.json'));
}

/** The npm that started us, under its own Node: the local Node is what may be about to change. */
function outerNpm() {
  const { npm_execpath: npm, npm_node_execpath: node } = process.env;
  if (npm !== undefined && node !== undefined && basename(npm) === 'npm-cli.js') return [node, npm];
  return ['npm'];
}

function build(root) {
  const node = findPinnedNode(root);
  if (node === undefined) {
    throw new Error(
      `npm has no Node ${nodeMajor} for ${process.platform}-${process.arch}; install it and try again`,
    );
  }
  if (lacksLibatomic(node)) installSystemPackage(libatomic);
  if (lacksLibatomic(node)) throw new Error(adviseSystemPackage(libatomic));
  const digest = digestSources(root);
  clearStamp(root, 'build');
  assertSucceeded(run(root, node, [join(root, 'supervisor', 'build.mjs')]), 'build');
  markBuilt(root, digest);
}

/** Node is linked against it since version 25, and a minimal system has it not. */
export function lacksLibatomic(node) {
  const { status, stderr } = spawnSync(node, ['--version'], { encoding: 'utf8' });
  return status === 127 && /libatomic/.test(stderr);
}

/** Output of ours belongs in no one's pipe: all of it goes to stderr. */
function run(root, command, args) {
  return spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
}

function assertSucceeded({ status, signal, error }, what) {
  if (error !== undefined) throw new Error(`${what} could not start: ${error.message}`);
  if (status !== 0) {
    throw new Error(`${what} failed (${signal ?? `exit ${status}`}); its output is above`);
  }
}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}
