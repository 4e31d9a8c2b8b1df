/** Keeps a running call within its limits as a whole: memory, processor time, disk. It looks more
 *  often the nearer the call is to a limit; a call of a few milliseconds is over before the first
 *  look, and what the kernel counts by itself is only asked about. */
import type { Clock, Timer } from '../base/clock.ts';
import type { SandboxPolicy } from '../protocol/sandbox-methods.ts';
import type { CommandTree } from './launch/command-tree.ts';
import { type GrowthWatch, readRealFree, watchGrowth } from './launch/growth.ts';

/** 0: no limit of ours, for each. */
export interface TreeLimits {
  readonly memoryBytes: number;
  readonly cpuMs: number;
  readonly diskBytes: number;
  readonly files: number;
  /** The folders whose growth counts. */
  readonly roots: readonly string[];
}

/** A limit by the name of its configuration key, in the unit of that key. */
export interface Breach {
  readonly limit: 'memory_limit_mb' | 'max_cpu_secs' | 'max_disk_mb' | 'max_files';
  readonly value: number;
  readonly max: number;
}

export interface TreeWatch {
  /** Ends the watch. What the kernel enforced is known only now.
   *  @param isEarly  somebody else ended the call first. */
  finish(): { readonly breach: Breach | undefined; readonly peakBytes: number | undefined };
}

export interface TreeWatchSpec {
  readonly clock: Clock;
  readonly tree: CommandTree;
  readonly limits: TreeLimits;
  readonly onBreach: () => void;
  /** Called at each look. */
  readonly onLook?: () => void;
  /** Wall time since when what appears on the disk is this tree's; undefined: others write there
   *  now. Absent: since its start. */
  readonly growthSince?: (() => number | undefined) | undefined;
}

const LOOK_MS_MIN = 10;
const LOOK_MS_MAX = 100;
/** A look takes at most this share of the time while the call is far from its memory limit, and up
 *  to the other one close to it. One share for both was seen to fail: of a tree of many processes
 *  the exact look took 22 ms and said "3 MiB left", so the next came 100 ms and 370 MiB later. */
const LOOK_SHARE_FAR = 0.1;
const LOOK_SHARE_NEAR = 0.5;
/** Beyond this part of its limit a call is no longer far from it. */
const NEARNESS_FAR = 0.5;
/** Processor time has a limit of seconds; each reading of it is one more file per process. */
const CPU_LOOK_MS = 100;
/** The growth we plan for, bytes per millisecond: four times the fastest that was measured on one
 *  core, because on a busy machine a look comes late. */
const GROWTH_BYTES_PER_MS = 8e6;
/** The kernel stamps files by a clock that may be a tick behind. */
const STAMP_SLACK_MS = 10;

/** @param temporary  a folder on the disk, beside what the policy names. */
export function toTreeLimits(policy: SandboxPolicy, temporary: string | undefined): TreeLimits {
  return {
    memoryBytes: policy.memoryLimitBytes,
    cpuMs: policy.cpuMs,
    diskBytes: policy.diskBytes,
    files: policy.filesMax,
    roots: [
      ...[policy.workspace, ...policy.writablePaths],
      ...(temporary === undefined ? [] : [temporary]),
    ],
  };
}

/** How long not to look, from the end of a look that took `lookMs`: until the limit could be
 *  reached, and as long as the share of looks asks for. Pure.
 *  @param used  as well as it is known: by the exact look, where there was one. */
export function decideRestMs(
  used: { readonly bytes: number; readonly maxBytes: number },
  lookMs: number,
): number {
  const { bytes, maxBytes } = used;
  const headroom = maxBytes === 0 ? Number.POSITIVE_INFINITY : maxBytes - bytes;
  const nearness = maxBytes === 0 ? 0 : Math.min(1, bytes / maxBytes);
  const beyond = Math.max(0, (nearness - NEARNESS_FAR) / (1 - NEARNESS_FAR));
  const share = LOOK_SHARE_FAR + (LOOK_SHARE_NEAR - LOOK_SHARE_FAR) * beyond;
  const restMs = Math.max(headroom / GROWTH_BYTES_PER_MS, lookMs / share - lookMs);
  return Math.min(LOOK_MS_MAX, Math.max(LOOK_MS_MIN, restMs));
}

