/** Every promise that can be judged from a history, in the order of a report. */
import type { History, Violation } from '../history.ts';
import { checkInputs } from './inputs.ts';
import { checkModels } from './models.ts';
import { checkSequences } from './sequence.ts';
import { checkSessions } from './sessions.ts';
import { checkTools } from './tools.ts';

export function checkHistory(history: History): readonly Violation[] {
  return [checkSequences, checkInputs, checkTools, checkModels, checkSessions].flatMap((check) =>
    check(history),
  );
}
