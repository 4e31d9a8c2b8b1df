/** Processes: one worker a session, none left behind. */
import type { Fact } from '../facts.ts';
import type { Report } from './check.ts';

export function createProcessCheck(report: Report) {
  /** Live workers by session. */
  const bound = new Map<number, string>();
  return {
    onBound({ pid, session }: Extract<Fact, { kind: 'process.bound' }>): void {
      const others = [...bound].filter(([, of]) => of === session).map(([other]) => other);
      if (others.length > 0) {
        report('one worker', `${session} gets worker ${pid} while ${others.join(', ')} lives`);
      }
      if (bound.has(pid)) report('one worker', `worker ${pid} is given away twice`);
      bound.set(pid, session);
    },
    onEnded: (pid: number): void => void bound.delete(pid),
    onSurvived(pids: readonly number[]): void {
      if (pids.length > 0) report('nothing outlives', `${pids.join(', ')} live after the stop`);
    },
  };
}