export function watchTree(spec: TreeWatchSpec): TreeWatch {
  const { clock, tree, limits } = spec;
  /** The most there was since the call began: what others give back hides nothing of it. */
  let machineMost = limits.memoryBytes === 0 ? undefined : tree.machineBytes();
  let growthMs = clock.wallMs() - STAMP_SLACK_MS;
  let growth = watchDisk(limits, growthMs);
  let breach: Breach | undefined;
  let peakBytes = 0;
  let cpuReadMs = clock.nowMs();
  let timer: Timer | undefined;
  let open = true;

  function look(): void {
    if (!open) return;
    const startMs = clock.nowMs();
    spec.onLook?.();
    const memory = lookAtMemory();
    breach = memory.breach ?? findCpu(startMs) ?? findGrowth();
    if (breach !== undefined) {
      spec.onBreach();
      return;
    }
    const used = { bytes: memory.bytes, maxBytes: limits.memoryBytes };
    schedule(decideRestMs(used, clock.nowMs() - startMs));
  }

  function lookAtMemory(): { readonly bytes: number; readonly breach?: Breach } {
    const max = limits.memoryBytes;
    const quick = tree.measure('quick') ?? 0;
    if (tree.wasOutOfMemory()) {
      return { bytes: quick, breach: toBreach('memory_limit_mb', max, max) };
    }
    const rough = quick + findHidden(quick);
    peakBytes = Math.max(peakBytes, Math.min(rough, max === 0 ? rough : max));
    if (max === 0 || rough <= max) return { bytes: rough };
    // Held still: the exact look takes long enough to use as much again.
    const thaw = tree.freeze();
    const exact = tree.measure('exact') ?? 0;
    const bytes = exact + findHidden(exact);
    if (bytes > max) return { bytes, breach: toBreach('memory_limit_mb', bytes, max) };
    thaw();
    return { bytes };
  }

  /** What the sizes of its processes do not explain: no more than the machine has lost, and no more
   *  than this tree can hold so. Both, because a machine has others. */
  function findHidden(seen: number): number {
    if (limits.memoryBytes === 0 || machineMost === undefined) return 0;
    const left = tree.machineBytes() ?? machineMost;
    machineMost = Math.max(machineMost, left);
    const lost = machineMost - left;
    if (lost <= limits.memoryBytes || lost <= seen) return 0;
    return tree.measureHideable(lost - seen);
  }

  function findCpu(nowMs: number): Breach | undefined {
    const max = limits.cpuMs;
    if (max === 0 || nowMs - cpuReadMs < CPU_LOOK_MS) return undefined;
    cpuReadMs = nowMs;
    const cpuMs = tree.readCpuMs() ?? 0;
    return cpuMs > max ? toBreach('max_cpu_secs', cpuMs, max) : undefined;
  }

  /** Held still while it is counted, or it would be far beyond when the count ends. */
  function findGrowth(): Breach | undefined {
    const sinceMs = spec.growthSince === undefined ? growthMs : spec.growthSince();
    if (sinceMs === undefined) return undefined;
    if (sinceMs > growthMs) {
      growthMs = sinceMs;
      growth = watchDisk(limits, growthMs);
    }
    if (growth?.isSuspicious() !== true) return undefined;
    const thaw = tree.freeze();
    const { bytes, files } = growth.count({
      folders: tree.openFileFolders(),
      countHeld: () => tree.countHeldFiles(),
    });
    const { diskBytes, files: filesMax } = limits;
    if (diskBytes > 0 && bytes > diskBytes) return toBreach('max_disk_mb', bytes, diskBytes);
    if (filesMax > 0 && files > filesMax) return toBreach('max_files', files, filesMax);
    thaw();
    return undefined;
  }

  function schedule(restMs: number): void {
    timer = clock.setTimer(restMs, look);
  }
  schedule(LOOK_MS_MIN);
  return {
    finish() {
      open = false;
      timer?.cancel();
      const peak = tree.peakBytes() ?? (peakBytes > 0 ? peakBytes : undefined);
      const max = limits.memoryBytes;
      if (breach === undefined && tree.wasOutOfMemory()) {
        breach = toBreach('memory_limit_mb', Math.max(max, peak ?? 0), max);
      }
      return { breach, peakBytes: peak };
    },
  };
}

function watchDisk(limits: TreeLimits, sinceMs: number): GrowthWatch | undefined {
  const { diskBytes, files, roots } = limits;
  if (diskBytes === 0 && files === 0) return undefined;
  const orNone = (value: number): number => (value === 0 ? Number.POSITIVE_INFINITY : value);
  const maxima = { bytesMax: orNone(diskBytes), filesMax: orNone(files) };
  return watchGrowth({ roots, limits: maxima, startedMs: sinceMs, readFree: readRealFree });
}

const units: Readonly<Record<Breach['limit'], number>> = {
  memory_limit_mb: 2 ** 20,
  max_cpu_secs: 1000,
  max_disk_mb: 2 ** 20,
  max_files: 1,
};

function toBreach(limit: Breach['limit'], value: number, max: number): Breach {
  const unit = units[limit];
  return { limit, value: Math.round((value / unit) * 10) / 10, max: max / unit };
}
