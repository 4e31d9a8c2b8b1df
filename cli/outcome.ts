/** Exit codes: of errors (the closed table has one per code) and of turns. Pure. */
import { errorTable, isErrorCode, type PrxError } from '../base/errors.ts';
import type { TurnOutcome } from '../protocol/content.ts';

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  notRunning: 3,
  denied: 5,
  limit: 6,
  busy: 75,
  config: 78,
  timeout: 124,
  interrupted: 130,
} as const;

const OUTCOME_EXIT: Readonly<Record<TurnOutcome, number>> = {
  completed: EXIT.done,
  interrupted: EXIT.interrupted,
  max_turns: EXIT.limit,
  budget: EXIT.limit,
  timeout: EXIT.timeout,
  refused: EXIT.failed,
  failed: EXIT.failed,
};

export interface TurnResult {
  readonly outcome: TurnOutcome;
  /** Code of the error that ended it, if one did. */
  readonly errorCode?: string | undefined;
  /** Tool calls of the turn that were denied. */
  readonly deniedCount?: number;
}

/** A turn that ended well although a call in it was denied is not wholly done: 5 says so. */
export function toTurnExit(result: TurnResult): number {
  const { outcome, errorCode, deniedCount = 0 } = result;
  if (outcome === 'failed' && isErrorCode(errorCode)) return errorTable[errorCode].exit;
  const isDone = outcome === 'completed' || outcome === 'refused';
  return isDone && deniedCount > 0 ? EXIT.denied : OUTCOME_EXIT[outcome];
}

export function toErrorExit(error: PrxError): number {
  return errorTable[error.code].exit;
}
