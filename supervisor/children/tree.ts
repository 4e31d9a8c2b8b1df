/** The supervisor's own look at the memory of process trees: synchronous, so that a busy thread
 *  pool cannot delay it, and short, because no session's tokens flow meanwhile: a tree is walked by
 *  the kernel's own lists of children (0.2 ms for a worker under its launcher; all of /proc 2 ms).
 *  Resident pages that several processes of a tree share are counted once each, so a tree that
 *  seems too large, though none of its processes is, is measured again by its proportional share
 *  (7 ms for 300 MB, hence only then). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listTree, toChildLister } from '../../base/descendants.ts';

/** Bytes of each tree that is there, by the pid of its root. */
export type ScanTrees = (
  roots: readonly number[],
  /** Trees of several processes above this, none of which is alone, are measured by proportional
   *  share. */
  suspectBytes: number,
) => ReadonlyMap<number, number>;

/** Share of the limit not worth a second measurement: a launcher's own processes are less. */
const DOUBT = 0.05;

export const scanRealTrees: ScanTrees = (roots, suspectBytes) =>
  scanTrees('/proc', roots, suspectBytes);

export function scanTrees(
  proc: string,
  roots: readonly number[],
  suspectBytes: number,
): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  const [first] = roots;
  if (first === undefined) return found;
  const listChildren = toChildLister(proc, first);
  for (const root of roots) {
    const tree = listTree(listChildren, root);
    const residents = tree.map((pid) => readKilobytes(proc, pid, 'status', 'VmRSS'));
    const resident = sum(residents);
    if (resident === undefined) continue;
    const largest = Math.max(...residents.map((bytes) => bytes ?? 0));
    // What may be counted twice is in the others as well.
    const isDoubtful = resident - largest > suspectBytes * DOUBT;
    const isSuspect = resident > suspectBytes && largest <= suspectBytes && isDoubtful;
    const shares = isSuspect ? tree.map((pid) => readShare(proc, pid)) : [];
    found.set(root, sum(shares) ?? resident);
  }
  return found;
}

/** Of one process alone; undefined when it is gone. */
export function readResidentBytes(pid: number): number | undefined {
  return readKilobytes('/proc', pid, 'status', 'VmRSS');
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
