/** The supervisor's own look at the memory of process trees: one synchronous scan of /proc, so that
 *  a busy thread pool cannot delay it. Resident pages that several processes of a tree share are
 *  counted once each, so a tree that seems too large is measured again by its proportional share
 *  (slow: it is asked only then). */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Bytes of each tree that is there, by the pid of its root. */
export type ScanTrees = (
  roots: readonly number[],
  /** Trees of several processes above this are measured by proportional share. */
  suspectBytes: number,
) => ReadonlyMap<number, number>;

export const scanRealTrees: ScanTrees = (roots, suspectBytes) =>
  scanTrees('/proc', roots, suspectBytes);

export function scanTrees(
  proc: string,
  roots: readonly number[],
  suspectBytes: number,
): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  if (roots.length === 0) return found;
  const childrenOf = readChildren(proc);
  for (const root of roots) {
    const tree = listTree(childrenOf, root);
    const resident = sum(tree.map((pid) => readKilobytes(proc, pid, 'status', 'VmRSS')));
    if (resident === undefined) continue;
    const isSuspect = tree.length > 1 && resident > suspectBytes;
    const shares = isSuspect ? tree.map((pid) => readShare(proc, pid)) : [];
    found.set(root, sum(shares) ?? resident);
  }
  return found;
}

/** A share that may not be read (another user's process) counts as all that is resident. */
function readShare(proc: string, pid: number): number | undefined {
  return (
    readKilobytes(proc, pid, 'smaps_rollup', 'Pss') ?? readKilobytes(proc, pid, 'status', 'VmRSS')
  );
}

/** Undefined when nothing is known of any. */
function sum(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : known.reduce((total, value) => total + value, 0);
}

function listTree(childrenOf: ReadonlyMap<number, readonly number[]>, root: number): number[] {
  const tree = new Set([root]);
  for (const pid of tree) for (const child of childrenOf.get(pid) ?? []) tree.add(child);
  return [...tree];
}

function readChildren(proc: string): ReadonlyMap<number, readonly number[]> {
  const childrenOf = new Map<number, number[]>();
  for (const name of readdirSync(proc)) {
    if (!/^\d+$/.test(name)) continue;
    const stat = read(join(proc, name, 'stat'));
    const parent = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (!Number.isSafeInteger(parent)) continue;
    const siblings = childrenOf.get(parent);
    if (siblings === undefined) childrenOf.set(parent, [Number(name)]);
    else siblings.push(Number(name));
  }
  return childrenOf;
}

/** A line such as `VmRSS:   45000 kB`, in bytes. */
function readKilobytes(proc: string, pid: number, file: string, key: string): number | undefined {
  const text = read(join(proc, String(pid), file));
  const match = text === undefined ? null : new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text);
  return match === null ? undefined : Number(match[1]) * 1024;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // It died while we looked, or is not ours to read.
    return undefined;
  }
}
