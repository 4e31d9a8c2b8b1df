/** The memory watch: samples the resident set of every worker through pidusage and kills one that
 *  is over the limit. The V8 heap ceiling (a launch flag) lies below; this catches what is off
 *  the heap. */
import pidusage from 'pidusage';
import type { Clock, Timer } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { Worker } from './workers.ts';

export interface MemoryWatch {
  /** Highest sample of a live worker, bytes. */
  peakOf(pid: number): number | undefined;
  stop(): void;
}

const INTERVAL_MS = 1000;

export function startMemoryWatch(deps: {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly workers: () => readonly Worker[];
  readonly limitBytes: () => number;
  readonly onExceeded: (worker: Worker, bytes: number) => void;
}): MemoryWatch {
  const peaks = new Map<number, number>();
  let timer: Timer;
  let stopped = false;

  async function sample(): Promise<void> {
    const workers = deps.workers();
    const pids = workers.map((worker) => worker.pid);
    for (const pid of peaks.keys()) if (!pids.includes(pid)) peaks.delete(pid);
    const stats = pids.length === 0 ? {} : await pidusage(pids);
    for (const worker of workers) {
      const bytes = stats[worker.pid]?.memory;
      if (bytes === undefined) continue;
      peaks.set(worker.pid, Math.max(bytes, peaks.get(worker.pid) ?? 0));
      if (bytes > deps.limitBytes()) deps.onExceeded(worker, bytes);
    }
  }

  function schedule(): void {
    if (stopped) return;
    timer = deps.clock.setTimer(INTERVAL_MS, () => {
      sample()
        .catch((error: unknown) => deps.logger.debug('memory.sample_failed', { error }))
        .finally(schedule);
    });
  }
  schedule();
  return {
    peakOf: (pid) => peaks.get(pid),
    stop() {
      stopped = true;
      timer.cancel();
    },
  };
}
