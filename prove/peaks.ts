/** How much memory a bomb has taken, and which process it is. */
import { readFileSync } from 'node:fs';
import { listDescendants } from '../base/process.ts';
import { readName } from '../test/integration/processes.ts';
import type { Stand } from './stand.ts';

const SEARCH_MS = 500;

/** MiB, by the kernel's own count; 0: it is gone. */
export function readPeakMb(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
  } catch {
    return 0; // It ended while we looked.
  }
}

/** To look for all processes below a supervisor takes milliseconds, in which no token is stamped:
 *  it is done now and then. */
export function createSearch(stand: Stand): () => readonly number[] {
  let found: readonly number[] = [];
  let searchedMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() - searchedMs > SEARCH_MS) {
      const all = listDescendants(stand.supervisor().pid);
      found = all.filter((pid) => readName(pid) === 'perl');
      searchedMs = performance.now();
    }
    return found;
  };
}
