/** The resource limits that hold inside each sandbox, from the policy and from what we have
 *  ourselves. They bound one process each (the number of processes: the sandbox); a call as a whole
 *  is kept by its control group, or by being watched (watch.ts). */
import type { Rlimits } from './arguments.ts';

const FILE_BYTES_MAX = 16 * 1024 ** 3;
const OPEN_FILES_MAX = 4096;
/** Below it the runtime of many tools does not start (measured with Node: 512 MiB is too little),
 *  so this is a backstop, not the memory limit. */
const DATA_BYTES_MIN = 2 * 1024 ** 3;

export interface LimitPolicy {
  readonly maxPids: number;
  readonly memoryLimitBytes: number;
  readonly diskBytes: number;
}

/** @param hard  our own hard limits by their names in /proc/self/limits; ours cannot be higher. */
export function decideRlimits(policy: LimitPolicy, hard: ReadonlyMap<string, number>): Rlimits {
  const atMost = (name: string, value: number): number => Math.min(value, hard.get(name) ?? value);
  const memory = policy.memoryLimitBytes;
  return {
    processes: policy.maxPids > 0 ? atMost('Max processes', policy.maxPids) : 0,
    // No file alone may be larger than all that a call may add: the kernel stops a single one
    // before anybody has to look.
    fileBytes: atMost('Max file size', policy.diskBytes > 0 ? policy.diskBytes : FILE_BYTES_MAX),
    openFiles: atMost('Max open files', OPEN_FILES_MAX),
    dataBytes: memory > 0 ? atMost('Max data size', Math.max(memory, DATA_BYTES_MIN)) : 0,
  };
}
