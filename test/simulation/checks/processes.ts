/** Processes: one worker a session, none left behind. */
import type { Fact } from '../facts.ts';
import type { Report } from './check.ts';

export function createProcessCheck(report: Report) {
  /** Live workers by session. */
  const bound = new Map<number, string>();
  let failedStarts = 0;
  return {
    onBound({ pid, session }: Extract<Fact, { kind: 'process.bound' }>): void {
      const others = [...bound].filter(([, of]) => of === session).map(([other]) => other);
      if (others.length > 0) {
        report('one worker', `${session} gets worker ${pid} while ${others.join(', ')} lives`);
      }
      if (bound.has(pid)) report('one worker', `worker ${pid} is given away twice`);
      bound.set(pid, session);
    },
    onEnded({ pid, room }: Extract<Fact, { kind: 'process.ended' }>): void {
      if (!bound.delete(pid) && room === 'worker') failedStarts += 1;
    },
    onStartFailed(): void {
      failedStarts += 1;
    },
    /** On a full disk deaths cannot be journaled: they are not counted then. */
    onFault(fault: string): void {
      if (fault === 'fill disk') failedStarts = Number.POSITIVE_INFINITY;
    },
    /** Starts of workers that came to nothing. */
    failedStarts: (): number => failedStarts,
    onSurvived(pids: readonly number[]): void {
      if (pids.length > 0) report('nothing outlives', `${pids.join(', ')} live after the stop`);
    },
  };
}
