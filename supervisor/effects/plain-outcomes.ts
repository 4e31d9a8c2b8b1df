/** Outcomes of calls that did not run: what the model reads, and what it may do next. */
import { findQuestion, toAnswer } from '../../protocol/approval-words.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { ApprovalAnswer } from './approvals.ts';

export function plainOutcome(status: ToolOutcome['status'], output: string): ToolOutcome {
  return { status, output, duration_ms: 0, truncated: false };
}

export function notRun(why: 'interrupted'): ToolOutcome {
  return plainOutcome('cancelled', `not run: the turn was ${why}`);
}

export function stale(): ToolOutcome {
  const message =
    'APPROVAL_STALE: the policy, the sandbox or the workspace changed since this call was put before a person, so the approval does not cover it; nothing ran. If it is still needed, call the tool again: it is decided anew.';
  return plainOutcome('denied', message);
}

/** @param value  the arguments of the question: an answer may be the number of an option. */
export function toAnswered({ answer, by }: ApprovalAnswer, value: unknown): ToolOutcome {
  const question = findQuestion({ tool: 'ask_user', arguments: value });
  const given = answer === undefined || question === undefined ? '' : toAnswer(question, answer);
  const said = given === '' ? '(no words; go on as you think best)' : given;
  return plainOutcome('ok', `${by} answers: ${said}`);
}

export function toDenial(rule: string, reason: string | undefined): string {
  const why = reason === undefined ? '' : `: ${reason}`;
  return `denied by policy (${rule})${why}; do not repeat this call, find another way or say what you need`;
}
