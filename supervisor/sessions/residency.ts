/** What a session shows of its worker, and what the journal says of it. They differ while a change
 *  cannot be written (a full disk): that it has no worker is written when there is room, because
 *  nothing else may come to be written of a session that rests. */
import type { Clock, Timer } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Residency } from '../../protocol/states.ts';
import { draft, type SessionJournal } from './journal.ts';

export interface ResidencyDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly journal: Pick<SessionJournal, 'append'>;
}

export interface ResidencyTracker {
  now(): Residency;
  /** Shown at once. Resolves when it is journaled; rejects as the journal does. */
  move(to: Residency, reason: string): Promise<void>;
  /** The journal says something else. */
  isOwed(): boolean;
  close(): void;
}

/** What could not be written is written again after this, ms. */
const RETRY_MS = 1000;

export function createResidencyTracker(deps: ResidencyDeps): ResidencyTracker {
  const { clock, logger, journal } = deps;
  let shown: Residency = 'hibernated';
  let journaled: Residency = 'hibernated';
  /** On its way there, the newest. */
  let sent: Residency | undefined;
  let timer: Timer | undefined;
  let closed = false;

  const isOwed = (): boolean => (sent ?? journaled) !== shown;

  async function write(to: Residency, reason: string): Promise<void> {
    timer?.cancel();
    if (!isOwed()) return;
    const from = sent ?? journaled;
    sent = to;
    try {
      await journal.append(draft('session.residency', { from, to, reason }));
      journaled = to;
      if (sent === to) sent = undefined;
    } catch (error) {
      sent = undefined;
      // What fails for another reason (the store is closed, its record is damaged) fails for good.
      if (!isPrxError(error, 'STORE_DEGRADED')) journaled = shown;
      else if (shown === 'hibernated') writeLater(reason);
      throw error;
    }
  }

  function writeLater(reason: string): void {
    if (closed) return;
    timer?.cancel();
    timer = clock.setTimer(RETRY_MS, () => {
      write('hibernated', reason).catch((error: unknown) => {
        logger.debug('session.residency_not_journaled', { error });
      });
    });
  }

  return {
    now: () => shown,
    async move(to, reason) {
      if (shown === to) return;
      shown = to;
      await write(to, reason);
    },
    isOwed,
    close() {
      closed = true;
      timer?.cancel();
    },
  };
}
