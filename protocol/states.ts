/** The eight session states and their transitions, fixed by design. `running` means open for
 *  work, whether or not a process exists; whether one does is `residency`, what it does is
 *  `activity`. A worker's death changes residency only. */
import { z } from 'zod';
import { PrxError } from '../base/errors.ts';

export const sessionStateSchema = z.enum([
  'created',
  'starting',
  'running',
  'suspended',
  'awaiting',
  'stopping',
  'stopped',
  'failed',
]);
export type SessionState = z.infer<typeof sessionStateSchema>;

export const activitySchema = z.enum(['idle', 'turn', 'waiting']);

/** resident: a worker serves it; queued: waits for a slot; hibernated: no process. */
export const residencySchema = z.enum(['resident', 'starting', 'backoff', 'hibernated', 'queued']);
export type Residency = z.infer<typeof residencySchema>;

export const allowedTransitions: Readonly<Record<SessionState, readonly SessionState[]>> = {
  created: ['starting', 'stopped'],
  starting: ['running', 'failed', 'stopping'],
  running: ['suspended', 'awaiting', 'stopping', 'failed'],
  suspended: ['running', 'stopping', 'failed'],
  awaiting: ['running', 'stopping', 'failed'],
  stopping: ['stopped', 'failed'],
  stopped: ['starting'],
  failed: ['starting'],
};

/** Throws STATE_INVALID, naming the allowed targets. */
export function assertTransition(from: SessionState, to: SessionState): void {
  const targets = allowedTransitions[from];
  if (targets.includes(to)) return;
  throw new PrxError(
    'STATE_INVALID',
    `cannot go from '${from}' to '${to}'; allowed targets: ${targets.join(', ')}`,
    { data: { from, to, allowed: targets } },
  );
}
