/** What is known of a worker's death reaches the journal, also where that takes no writes at
 *  present: then it is kept until there is room again. Never more than one is kept: until it is
 *  written the session gets no other worker. Only the death of the supervisor takes it along. */
import { background } from '../../base/background.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Draft, SessionJournal } from './journal.ts';

export interface ObituaryDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly journal: Pick<SessionJournal, 'append'>;
}

export interface Obituary {
  /** Never rejects: a full disk does not keep the dead among the living. */
  write(exited: Draft<'worker.exited'>): Promise<void>;
  /** Writes what is kept; rejects as the journal does. */
  flush(): Promise<void>;
  /** Appends at once, or behind the death that is being written: whatever becomes of the disk in
   *  between, no generation begins in the journal before the one before it has ended there. */
  behind(append: () => Promise<unknown>): Promise<void>;
  /** One is kept. */
  isOwed(): boolean;
  close(): void;
}

/** What could not be written is written again after this, ms. */
const RETRY_MS = 1000;

export function createObituary({ clock, logger, journal }: ObituaryDeps): Obituary {
  let kept: Draft | undefined;
  let writing: Promise<void> | undefined;
  let first: Promise<void> | undefined;
  let timer: Timer | undefined;
  let closed = false;

  async function append(exited: Draft): Promise<void> {
    timer?.cancel();
    try {
      await journal.append(exited);
      kept = undefined;
    } catch (error) {
      // What fails for another reason (the store is closed, its record is damaged) fails for good.
      kept = isPrxError(error, 'STORE_DEGRADED') ? exited : undefined;
      logger.warn('worker.exit_not_journaled', { isKept: kept !== undefined, error });
      const again = (): void => background(flush(), 'session.obituary', logger);
      if (kept !== undefined && !closed) timer = clock.setTimer(RETRY_MS, again);
      throw error;
    }
  }

  function flush(): Promise<void> {
    if (kept === undefined) return Promise.resolve();
    writing ??= append(kept).finally(() => {
      writing = undefined;
    });
    return writing;
  }

  return {
    flush,
    isOwed: () => kept !== undefined,
    write(exited) {
      const written = append(exited)
        .catch(() => undefined)
        .finally(() => {
          if (first === written) first = undefined;
        });
      first = written;
      return written;
    },
    async behind(add) {
      if (first !== undefined) await first;
      if (kept !== undefined) await flush();
      await add();
    },
    close() {
      closed = true;
      timer?.cancel();
    },
  };
}
