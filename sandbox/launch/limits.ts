/** The resource limits that hold inside each sandbox, from the policy and from what we have
 *  ourselves. They bound one process each; the bound of a whole call is its own pid limit, its
 *  wall clock and its output. */
import type { Rlimits } from './arguments.ts';

const FILE_BYTES_MAX = 8 * 1024 ** 3;
const OPEN_FILES_MAX = 4096;
/** Below it the runtime of many tools does not start (measured with Node: 512 MiB is too little),
 *  so this is a backstop, not the memory limit. */
const DATA_BYTES_MIN = 2 * 1024 ** 3;

export interface LimitPolicy {
  readonly maxPids: number;
  readonly memoryLimitBytes: number;
}

/** @param hard  our own hard limits by their names in /proc/self/limits; ours cannot be higher. */
export function decideRlimits(policy: LimitPolicy, hard: ReadonlyMap<string, number>): Rlimits {
  const atMost = (name: string, value: number): number => Math.min(value, hard.get(name) ?? value);
  const memory = policy.memoryLimitBytes;
  return {
    processes: policy.maxPids > 0 ? atMost('Max processes', policy.maxPids) : 0,
    fileBytes: atMost('Max file size', FILE_BYTES_MAX),
    openFiles: atMost('Max open files', OPEN_FILES_MAX),
    dataBytes: memory > 0 ? atMost('Max data size', Math.max(memory, DATA_BYTES_MIN)) : 0,
  };
}
