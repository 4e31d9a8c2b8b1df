/** What the model reads of a tool call: one text, a pure function of the outcome. Status first
 *  (when it is not plain success), then the output, then what must be known about it. */
import type { ToolOutcome, ToolStatus } from '../protocol/content.ts';
import { isConfining } from '../protocol/sandbox-levels.ts';

const statusSentence: Readonly<Record<ToolStatus, string>> = {
  ok: '',
  error: 'The call failed.',
  denied: 'The call was denied and did not run.',
  timeout: 'The call ran out of time and was killed.',
  memory: 'The call used more memory than it may and was killed.',
  killed: 'The call was killed.',
  cancelled: 'The call was cancelled.',
  indeterminate: 'It is not known whether this call took effect: find out before you do it again.',
};

/** The result of a call beyond the limit of one step; such a call is never asked for. */
export function formatSurplus(limit: number): string {
  return (
    `[status: error] Not run: one step may make at most ${limit} tool calls. ` +
    'Ask for this call again in a later step if it is still needed.'
  );
}

/** The outcome of a call that has none: its turn ended before it was run. In the words of the
 *  folded journal, so that a worker that stays and one that is started later say the same. */
export const NOT_RUN: ToolOutcome = {
  status: 'cancelled',
  output: 'This call was not run: the turn ended before it.',
  duration_ms: 0,
  truncated: false,
};

export function formatToolResult(outcome: ToolOutcome): string {
  const lines = [formatStatus(outcome), outcome.output === '' ? '(no output)' : outcome.output];
  if (outcome.artifact !== undefined) {
    // No tool reads an artifact, and of a flood it is not the whole.
    const kept = `artifact ${outcome.artifact} is for the user`;
    lines.push(`[output cut; ${kept}; to see another part yourself, ask for that part alone]`);
  } else if (outcome.truncated) {
    lines.push('[output cut]');
  }
  if (outcome.notice !== undefined) lines.push(`[notice: ${outcome.notice}]`);
  if (outcome.level !== undefined && !isConfining(outcome.level)) {
    lines.push(`[isolation: ${outcome.level}]`);
  }
  return lines.filter((line) => line !== '').join('\n');
}

function formatStatus(outcome: ToolOutcome): string {
  const { status, exit_code: exitCode } = outcome;
  const failedExit = exitCode !== undefined && exitCode !== 0;
  if (status === 'ok' && !failedExit) return '';
  const exit = exitCode === undefined ? '' : `, exit code ${exitCode}`;
  return `[status: ${status}${exit}] ${statusSentence[status]}`.trimEnd();
}
