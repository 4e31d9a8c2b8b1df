/** Processes: one worker a session, no more at once than may be, none left behind. */
import type { Fact } from '../facts.ts';
import type { Report } from './check.ts';

/** Two heartbeats of 10 s, or the time a worker has to become one of a session, and some. */
const FROZEN_MS_MAX = 35_000;
/** A supervisor that is frozen is thawed within this. */
const SUPERVISOR_FROZEN_MS_MAX = 30_000;

interface Bound {
  readonly session: string;
  /** Which supervisor it was bound under. */
  readonly supervisor: number;
}

/** @param maxSessions  that may have a worker at once. */
export function createProcessCheck(maxSessions: number, nowMs: () => number, report: Report) {
  /** Until then nobody may have looked after the workers. */
  let unwatchedUntilMs = 0;
  /** Live workers by their pid. */
  const bound = new Map<number, Bound>();
  let supervisor = 0;
  let failedStarts = 0;
  return {
    onBound({ pid, session }: Extract<Fact, { kind: 'process.bound' }>): void {
      const others = [...bound].filter(([, of]) => of.session === session).map(([pid]) => pid);
      if (others.length > 0) {
        report('one worker', `${session} gets worker ${pid} while ${others.join(', ')} lives`);
      }
      if (bound.has(pid)) report('one worker', `worker ${pid} is given away twice`);
      bound.set(pid, { session, supervisor });
      // Those of an earlier supervisor end with their pipes, a moment later.
      const count = [...bound.values()].filter((each) => each.supervisor === supervisor).length;
      if (count <= maxSessions) return;
      report('capacity', `${session} gets worker ${pid}, the ${count}th of ${maxSessions} at once`);
    },
    onEnded({ pid, room }: Extract<Fact, { kind: 'process.ended' }>): void {
      if (!bound.delete(pid) && room === 'worker') failedStarts += 1;
    },
    onStartFailed(): void {
      failedStarts += 1;
    },
    onSupervisor(): void {
      supervisor += 1;
      unwatchedUntilMs = Math.max(unwatchedUntilMs, nowMs());
    },
    /** A worker that stands still is killed. */
    onThawed({ pid, frozenMs }: Extract<Fact, { kind: 'process.thawed' }>): void {
      const isWatched = nowMs() - frozenMs > unwatchedUntilMs;
      if (!bound.has(pid) || !isWatched || frozenMs <= FROZEN_MS_MAX) return;
      report('heartbeat', `worker ${pid} stood still for ${Math.round(frozenMs)} ms and lives`);
    },
    /** On a full disk deaths cannot be journaled: they are not counted then. */
    onFault(fault: string): void {
      if (fault === 'freeze supervisor') unwatchedUntilMs = nowMs() + SUPERVISOR_FROZEN_MS_MAX;
      if (fault === 'fill disk') failedStarts = Number.POSITIVE_INFINITY;
    },
    /** Starts of workers that came to nothing. */
    failedStarts: (): number => failedStarts,
    onSurvived(pids: readonly number[]): void {
      if (pids.length > 0) report('nothing outlives', `${pids.join(', ')} live after the stop`);
    },
  };
}
