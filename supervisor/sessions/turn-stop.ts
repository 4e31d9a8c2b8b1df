/** Stops of the open turn from outside: by a person, a new input, the close of the session, a limit
 *  of time. The tombstone is written first; only when it is durable is anything signalled, and the
 *  first cause wins. */
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { draft, type SessionJournal } from './journal.ts';
import type { PassedLimit } from './turn-clock.ts';
import type { Closing, Ending } from './turn-end.ts';

export interface TurnStopDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly journal: SessionJournal;
  readonly isHalted: () => boolean;
  /** The tombstone of this turn is durable: what runs of it is told to stop. */
  readonly cancel: (turn: number) => void;
}

export interface TurnStop {
  /** Ends this turn so, as soon as its tombstone is durable: its effects are cancelled. A turn
   *  that ended meanwhile stays as it ended. Rejects as `tombstone` does. */
  stop(turn: number, ending: Ending, tombstone: Promise<unknown>): Promise<void>;
  /** Its time has passed: it is stopped, also where that can be journaled only later. */
  onLimit(turn: number, passed: PassedLimit): void;
  /** How the turn was stopped; undefined: it was not. */
  endingOf(turn: number): Ending | undefined;
}

/** After a failure (a full disk) a limit is looked at again after this, ms. */
const RETRY_MS = 1000;

export function createTurnStop(deps: TurnStopDeps): TurnStop {
  const { clock, journal } = deps;
  let stopping: Closing | undefined;

  async function stop(turn: number, ending: Ending, tombstone: Promise<unknown>): Promise<void> {
    const own = { turn, ...ending };
    // The first cause wins. It is known before it is durable: nothing starts from here on, and
    // the worker may end the turn by itself because of that.
    if (stopping?.turn !== turn) stopping = own;
    try {
      await tombstone;
    } catch (error) {
      if (stopping === own) stopping = undefined;
      throw error;
    }
    if (journal.record().open_turn?.turn === turn) deps.cancel(turn);
  }

  function onLimit(turn: number, passed: PassedLimit): void {
    const { limit, max, reason } = passed;
    const open = journal.record().open_turn;
    if (open?.turn !== turn || journal.isStopped() || deps.isHalted()) return;
    const tombstone = journal.append(
      draft('limit.exceeded', { limit, value: max, max }, { turn }),
      draft('interrupt.accepted', { source: 'timeout', outcome: 'timeout', reason }, { turn }),
    );
    stop(turn, { outcome: 'timeout', reason }, tombstone).catch((error: unknown) => {
      deps.logger.error('turn.timeout_failed', { error });
      clock.setTimer(RETRY_MS, () => onLimit(turn, passed));
    });
  }

  return {
    stop,
    onLimit,
    endingOf: (turn) => (stopping?.turn === turn && journal.isStopped() ? stopping : undefined),
  };
}
