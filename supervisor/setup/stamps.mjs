/**
 * What was done, for which input: one file each for the packages and for dist/. A stamp is written
 * after its work and taken away before it, so work that was cut short is always seen.
 */

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** No program is built from these. */
const notSource = new Set([
  'node_modules',
  'dist',
  'coverage',
  'test',
  'bench',
  'docs',
  'examples',
]);

const installStamp = (root) => join(root, 'node_modules', '.installed');
const buildStamp = (root) => join(root, 'dist', '.built');

export function isInstalled(root) {
  return find(installStamp(root)) === digestPackages(root);
}

export function isBuilt(root) {
  return find(buildStamp(root)) === digestSources(root);
}

export function markInstalled(root) {
  writeFileSync(installStamp(root), digestPackages(root));
}

/** @param digest  of the sources as they were before the build: an edit during it builds again. */
export function markBuilt(root, digest) {
  writeFileSync(buildStamp(root), digest);
}

export function clearStamp(root, what) {
  rmSync(what === 'install' ? installStamp(root) : buildStamp(root), { force: true });
}

function digestPackages(root) {
  const hash = createHash('sha256');
  for (const name of ['package.json', 'package-lock.json'])
    hash.update(find(join(root, name)) ?? '');
  return hash.digest('hex');
}

/** Names, sizes and times instead of contents: 3 ms instead of 20, and an edit changes the time. */
export function digestSources(root) {
  const hash = createHash('sha256').update(digestPackages(root));
  for (const path of listSources(root)) {
    const { size, mtimeMs } = statSync(join(root, path));
    hash.update(`${path} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex');
}

/** @returns the files that programs are built from, as paths from the root. */
export function listSources(root) {
  return readdirSync(root, { withFileTypes: true })
    .filter(({ name }) => !name.startsWith('.') && !notSource.has(name))
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) =>
      readdirSync(join(root, name), { recursive: true }).map((path) => join(name, path)),
    )
    .filter((path) => /\.(tsx?|mjs|json|html|css|svg)$/.test(path))
    .sort();
}

function find(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}
