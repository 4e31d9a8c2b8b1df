/** The whole output of a call that is too long to be shown, as a file. The file is begun only when
 *  the cap is passed, and is bounded itself: what comes after the bound is counted, not kept. */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

export interface Spill {
  add(bytes: Buffer): void;
  finish(): SpillResult;
}

export interface SpillResult {
  readonly totalBytes: number;
  /** Bytes in the file; 0: there is no file. */
  readonly keptBytes: number;
  /** Why the file is not what it should be: the disk refused. */
  readonly failure: string | undefined;
}

export interface SpillSpec {
  readonly path: string;
  /** Up to here nothing is written. */
  readonly thresholdBytes: number;
  readonly bytesMax: number;
}

export const ARTIFACT_BYTES_MAX = 64 * 1024 * 1024;

export function createSpill(spec: SpillSpec): Spill {
  const { path, thresholdBytes, bytesMax } = spec;
  let waiting: Buffer[] = [];
  let fd: number | undefined;
  let totalBytes = 0;
  let keptBytes = 0;
  let failure: string | undefined;

  function write(bytes: Buffer): void {
    const room = bytes.subarray(0, Math.max(0, bytesMax - keptBytes));
    if (room.length === 0 || failure !== undefined) return;
    try {
      fd ??= create(path);
      for (let done = 0; done < room.length; ) done += writeSync(fd, room, done);
      keptBytes += room.length;
    } catch (error) {
      // A full disk must not end the call: the head and the tail are still shown.
      failure = error instanceof Error ? error.message : String(error);
    }
  }

  return {
    add(bytes) {
      totalBytes += bytes.length;
      if (totalBytes <= thresholdBytes) {
        waiting.push(bytes);
        return;
      }
      for (const earlier of waiting) write(earlier);
      waiting = [];
      write(bytes);
    },
    finish() {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
      waiting = [];
      return { totalBytes, keptBytes, failure };
    },
  };
}

function create(path: string): number {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  return openSync(path, 'w', 0o600);
}
