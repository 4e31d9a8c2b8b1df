/** `top` with a call that waits before a person: keys answer it, or type the answer to a question.
 *  Pure, as model.ts and render.ts. The same keys as in `attach`. */
import { findQuestion } from '../../protocol/approval-words.ts';
import type { ApprovalView } from '../../protocol/resources.ts';
import type { Key } from '../attach/keys.ts';
import { findAnswer, findReply, toApprovalLines, toScopeLines } from '../session/approval-lines.ts';
import type { PendingApproval } from '../session/pieces.ts';
import { summarizeArguments } from '../session/tool-summary.ts';
import { formatClock } from '../text/format.ts';
import { sanitizeLine, wrapIndented } from '../text/width.ts';
import { type Frame, findSelected, type Known, type Pressed, type TopState } from './model.ts';

/** The oldest that waits of the chosen session, else of all. */
function findWaiting(state: TopState, known: Known): ApprovalView | undefined {
  const chosen = findSelected(state, known)?.id;
  return known.approvals.find(({ session }) => session === chosen) ?? known.approvals[0];
}

/** What is before the person; undefined: answered meanwhile, by somebody else or by time. */
function findDecided(state: TopState, known: Known): ApprovalView | undefined {
  const { deciding } = state;
  return known.approvals.find(
    ({ session, call_id: callId }) => session === deciding?.session && callId === deciding.callId,
  );
}

export function openDecision(state: TopState, known: Known): TopState {
  const waiting = findWaiting(state, known);
  if (waiting === undefined) return { ...state, asked: undefined, note: 'nothing waits for you' };
  const { session, call_id: callId } = waiting;
  return { ...state, asked: undefined, note: '', deciding: { session, callId, typed: '' } };
}

export function pressDeciding(state: TopState, key: Key, known: Known): Pressed {
  const closed: TopState = { ...state, deciding: undefined, note: '' };
  const waiting = findDecided(state, known);
  const typed = state.deciding?.typed ?? '';
  if (waiting === undefined || (key.kind === 'named' && key.name === 'escape')) {
    return { state: closed, effect: undefined };
  }
  const { session, call_id: callId } = waiting;
  const approval = toPending(waiting);
  const type = (text: string): Pressed => ({
    state: { ...state, deciding: { session, callId, typed: text } },
    effect: undefined,
  });
  const isQuestion = findQuestion(approval) !== undefined;
  if (isQuestion && (key.kind === 'text' || key.kind === 'paste')) return type(typed + key.text);
  if (isQuestion && key.kind === 'named' && key.name === 'backspace') {
    return type(typed.slice(0, -1));
  }
  const answer = isQuestion
    ? toReply(approval, key, typed)
    : key.kind === 'text'
      ? findAnswer(approval, key.text)
      : undefined;
  if (answer === undefined) return { state, effect: undefined };
  const effect = { name: 'answer', session, callId, answer } as const;
  return { state: { ...closed, note: 'answer …' }, effect };
}

function toReply(approval: PendingApproval, key: Key, typed: string) {
  if (key.kind === 'ctrl' && key.letter === 'd') return { decision: 'deny' as const };
  const isEnter = key.kind === 'named' && key.name === 'enter';
  return isEnter && typed.trim() !== '' ? findReply(approval, typed) : undefined;
}

export function renderDecision(state: TopState, known: Known, frame: Frame): string[] {
  const { style, columns, rows } = frame;
  const waiting = findDecided(state, known);
  if (waiting === undefined) return ['It waits no longer: somebody answered, or its time is over.'];
  const approval = toPending(waiting);
  const view = known.sessions.find(({ id }) => id === waiting.session);
  const name = sanitizeLine(view?.name ?? waiting.session);
  const about = style.dim(`session ${name} · until ${formatClock(waiting.expires_at)}`);
  const wrap = (line: string): string[] => wrapIndented(line, columns);
  const rule = approval.keeps === undefined ? '' : 'r by a rule · ';
  const how =
    findQuestion(approval) === undefined
      ? [style.bold(`y once · a for this session · ${rule}n deny · Escape later`)]
      : [
          `› ${sanitizeLine(state.deciding?.typed ?? '')}▏`,
          style.bold('Enter answers, with a number or in words · Ctrl-D declines · Escape later'),
        ];
  const foot = [...how, ...toScopeLines(approval, style)].flatMap(wrap);
  const call = [about, '', ...toApprovalLines(approval, style)].flatMap(wrap);
  const room = Math.max(3, rows - foot.length - 1);
  const cut =
    call.length > room ? [...call.slice(0, room - 1), '  … more: approvals --json'] : call;
  return [...cut, '', ...foot];
}

function toPending(view: ApprovalView): PendingApproval {
  const { tool, arguments: args, digest, rule, covers, keeps } = view;
  return {
    ...{ tool, arguments: args, digest, rule, covers, keeps },
    callId: view.call_id,
    summary: summarizeArguments(tool, args),
    expiresAt: view.expires_at,
  };
}
