/** How much a call has added to the disk. The file system's own counters are read at each look, for
 *  a microsecond; only when they say that somebody used more than is left, the folders are walked
 *  and the open files looked at, to know whether it was this call. */
import { lstatSync, opendirSync, readdirSync, type Stats, statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../../base/errors.ts';
import { RAW, toPathBytes, toRawPath } from '../../base/raw-path.ts';

export interface Growth {
  readonly bytes: number;
  readonly files: number;
}

export interface GrowthLimits {
  readonly bytesMax: number;
  readonly filesMax: number;
}

export interface GrowthWatch {
  /** Cheap. True: more was used on these file systems than this call may, by whomever. */
  isSuspicious(): boolean;
  /** What this call added, counted up to just over a limit. */
  count(open: OpenFiles): Growth;
}

export interface OpenFiles {
  /** Folders whose entries are open files. */
  readonly folders: readonly string[];
  /** How many files without a name stand in none of these. */
  countHeld(): number;
}

const BLOCK_BYTES = 512;

export interface GrowthSpec {
  readonly roots: readonly string[];
  readonly limits: GrowthLimits;
  /** Wall time; what was changed since counts as this call's. */
  readonly startedMs: number;
  /** What the file system of a folder has left. */
  readonly readFree: (folder: string) => Growth;
}

export function watchGrowth({ roots, limits, startedMs, readFree }: GrowthSpec): GrowthWatch {
  /** The most there was since the call began, and since the last count: what others give back hides
   *  nothing that was used behind it. */
  let most = roots.map(readFree);
  let before = most;
  let left: Growth = { bytes: limits.bytesMax, files: limits.filesMax };
  return {
    isSuspicious() {
      const now = roots.map(readFree);
      most = toMost(most, now);
      before = toMost(before, now);
      const { bytes, files } = toLost(before, now);
      return bytes > left.bytes || files > left.files;
    },
    count(open) {
      const now = roots.map(readFree);
      const found: Sum = { bytes: 0, files: 0, isPartial: false };
      const isOver = (): boolean => found.bytes > limits.bytesMax || found.files > limits.filesMax;
      for (const root of roots) addTree(root, startedMs, found, isOver);
      for (const folder of open.folders) addUnlinked(folder, startedMs, found);
      // What nobody can measure counts as far as the disk misses it, each at most as one may have.
      const lost = toLost(most, now);
      if (!isOver() && found.isPartial) {
        found.bytes = Math.max(found.bytes, lost.bytes);
        found.files = Math.max(found.files, lost.files);
      } else if (!isOver() && lost.bytes > limits.bytesMax) {
        found.bytes += Math.min(lost.bytes - found.bytes, open.countHeld() * limits.bytesMax);
      }
      before = now;
      left = {
        bytes: Math.max(0, limits.bytesMax - found.bytes),
        files: Math.max(0, limits.filesMax - found.files),
      };
      return found;
    },
  };
}

export function readRealFree(path: string): Growth {
  try {
    const { bfree, bsize, ffree } = statfsSync(path);
    return { bytes: bfree * bsize, files: ffree };
  } catch {
    // Unmounted meanwhile: nothing can be written there.
    return { bytes: 0, files: 0 };
  }
}

function toMost(then: readonly Growth[], now: readonly Growth[]): Growth[] {
  return now.map(({ bytes, files }, i) => ({
    bytes: Math.max(bytes, then[i]?.bytes ?? 0),
    files: Math.max(files, then[i]?.files ?? 0),
  }));
}

/** Of the file system that misses most; never less than none. */
function toLost(then: readonly Growth[], now: readonly Growth[]): Growth {
  const most = (kind: keyof Growth): number =>
    Math.max(0, ...now.map((free, i) => (then[i]?.[kind] ?? 0) - free[kind]));
  return { bytes: most('bytes'), files: most('files') };
}

interface Sum {
  bytes: number;
  files: number;
  /** Some of it cannot be looked at: a call may close a folder to its user, and write there, or
   *  below more folders than a path has room for. */
  isPartial: boolean;
}

/** Never follows a link, so it cannot be led out. Its paths are raw. */
function addTree(root: string, sinceMs: number, sum: Sum, isOver: () => boolean): void {
  const folders = [toRawPath(root)];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    try {
      for (const name of listNames(folder)) {
        const path = `${folder}/${name}`;
        const stat = lstatSync(toPathBytes(path), { throwIfNoEntry: false });
        if (stat === undefined) continue;
        if (stat.isDirectory()) folders.push(path);
        if (stat.ctimeMs < sinceMs) continue;
        sum.bytes += stat.blocks * BLOCK_BYTES;
        if (stat.birthtimeMs >= sinceMs) sum.files += 1;
        if (isOver()) return;
      }
    } catch (error) {
      // Removed meanwhile; or closed, and not by a call of ours.
      const code = systemCode(error);
      const isClosed = code === 'EACCES' && isOwn(folder);
      if (isClosed || code === 'ENAMETOOLONG') sum.isPartial = true;
    }
  }
}

function isOwn(folder: string): boolean {
  try {
    return lstatSync(toPathBytes(folder)).uid === process.getuid?.();
  } catch {
    // Removed meanwhile.
    return false;
  }
}

function* listNames(folder: string): Generator<string> {
  const open = opendirSync(toPathBytes(folder), { encoding: RAW });
  try {
    for (let entry = open.readSync(); entry !== null; entry = open.readSync()) yield entry.name;
  } finally {
    open.closeSync();
  }
}

/** Files without a name take room as long as somebody has them open. */
function addUnlinked(folder: string, sinceMs: number, sum: Sum): void {
  const seen = new Set<number>();
  for (const name of readNames(folder)) {
    const stat = readStat(join(folder, name));
    if (stat === undefined || stat.nlink > 0 || stat.ctimeMs < sinceMs || seen.has(stat.ino)) {
      continue;
    }
    seen.add(stat.ino);
    if (stat.isFile()) sum.bytes += stat.blocks * BLOCK_BYTES;
  }
}

function readStat(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    // Closed meanwhile; or its process made itself unreadable.
    return undefined;
  }
}

function readNames(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // The process is gone, or is not to be looked at: countHeld knows.
    return [];
  }
}
