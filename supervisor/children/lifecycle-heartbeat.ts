/** Two-step heartbeat of a child: one late answer is logged, the second in a row is a death. Both
 *  fit into two heartbeats. After a pause of our own (a stopped process, a suspended machine)
 *  nothing counts as late, nor while we do not read what the child says. */
import type { Clock, Timer } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { ChildKind, ExitCause } from './child.ts';

export interface HeartbeatDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly kind: ChildKind;
  readonly intervalMs: () => number;
  /** Back-pressure: its answer may wait in the pipe. Absent: never. */
  readonly isHeld?: () => boolean;
  /** Rejects when there is no answer within the time. */
  readonly ping: (timeoutMs: number) => Promise<unknown>;
}

interface Pulse {
  readonly pid: number;
  readonly exited: Promise<unknown>;
  isAlive(): boolean;
  kill(cause: ExitCause): void;
}

/** A timer that fires this much late, ms, shows that we stood still ourselves. */
const OVERSLEPT_MS = 1000;

/** Beats until the child's death. */
export function startHeartbeat(deps: HeartbeatDeps, child: Pulse): void {
  const { clock } = deps;
  let timer: Timer;

  function schedule(): void {
    timer = clock.setTimer(deps.intervalMs(), () => ask(false));
  }

  function ask(isLate: boolean): void {
    const timeoutMs = deps.intervalMs() / 2;
    const askedMs = clock.nowMs();
    deps.ping(timeoutMs).then(schedule, (error: unknown) => {
      // A closed pipe is no silence: its death, whatever the cause, is on its way.
      if (!child.isAlive() || isPrxError(error, 'PEER_CLOSED')) return;
      if (deps.isHeld?.() === true) return schedule();
      if (clock.nowMs() - askedMs > timeoutMs + OVERSLEPT_MS) return ask(false);
      deps.logger.warn('child.late', { child: deps.kind, pid: child.pid, final: isLate });
      if (isLate) child.kill('unresponsive');
      else ask(true);
    });
  }

  schedule();
  void child.exited.then(() => timer.cancel());
}
