/** The memory watch. Two sources: the monitor (a process of its own that samples all workers at
 *  once) and, near a limit or when its sample is late, our own scan of the worker's whole tree.
 *  Either may enforce; the event says which. The V8 heap ceiling (a launch flag) lies below the
 *  limit; this catches what is off the heap. The nearer to the limit, the more often it looks. */
import pidusage from 'pidusage';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Cgroups } from './cgroup.ts';
import {
  GROUND,
  INTERVAL_MS_MAX,
  isNear,
  isPressed,
  type Ladder,
  stepLadder,
  toIntervalMs,
} from './limits.ts';
import type { ScanTrees } from './tree.ts';
import type { Worker } from './workers.ts';

export interface MemorySample {
  readonly bytes: number;
  readonly limitBytes: number;
  readonly source: 'monitor' | 'scan';
}

export interface MemoryRecord {
  readonly peakBytes: number;
  /** The newest samples, oldest first, at most CURVE_MAX. */
  readonly curve: readonly { readonly ago_ms: number; readonly rss_bytes: number }[];
}

export interface MemoryWatch {
  recordOf(pid: number): MemoryRecord | undefined;
  /** It is over the soft mark although it was asked to collect. */
  isPressed(pid: number): boolean;
  stop(): void;
}

/** Resident bytes of each of the processes that is there. */
export type ReadRss = (pids: readonly number[]) => Promise<ReadonlyMap<number, number>>;

/** Within this process: for the monitor, and where there is none. */
export const readRealRss: ReadRss = async (pids) => {
  if (pids.length === 0) return new Map();
  const stats = await pidusage([...pids]);
  const found = new Map<number, number>();
  // Of a process that died there is an entry without a value.
  for (const pid of pids) {
    const bytes = stats[pid]?.memory;
    if (bytes !== undefined) found.set(pid, bytes);
  }
  return found;
};

export interface MemoryWatchDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly readRss: ReadRss;
  /** Absent: there is only one source. */
  readonly scanTrees?: ScanTrees | undefined;
  readonly workers: () => readonly Worker[];
  readonly limitBytes: () => number;
  /** Who has the workers that are no spares. */
  readonly residents: () => readonly MemoryOwner[];
}

export interface MemoryOwner {
  /** Of its session. */
  readonly logger: Logger;
  worker(): Worker | undefined;
  /** `soft`: over the soft mark, for the first time since it was well below. `hard`: it was killed
   *  for it a moment ago. */
  onMemory(level: 'soft' | 'hard', sample: MemorySample): void;
}

interface Watched {
  readonly worker: Worker;
  readonly samples: { readonly atMs: number; readonly bytes: number }[];
  peakBytes: number;
  ladder: Ladder;
}

/** A sample that takes longer is late: the scan does not wait for it. */
const LATE_MS = 100;
/** What a worker started is seen by the scan alone, however small the worker is itself. */
const SCAN_ALL_MS = 2000;
/** 0.2 ms each. */
const SCAN_AT_ONCE = 2;
const CURVE_MAX = 32;
/** A dead worker's curve is kept until its death is journaled. */
const KEPT_MS = 10_000;

