/** How a compaction cuts the turn at its boundary: the same for the journal's reader and for the
 *  worker, which must make the same requests after a restart. Pure. */
import type { StepRecord, TurnRecord } from './content.ts';

/** The turn from `step` on. What the user said in the steps before stays, like the turn's input:
 *  in front of the first step that stays. */
export function cutTurn(turn: TurnRecord, step: number): TurnRecord {
  const kept = turn.steps.filter((record) => record.step >= step);
  const steer = turn.steps.filter((record) => record.step < step).flatMap((record) => record.steer);
  if (steer.length === 0) return { ...turn, steps: kept };
  const empty: StepRecord = { step, steer: [], message: { text: '', tool_calls: [] }, results: [] };
  const [first = empty, ...rest] = kept;
  return { ...turn, steps: [{ ...first, steer: [...steer, ...first.steer] }, ...rest] };
}
