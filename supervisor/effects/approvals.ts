/** Approvals of one session: who waits for which answer. The answer is whatever the journal says
 *  (`approval.resolved`), whoever wrote it: a person, the timeout, or an interrupt. */
import { background } from '../../base/background.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { EventData, EventEnvelope } from '../../protocol/events.ts';
import { parseEvent } from '../../protocol/events.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { ResolveApproval } from '../../protocol/resources.ts';
import type { PendingApproval, Store } from '../../store/contract.ts';
import { type Draft, draft, type SessionJournal } from '../sessions/journal.ts';
import type { Delivery } from './approval-webhook.ts';
import { findArgumentProblem } from './arguments.ts';
import type { Decision } from './decision.ts';
import type { KeptRules } from './policy/kept-rules.ts';

export type ApprovalAnswer = EventData<'approval.resolved'>;

export interface Approvals {
  /** Resolves with the journaled answer. When the signal aborts, `cancelled` is journaled.
   *  Undefined: nothing is pending (any more); an answer stands in the journal already. */
  wait(effect: EffectId, signal: AbortSignal): Promise<ApprovalAnswer | undefined>;
  /** Journals a person's answer, the first one. @throws APPROVAL_NOT_FOUND, APPROVAL_RESOLVED,
   *  APPROVAL_MISMATCH, TOOL_ARGUMENTS_INVALID, POLICY_DENIED, INVALID_REQUEST, LIMIT_EXCEEDED. */
  resolve(effect: EffectId, params: ResolveApproval, by: string): Promise<void>;
  /** Every event of the session passes here. */
  onEvent(event: EventEnvelope): void;
  close(): void;
}

interface Answering {
  readonly by: string;
  /** False: it could not be. */
  readonly written: Promise<boolean>;
}

/** An answer of ours that could not be written (a full disk) is written again after this, ms. */
const RETRY_MS = 1000;

export interface ApprovalDeps {
  readonly session: SessionId;
  readonly journal: SessionJournal;
  readonly store: Pick<Store, 'readEffect'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What policy says of a call now. */
  readonly decide: (tool: string, value: unknown) => Decision;
  readonly kept: Pick<KeptRules, 'keep'>;
  /** Tells people outside that something waits; never rejects. */
  readonly notify: (approval: PendingApproval) => Promise<Delivery | undefined>;
}

export function createApprovals(deps: ApprovalDeps): Approvals {
  const { journal, clock, logger } = deps;
  const waiting = new Map<EffectId, (answer: ApprovalAnswer) => void>();
  const timers = new Map<EffectId, Timer>();
  /** Answers on their way into the journal: the first one that gets there wins. */
  const answering = new Map<EffectId, Answering>();
  let closed = false;

  const findPending = (effect: EffectId): PendingApproval | undefined =>
    journal.record().approvals.find((each) => each.call_id === effect);

  /** @param prepare  what is done first, by whoever is first, and adds to the answer. */
  async function answer(
    effect: EffectId,
    given: ApprovalAnswer,
    prepare: () => Promise<Partial<ApprovalAnswer>> = async () => ({}),
  ): Promise<void> {
    for (let first = answering.get(effect); first !== undefined; first = answering.get(effect)) {
      // One that cannot be written was none, and its giver is told so: then this one counts.
      if (await first.written) throw resolvedBy(effect, { by: first.by });
      if (findPending(effect) === undefined) throw await whyNotPending(deps, effect);
    }
    const { promise: written, resolve: mark } = Promise.withResolvers<boolean>();
    let isWritten = false;
    answering.set(effect, { by: given.by, written });
    try {
      const data = { ...given, ...(await prepare()) };
      const drafts: Draft[] = [draft('approval.resolved', data, { effect })];
      const others = journal.record().approvals.filter((each) => !answering.has(each.call_id));
      if (journal.state() === 'awaiting' && others.length === 0) {
        const reason = `approval of ${effect}: ${data.decision}`;
        drafts.push(draft('session.state', { from: 'awaiting', to: 'running', reason }));
      }
      await journal.append(...drafts);
      isWritten = true;
    } finally {
      answering.delete(effect);
      mark(isWritten);
    }
  }

  function arm(effect: EffectId, delayMs: number, fire: () => void): void {
    if (closed) return;
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
      again();
    });
  }

  /** Also where nobody asks at present: its worker may have been taken away meanwhile. A wall clock
   *  that was set back lets it wait no longer than it may from now on. */
  function armTimeout({ call_id: effect, requested_at, expires_at }: PendingApproval): void {
    const reason = 'security.approval.timeout_secs passed without an answer';
    const expiresMs = Date.parse(expires_at);
    const leftMs = Math.min(expiresMs - clock.wallMs(), expiresMs - Date.parse(requested_at));
    arm(effect, Math.max(0, leftMs), () =>
      settle(effect, { call_id: effect, decision: 'timeout', by: 'timeout', reason }),
    );
  }

  for (const pending of journal.record().approvals) armTimeout(pending);

  async function tell(pending: PendingApproval): Promise<void> {
    const delivery = await deps.notify(pending);
    if (delivery === undefined || closed) return;
    const { call_id: effect } = pending;
    await journal.append(draft('approval.notified', { call_id: effect, ...delivery }, { effect }));
  }

  return {
    wait(effect, signal) {
      if (findPending(effect) === undefined) return Promise.resolve(undefined);
      return new Promise((resolve) => {
        const onAbort = (): void =>
          settle(effect, { call_id: effect, decision: 'cancelled', by: 'interrupt' });
        waiting.set(effect, (data) => {
          signal.removeEventListener('abort', onAbort);
          waiting.delete(effect);
          resolve(data);
        });
        signal.addEventListener('abort', onAbort, { once: true });
        if (signal.aborted) onAbort();
      });
    },
    async resolve(effect, params, by) {
      const pending = findPending(effect);
      if (pending === undefined) throw await whyNotPending(deps, effect);
      checkAnswer(pending, params);
      const { decision, reason, answer: said, scope = 'once' } = params;
      const data: ApprovalAnswer = {
        ...{ call_id: effect, decision, by, scope },
        ...(reason === undefined ? {} : { reason }),
        ...(said === undefined ? {} : { answer: said }),
        ...(params.arguments === undefined ? {} : toEdited(deps, pending, params.arguments)),
      };
      const { keeps } = pending;
      await answer(effect, data, async () => {
        if (scope !== 'rule' || keeps === undefined) return {};
        return { kept: (await deps.kept.keep(keeps, by)).id };
      });
    },
    onEvent(envelope) {
      if (!envelope.type.startsWith('approval.')) return;
      const event = parseEvent(envelope);
      if (event?.type === 'approval.requested') {
        const pending = findPending(event.data.call_id);
        if (pending === undefined) return;
        armTimeout(pending);
        background(tell(pending), 'approval.tell', logger);
      }
      if (event?.type !== 'approval.resolved') return;
      const { call_id: effect } = event.data;
      timers.get(effect)?.cancel();
      timers.delete(effect);
      waiting.get(effect)?.(event.data);
    },
    close() {
      closed = true;
      for (const timer of timers.values()) timer.cancel();
      timers.clear();
    },
  };
}

