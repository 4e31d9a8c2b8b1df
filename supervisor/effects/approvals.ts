/** Approvals of one session: who waits for which answer. The answer is whatever the journal says
 *  (`approval.resolved`), whoever wrote it: a person, the timeout, or an interrupt. */
import type { Clock, Timer } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { EventData, EventEnvelope } from '../../protocol/events.ts';
import { parseEvent } from '../../protocol/events.ts';
import type { EffectId } from '../../protocol/ids.ts';
import type { ResolveApproval } from '../../protocol/resources.ts';
import type { PendingApproval } from '../../store/contract.ts';
import { type Draft, draft, type SessionJournal } from '../sessions/journal.ts';
import { findArgumentProblem } from './arguments.ts';

export type ApprovalAnswer = EventData<'approval.resolved'>;

export interface Approvals {
  /** Resolves with the journaled answer. When the signal aborts, `cancelled` is journaled.
   *  Undefined: nothing is pending (any more); an answer stands in the journal already. */
  wait(effect: EffectId, signal: AbortSignal): Promise<ApprovalAnswer | undefined>;
  /** Journals a person's answer. @throws APPROVAL_NOT_FOUND, TOOL_ARGUMENTS_INVALID. */
  resolve(effect: EffectId, params: ResolveApproval, by: string): Promise<void>;
  /** Every event of the session passes here. */
  onEvent(event: EventEnvelope): void;
  close(): void;
}

/** An answer of ours that could not be written (a full disk) is written again after this, ms. */
const RETRY_MS = 1000;

export function createApprovals(journal: SessionJournal, clock: Clock, logger: Logger): Approvals {
  const waiting = new Map<EffectId, (answer: ApprovalAnswer) => void>();
  const timers = new Map<EffectId, Timer>();
  /** Answers on their way into the journal: the first one wins. */
  const answering = new Set<EffectId>();
  let closed = false;

  const findPending = (effect: EffectId): PendingApproval | undefined =>
    journal.record().approvals.find((each) => each.call_id === effect);

  async function answer(effect: EffectId, data: ApprovalAnswer): Promise<void> {
    if (answering.has(effect)) {
      const message = `the approval of ${effect} is being answered already`;
      throw new PrxError('APPROVAL_RESOLVED', message);
    }
    answering.add(effect);
    try {
      const drafts: Draft[] = [draft('approval.resolved', data, { effect })];
      const others = journal.record().approvals.filter((each) => !answering.has(each.call_id));
      if (journal.state() === 'awaiting' && others.length === 0) {
        const reason = `approval of ${effect}: ${data.decision}`;
        drafts.push(draft('session.state', { from: 'awaiting', to: 'running', reason }));
      }
      await journal.append(...drafts);
    } finally {
      answering.delete(effect);
    }
  }

  function arm(effect: EffectId, delayMs: number, fire: () => void): void {
    timers.get(effect)?.cancel();
    timers.set(effect, clock.setTimer(delayMs, fire));
  }

  /** Our own answer, not a person's: repeated until some answer stands in the journal, because
   *  nobody else will give one. */
  function settle(effect: EffectId, data: ApprovalAnswer): void {
    if (closed || findPending(effect) === undefined) return;
    const again = (): void => arm(effect, RETRY_MS, () => settle(effect, data));
    if (answering.has(effect)) {
      again();
      return;
    }
    answer(effect, data).catch((error: unknown) => {
      logger.warn('approval.not_written', { effect, error });
      if (!closed) again();
    });
  }

  return {
    wait(effect, signal) {
      const pending = findPending(effect);
      if (pending === undefined) return Promise.resolve(undefined);
      return new Promise((resolve) => {
        const onAbort = (): void =>
          settle(effect, { call_id: effect, decision: 'cancelled', by: 'interrupt' });
        waiting.set(effect, (data) => {
          signal.removeEventListener('abort', onAbort);
          timers.get(effect)?.cancel();
          timers.delete(effect);
          waiting.delete(effect);
          resolve(data);
        });
        const reason = 'security.approval.timeout_secs passed without an answer';
        arm(effect, Date.parse(pending.expires_at) - clock.wallMs(), () =>
          settle(effect, { call_id: effect, decision: 'timeout', by: 'timeout', reason }),
        );
        signal.addEventListener('abort', onAbort, { once: true });
        if (signal.aborted) onAbort();
      });
    },
    async resolve(effect, params, by) {
      const pending = findPending(effect);
      if (pending === undefined) throw notPending(effect, journal.record().approvals);
      const problem =
        params.arguments === undefined
          ? undefined
          : findArgumentProblem(pending.tool, params.arguments);
      if (problem !== undefined) throw new PrxError('TOOL_ARGUMENTS_INVALID', problem);
      await answer(effect, {
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
      closed = true;
      for (const timer of timers.values()) timer.cancel();
      timers.clear();
    },
  };
}

function notPending(effect: EffectId, approvals: readonly PendingApproval[]): PrxError {
  const known = approvals.map((each) => each.call_id).join(', ') || 'none';
  const message = `no approval is pending for call ${effect}; pending: ${known}`;
  return new PrxError('APPROVAL_NOT_FOUND', message);
}
