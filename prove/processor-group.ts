/** A control group of the processor for the supervisor of a proof, as its unit would give it. Below
 *  the root group, where a shell stands, the kernel weighs sessions of processes and not what we
 *  ask for. The proof itself, whose model server and clients stand for other machines, has one
 *  beside it that goes before it. cgroup v1 and root only. */
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

export interface ProcessorGroup {
  /** What it starts is in the group before its program begins. */
  readonly around: readonly string[];
  /** Removes it, and what is empty in it. */
  close(): void;
}

const MOUNT = '/sys/fs/cgroup/cpu';
const OWN = '/proc/self/cgroup';
/** The most the kernel takes. */
const SHARES_MAX = 262_144;
const GONE_MS = 1000;
const LOOK_MS = 10;

/** @param uid  may divide it; absent: root. */
export function createProcessorGroup(uid: number | undefined): ProcessorGroup | undefined {
  if (process.getuid?.() !== 0 || !existsSync(join(MOUNT, 'cgroup.procs'))) return undefined;
  const folder = join(MOUNT, `prx-prove-${process.pid}-${Math.round(performance.now())}`);
  const outside = `${folder}-outside`;
  const own = /^\d+:(?:[^:]*,)?cpu(?:,[^:]*)?:(\/.*)$/m.exec(readFileSync(OWN, 'utf8'));
  try {
    for (const path of [folder, outside]) mkdirSync(path);
  } catch {
    return undefined; // Read-only, as in a container.
  }
  writeFileSync(join(outside, 'cpu.shares'), String(SHARES_MAX));
  enter(outside);
  if (uid !== undefined) {
    for (const path of [folder, join(folder, 'cgroup.procs')]) chownSync(path, uid, uid);
  }
  return {
    around: ['/bin/sh', '-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', folder],
    close() {
      enter(join(MOUNT, own?.[1] ?? '/'));
      for (const path of [folder, outside]) removeTree(path);
    },
  };
}

/** For a shell that runs beside both. */
export const AS_STRANGER = `echo $$ > ${MOUNT}/cgroup.procs 2>/dev/null;`;

const enter = (group: string): void =>
  writeFileSync(join(group, 'cgroup.procs'), String(process.pid));

function removeTree(folder: string): void {
  for (const inner of readdirSync(folder, { withFileTypes: true })) {
    if (inner.isDirectory()) removeTree(join(folder, inner.name));
  }
  removeGroup(folder);
}

/** Whoever was killed stays in it for a moment. Also called at the exit of this process, where
 *  nothing can be awaited. */
export function removeGroup(folder: string): void {
  for (let left = GONE_MS; left > 0; left -= LOOK_MS) {
    try {
      rmdirSync(folder);
      return;
    } catch {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOK_MS);
    }
  }
}