/** @throws APPROVAL_MISMATCH, INVALID_REQUEST. */
function checkAnswer(pending: PendingApproval, params: ResolveApproval): void {
  const { call_id, tool, digest, keeps } = pending;
  if (params.digest !== undefined && params.digest !== digest) {
    const message = `the answer is for a call with digest ${params.digest}; ${call_id} (${tool}) waits with ${digest}: look at it again`;
    throw new PrxError('APPROVAL_MISMATCH', message, { data: { digest } });
  }
  if (params.answer !== undefined && tool !== 'ask_user') {
    const message = `${call_id} is a call of ${tool}, no question: answer is for ask_user; use reason to say something to the model`;
    throw new PrxError('INVALID_REQUEST', message);
  }
  if (params.scope !== 'rule') return;
  if (params.decision === 'deny') {
    const message = `a denial is kept nowhere: write [[security.rules]] with action = "deny" for ${tool}`;
    throw new PrxError('INVALID_REQUEST', message);
  }
  if (keeps === undefined || params.arguments !== undefined) {
    const why =
      keeps === undefined
        ? `this call of ${tool} is too long, or names a path that cannot be resolved`
        : 'a rule is kept for the call as it was asked, not as it was edited';
    throw new PrxError('INVALID_REQUEST', `no rule can be kept: ${why}; use scope once or session`);
  }
}

/** @throws TOOL_ARGUMENTS_INVALID, POLICY_DENIED. */
function toEdited(
  deps: ApprovalDeps,
  { call_id, tool }: PendingApproval,
  value: unknown,
): Pick<ApprovalAnswer, 'arguments' | 'digest'> {
  const problem = findArgumentProblem(tool, value);
  if (problem !== undefined) throw new PrxError('TOOL_ARGUMENTS_INVALID', problem);
  const { decision, by, rule, digest } = deps.decide(tool, value);
  if (decision === 'deny' && by === 'policy') {
    const message = `the edited call ${call_id} is denied by policy (${rule}); edit it otherwise, or deny it`;
    throw new PrxError('POLICY_DENIED', message, { data: { rule } });
  }
  return { arguments: value, digest };
}

async function whyNotPending(deps: ApprovalDeps, effect: EffectId): Promise<PrxError> {
  const past = await deps.store.readEffect(deps.session, effect);
  const found = past.findLast(({ type }) => type === 'approval.resolved');
  const event = found === undefined ? undefined : parseEvent(found);
  if (event?.type === 'approval.resolved') {
    const { by, decision } = event.data;
    return resolvedBy(effect, { by, decision, at: event.time });
  }
  const known =
    deps.journal
      .record()
      .approvals.map((each) => each.call_id)
      .join(', ') || 'none';
  const message = `no approval is pending for call ${effect}; pending: ${known}`;
  return new PrxError('APPROVAL_NOT_FOUND', message);
}

function resolvedBy(
  effect: EffectId,
  first: { readonly by: string; readonly decision?: string; readonly at?: string },
): PrxError {
  const what = first.decision === undefined ? '' : ` (${first.decision}, ${first.at})`;
  const message = `approval of ${effect} already resolved by ${first.by}${what}; the first answer counts`;
  return new PrxError('APPROVAL_RESOLVED', message, { data: { ...first } });
}
