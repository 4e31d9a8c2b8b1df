/** Approvals of one session: who waits for which answer. The answer is whatever the journal says
 *  (`approval.resolved`), whoever wrote it: a person, the timeout, or an interrupt. */
import type { Clock, Timer } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import type { EventData, EventEnvelope } from '../../protocol/events.ts';
import { parseEvent } from '../../protocol/events.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { ResolveApproval } from '../../protocol/resources.ts';
import type { PendingApproval } from '../../store/contract.ts';
import { type Draft, draft, type SessionJournal } from '../sessions/journal.ts';
import { findArgumentProblem } from './arguments.ts';

export type ApprovalAnswer = EventData<'approval.resolved'>;

export interface Approvals {
  /** Resolves with the journaled answer. When the signal aborts, `cancelled` is journaled. */
  wait(effect: EffectId, signal: AbortSignal): Promise<ApprovalAnswer>;
  /** Journals a person's answer. @throws APPROVAL_NOT_FOUND, TOOL_ARGUMENTS_INVALID. */
  resolve(effect: EffectId, params: ResolveApproval, by: string): Promise<void>;
  /** Every event of the session passes here. */
  onEvent(event: EventEnvelope): void;
  close(): void;
}

export function createApprovals(journal: SessionJournal, clock: Clock): Approvals {
  const waiting = new Map<EffectId, (answer: ApprovalAnswer) => void>();
  const timers = new Map<EffectId, Timer>();
  /** Answers on their way into the journal: the first one wins. */
  const answering = new Set<EffectId>();

  const findPending = (effect: EffectId): PendingApproval | undefined =>
    journal.record().approvals.find((each) => each.call_id === effect);

  async function answer(pending: PendingApproval, data: ApprovalAnswer): Promise<void> {
    const effect = pending.call_id;
    if (answering.has(effect)) {
      throw new PrxError(
        'APPROVAL_RESOLVED',
        `the approval of ${effect} is being answered already`,
      );
    }
    answering.add(effect);
    try {
      const drafts: Draft[] = [draft('approval.resolved', data, { effect })];
      const { state, approvals } = journal.record();
      const others = approvals.filter((each) => !answering.has(each.call_id));
      if (state === 'awaiting' && others.length === 0) {
        const reason = `approval of ${effect}: ${data.decision}`;
        drafts.push(draft('session.state', { from: 'awaiting', to: 'running', reason }));
      }
      await journal.append(...drafts);
    } finally {
      answering.delete(effect);
    }
  }

  function expire(effect: EffectId): void {
    const pending = findPending(effect);
    if (pending === undefined || answering.has(effect)) return;
    const reason = 'security.approval.timeout_secs passed without an answer';
    void answer(pending, { call_id: effect, decision: 'timeout', by: 'timeout', reason });
  }

  return {
    wait(effect, signal) {
      return new Promise((resolve) => {
        const pending = findPending(effect);
        const leftMs = pending === undefined ? 0 : Date.parse(pending.expires_at) - clock.wallMs();
        const onAbort = (): void => {
          const open = findPending(effect);
          if (open === undefined || answering.has(effect)) return;
          void answer(open, { call_id: effect, decision: 'cancelled', by: 'interrupt' });
        };
        waiting.set(effect, (data) => {
          signal.removeEventListener('abort', onAbort);
          timers.get(effect)?.cancel();
          timers.delete(effect);
          waiting.delete(effect);
          resolve(data);
        });
        timers.set(
          effect,
          clock.setTimer(leftMs, () => expire(effect)),
        );
        signal.addEventListener('abort', onAbort, { once: true });
        if (signal.aborted) onAbort();
      });
    },
    async resolve(effect, params, by) {
      const pending = findPending(effect);
      if (pending === undefined) {
        const known =
          journal
            .record()
            .approvals.map((each) => each.call_id)
            .join(', ') || 'none';
        const message = `no approval is pending for call ${effect}; pending: ${known}`;
        throw new PrxError('APPROVAL_NOT_FOUND', message);
      }
      const problem =
        params.arguments === undefined
          ? undefined
          : findArgumentProblem(pending.tool, params.arguments);
      if (problem !== undefined) throw new PrxError('TOOL_ARGUMENTS_INVALID', problem);
      await answer(pending, {
        call_id: effect,
        decision: params.decision,
        by,
        ...(params.reason === undefined ? {} : { reason: params.reason }),
        scope: params.scope ?? 'once',
        ...(params.arguments === undefined ? {} : { arguments: params.arguments }),
      });
    },
    onEvent(envelope) {
      if (envelope.type !== 'approval.resolved') return;
      const event = parseEvent(envelope);
      if (event?.type === 'approval.resolved') waiting.get(event.data.call_id)?.(event.data);
    },
    close() {
      for (const timer of timers.values()) timer.cancel();
      timers.clear();
    },
  };
}
