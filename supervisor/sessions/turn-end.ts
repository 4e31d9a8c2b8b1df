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
/** Of a turn that opened while its session was being closed: nobody saw it to stop it. */
export const CLOSED: Ending = { outcome: 'interrupted', reason: 'closed' };

/** The end of a turn whose input killed every worker that got it. */
export function toQuarantine({ turn }: OpenTurn, quarantine: string): Closing {
  const error = { code: 'WORKER_LOST', message: quarantine };
  return { turn, outcome: 'failed', reason: 'quarantined', error, quarantine };
}

export function toResultEnd(turn: number, { outcome, reason = '', error }: TurnResult): Closing {
  return { turn, outcome, reason, ...(error === undefined ? {} : { error }) };
}

/** Inputs set aside in a row, without anything done in between: then the worker is at fault, and
 *  the inputs that wait are not to be spent on it. */
const QUARANTINES_MAX = 2;

/** @param open the turn as it stands now.
 *  @param quarantines how many inputs were set aside in a row before this one. */
export function toTurnEnd(ending: Ending, open: OpenTurn, quarantines: number): readonly Draft[] {
  const { outcome, reason, error, quarantine } = ending;
  const { turn, input_id, usage, cost_usd, steps } = open;
  const completed = {
    ...{ turn, input_id, outcome, usage, cost_usd, steps },
    ...(reason === '' ? {} : { reason }),
    ...(error === undefined ? {} : { error }),
  };
  const end = draft('turn.completed', completed, { turn });
  if (quarantine === undefined) return [end];
  const setAside = { input_id, reason: quarantine, in_a_row: quarantines + 1 };
  return [draft('input.quarantined', setAside, { turn }), end];
}

/** Why the session is parked after the turn that sets aside this input; undefined: it is not. */
export function findParkReason(ending: Ending, quarantines: number): string | undefined {
  const count = quarantines + 1;
  if (ending.quarantine === undefined || count < QUARANTINES_MAX) return undefined;
  const cause = `${count} inputs in a row killed every worker that got them`;
  return `${cause}, and nothing was done in between: the worker cannot work; ${ending.quarantine}`;
}
