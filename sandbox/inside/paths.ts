/** Paths inside the sandbox. The kernel resolves them, so nothing here is a security check: what
 *  must not be reached does not exist in here. */
import { lstatSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, normalize, relative } from 'node:path';
import { findGuard } from '../guarded.ts';
import { ToolFailure } from './failure.ts';

export function resolvePath(workspace: string, path: string): string {
  if (path.includes('\0')) throw new ToolFailure('a path cannot hold a NUL character');
  return normalize(isAbsolute(path) ? path : join(workspace, path));
}

/** Also for a link that leads nowhere, which is in the way of a new file. */
export function exists(absolute: string): boolean {
  return lstatSync(absolute, { throwIfNoEntry: false }) !== undefined;
}

/** Throws ToolFailure for a path that makes a program of the user run something. By its real
 *  folder, and by what it leads to: a link may stand on the way, or at its end. */
export function refuseGuarded(workspace: string, absolute: string): void {
  const folder = findReal(dirname(absolute));
  const [guard] = [join(folder, basename(absolute)), findReal(absolute)].flatMap(
    (path) => findGuard(relative(findReal(workspace), path)) ?? [],
  );
  if (guard === undefined) return;
  const shown = toShownPath(workspace, absolute);
  throw new ToolFailure(`${shown} is protected: ${guard}. Ask the user to make this change.`);
}

/** Behind its links, as far as it exists. */
export function findReal(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // Not there yet: its parent is.
    return path === '/' ? path : join(findReal(dirname(path)), basename(path));
  }
}

/** As the model should write it: relative to the workspace where that is shorter. */
export function toShownPath(workspace: string, absolute: string): string {
  const inner = relative(workspace, absolute);
  if (inner === '') return '.';
  return inner.startsWith('..') ? absolute : inner;
}

const NAMES_MAX = 5000;
const SUGGESTIONS_MAX = 3;

/** What to say when there is nothing at `absolute`: the nearest names that do exist. */
export function toMissing(workspace: string, absolute: string): ToolFailure {
  const folder = dirname(absolute);
  const shown = toShownPath(workspace, absolute);
  const target = findTarget(absolute);
  if (target !== undefined) {
    return new ToolFailure(`${shown} is a link to ${target}, which does not exist here`);
  }
  const names = listNames(folder);
  if (names === undefined) {
    const parent = toShownPath(workspace, findExisting(folder));
    return new ToolFailure(`${shown} does not exist; the nearest folder that does is ${parent}`);
  }
  const near = findSimilar(basename(absolute), names);
  if (names.includes(basename(absolute))) {
    return new ToolFailure(
      `${shown} has a name that is not UTF-8; use shell, with a pattern for it`,
    );
  }
  if (near.length === 0) {
    return new ToolFailure(`${shown} does not exist; use list_files to see what does`);
  }
  const suggestions = near.map((name) => toShownPath(workspace, join(folder, name)));
  return new ToolFailure(`${shown} does not exist; did you mean ${suggestions.join(' or ')}?`);
}

function findTarget(absolute: string): string | undefined {
  try {
    return readlinkSync(absolute);
  } catch {
    // No link.
    return undefined;
  }
}

function listNames(folder: string): string[] | undefined {
  try {
    return readdirSync(folder).slice(0, NAMES_MAX);
  } catch {
    // Absent, a file, or not readable: nothing to suggest from.
    return undefined;
  }
}

function findExisting(folder: string): string {
  for (let path = folder; path !== '/'; path = dirname(path)) {
    if (statSync(path, { throwIfNoEntry: false }) !== undefined) return path;
  }
  return '/';
}

/** Names within a third of the length in edits, or that hold the asked one; the nearest first. */
export function findSimilar(name: string, names: readonly string[]): string[] {
  const wanted = name.toLowerCase();
  return names
    .map((candidate) => ({ candidate, distance: toDistance(wanted, candidate.toLowerCase()) }))
    .filter(({ distance }) => distance <= Math.max(1, wanted.length / 3))
    .sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, SUGGESTIONS_MAX)
    .map(({ candidate }) => candidate);
}

/** Edit distance; a name that contains the other counts as one edit away. */
function toDistance(a: string, b: string): number {
  if (a === b) return 0;
  if (a.length > 2 && b.length > 2 && (b.includes(a) || a.includes(b))) return 1;
  if (Math.abs(a.length - b.length) > a.length / 2 + 1) return Number.POSITIVE_INFINITY;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
