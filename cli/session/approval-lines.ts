/** A call that waits, in lines for a terminal: what it is, why somebody is asked, and what each
 *  answer would mean. Pure; nothing of the model's reaches the terminal unsanitized. */

import {
  describeKeptRule,
  describeSession,
  findQuestion,
  toAnswer,
} from '../../protocol/approval-words.ts';
import type { ResolveApproval } from '../../protocol/resources.ts';
import type { Style } from '../text/style.ts';
import { sanitize, sanitizeLine } from '../text/width.ts';
import type { PendingApproval } from './pieces.ts';

/** What waits, and why: for a log as well as for somebody who may answer. */
export function toApprovalLines(approval: PendingApproval, style: Style): string[] {
  const mark = style.yellow('?');
  const question = findQuestion(approval);
  const call = `(call ${approval.callId})`;
  if (question !== undefined) {
    return [
      `${mark} ${style.bold('the agent asks')} ${call}`,
      ...sanitize(question.question)
        .split('\n')
        .map((line) => `  ${line}`),
      ...question.options.map((option, at) => `  ${at + 1} ${sanitizeLine(option)}`),
    ];
  }
  return [
    `${mark} ${style.bold('approval needed')}: ${approval.tool} ${call}`,
    `  ${approval.summary}`,
    ...(approval.rule === undefined ? [] : [`  asked by ${sanitizeLine(approval.rule)}`]),
  ];
}

/** What the wider answers would allow, before one of them is given. */
export function toScopeLines(approval: PendingApproval, style: Style): string[] {
  if (findQuestion(approval) !== undefined) return [];
  const { keeps } = approval;
  return [
    `  ${style.dim(`session: ${sanitizeLine(describeSession(approval))}`)}`,
    ...(keeps === undefined
      ? []
      : [`  ${style.dim(`rule, from now on: ${sanitizeLine(describeKeptRule(keeps))}`)}`]),
  ];
}

/** The answer that a key gives to a call that was looked at; undefined: the key is no answer. */
export function findAnswer(approval: PendingApproval, key: string): ResolveApproval | undefined {
  const { digest } = approval;
  if (findQuestion(approval) !== undefined) return undefined;
  switch (key) {
    case 'y':
      return { decision: 'approve', scope: 'once', digest };
    case 'a':
      return { decision: 'approve', scope: 'session', digest };
    case 'r':
      return approval.keeps === undefined
        ? undefined
        : { decision: 'approve', scope: 'rule', digest };
    case 'n':
      return { decision: 'deny', digest };
    default:
      return undefined;
  }
}

/** The answer in words to a question; undefined: the call is none. */
export function findReply(approval: PendingApproval, typed: string): ResolveApproval | undefined {
  const question = findQuestion(approval);
  if (question === undefined) return undefined;
  const { digest } = approval;
  return { decision: 'approve', digest, answer: toAnswer(question, typed) };
}