export function startMemoryWatch(deps: MemoryWatchDeps): MemoryWatch {
  const { clock, logger } = deps;
  const watched = new Map<number, Watched>();
  let reading: Promise<unknown> | undefined;
  let timer: Timer;
  let stopped = false;
  let scannedMs = clock.nowMs();

  /** Undefined: late, or failed. At most one question is under way. */
  async function ask(pids: readonly number[]): Promise<ReadonlyMap<number, number> | undefined> {
    if (reading !== undefined) return undefined;
    const asked = deps.readRss(pids).catch((error: unknown) => {
      logger.debug('memory.sample_failed', { error });
      return undefined;
    });
    reading = asked.finally(() => {
      reading = undefined;
    });
    const waited = new AbortController();
    const late = clock.sleep(LATE_MS, waited.signal).then(() => undefined);
    const answer = await Promise.race([asked, late]);
    waited.abort();
    return answer;
  }

  /** A few at a time: nobody's tokens flow while it looks. */
  async function scan(
    workers: readonly Worker[],
    limitBytes: number,
  ): Promise<ReadonlyMap<number, number>> {
    const { scanTrees } = deps;
    const found = new Map<number, number>();
    if (scanTrees === undefined) return found;
    for (let at = 0; at < workers.length; at += SCAN_AT_ONCE) {
      if (at > 0) await clock.sleep(0);
      try {
        const roots = workers.slice(at, at + SCAN_AT_ONCE).map(({ rootPid }) => rootPid);
        for (const [pid, bytes] of scanTrees(roots, limitBytes)) found.set(pid, bytes);
      } catch (error) {
        logger.debug('memory.scan_failed', { error });
      }
    }
    return found;
  }

  /** Looks once. Resolves with the time until the next look, ms. */
  async function look(): Promise<number> {
    const workers = deps.workers();
    forget(workers);
    const limitBytes = deps.limitBytes();
    // A worker may come at any time, and has the whole limit to use up.
    if (workers.length === 0) return toIntervalMs(limitBytes);
    const sampled = await ask(workers.map(({ pid }) => pid));
    if (stopped) return INTERVAL_MS_MAX;
    const isDue = clock.nowMs() - scannedMs >= SCAN_ALL_MS;
    if (isDue) scannedMs = clock.nowMs();
    const suspects = workers.filter(({ pid }) => {
      if (isDue) return true;
      const bytes = sampled?.get(pid);
      return bytes === undefined || isNear(bytes, limitBytes);
    });
    const scanned = await scan(suspects, limitBytes);
    if (stopped) return INTERVAL_MS_MAX;
    let headroom = limitBytes;
    for (const worker of workers) {
      const sample = choose(sampled?.get(worker.pid), scanned.get(worker.rootPid), limitBytes);
      if (sample === undefined || !worker.isAlive()) continue;
      headroom = Math.min(headroom, limitBytes - sample.bytes);
      apply(worker, sample);
    }
    return toIntervalMs(headroom);
  }

  function apply(worker: Worker, sample: MemorySample): void {
    const known = watched.get(worker.pid);
    const own: Watched =
      known?.worker === worker ? known : { worker, samples: [], peakBytes: 0, ladder: GROUND };
    watched.set(worker.pid, own);
    own.samples.push({ atMs: clock.nowMs(), bytes: sample.bytes });
    if (own.samples.length > CURVE_MAX) own.samples.shift();
    own.peakBytes = Math.max(own.peakBytes, sample.bytes);
    const { ladder, action } = stepLadder(own.ladder, sample.bytes, sample.limitBytes);
    own.ladder = ladder;
    if (action === 'none') return;
    const owner = deps.residents().find((each) => each.worker() === worker);
    (owner?.logger ?? logger).warn('worker.memory', { pid: worker.pid, action, ...sample });
    if (action === 'kill') worker.kill('memory');
    owner?.onMemory(action === 'kill' ? 'hard' : 'soft', sample);
  }

  function forget(workers: readonly Worker[]): void {
    for (const [pid, { worker, samples }] of watched) {
      const lastMs = samples.at(-1)?.atMs ?? 0;
      if (!workers.includes(worker) && clock.nowMs() - lastMs > KEPT_MS) watched.delete(pid);
    }
  }

  function schedule(delayMs: number): void {
    if (stopped) return;
    timer = clock.setTimer(delayMs, () => {
      look().then(schedule, (error: unknown) => {
        logger.warn('memory.watch_failed', { error });
        schedule(INTERVAL_MS_MAX);
      });
    });
  }
  schedule(toIntervalMs(deps.limitBytes()));
  return {
    recordOf(pid) {
      const own = watched.get(pid);
      if (own === undefined) return undefined;
      const nowMs = clock.nowMs();
      const curve = own.samples.map(({ atMs, bytes }) => ({
        ago_ms: Math.round(nowMs - atMs),
        rss_bytes: bytes,
      }));
      return { peakBytes: own.peakBytes, curve };
    },
    isPressed(pid) {
      const own = watched.get(pid);
      return own !== undefined && isPressed(own.ladder);
    },
    stop() {
      stopped = true;
      timer.cancel();
    },
  };
}

/** Who keeps a worker within its memory, besides the heap ceiling of the worker's own runtime. */
export function toMemoryEnforcement(has: {
  readonly scanTrees?: ScanTrees;
  readonly cgroups?: Cgroups | undefined;
}): string[] {
  const scan = has.scanTrees === undefined ? [] : ['scan'];
  return [
    'monitor',
    ...scan,
    ...(has.cgroups?.controllers.includes('memory') ? [`cgroup ${has.cgroups.version}`] : []),
  ];
}

/** The greater of the two: a tree is at least its root. */
function choose(
  sampled: number | undefined,
  scanned: number | undefined,
  limitBytes: number,
): MemorySample | undefined {
  if (scanned !== undefined && scanned > (sampled ?? 0)) {
    return { bytes: scanned, limitBytes, source: 'scan' };
  }
  return sampled === undefined ? undefined : { bytes: sampled, limitBytes, source: 'monitor' };
}
