/** How a turn ends: the events that close it. Pure. */
import type { TurnOutcome } from '../../protocol/content.ts';
import type { OpenTurn } from '../../store/contract.ts';
import type { TurnResult } from '../children/workers.ts';
import { type Draft, draft } from './journal.ts';

export interface Ending {
  readonly outcome: TurnOutcome;
  /** '': none to tell. */
  readonly reason: string;
  readonly error?: TurnResult['error'];
  /** Why its input is set aside with it. */
  readonly quarantine?: string;
}

/** A turn whose end is decided and not journaled yet. */
export interface Closing extends Ending {
  readonly turn: number;
}

export const INTERRUPTED: Ending = { outcome: 'interrupted', reason: 'interrupt' };

/** The end of a turn whose input killed every worker that got it. */
export function toQuarantine({ turn }: OpenTurn, quarantine: string): Closing {
  const error = { code: 'WORKER_LOST', message: quarantine };
  return { turn, outcome: 'failed', reason: 'quarantined', error, quarantine };
}

export function toResultEnd(turn: number, { outcome, reason = '', error }: TurnResult): Closing {
  return { turn, outcome, reason, ...(error === undefined ? {} : { error }) };
}

/** @param open the turn as it stands now. */
export function toTurnEnd(ending: Ending, open: OpenTurn): readonly Draft[] {
  const { outcome, reason, error, quarantine } = ending;
  const { turn, input_id, usage, cost_usd, steps } = open;
  const completed = {
    ...{ turn, input_id, outcome, usage, cost_usd, steps },
    ...(reason === '' ? {} : { reason }),
    ...(error === undefined ? {} : { error }),
  };
  const end = draft('turn.completed', completed, { turn });
  if (quarantine === undefined) return [end];
  return [draft('input.quarantined', { input_id, reason: quarantine }, { turn }), end];
}
