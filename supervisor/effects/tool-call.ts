/** A tool call through the gate: policy → approval → reserve (tool.started, synced) → run in the
 *  sandbox → commit → answer. It runs at most once: a call that was reserved and whose end nobody
 *  knows is indeterminate, and its effect class decides (HOUSE invariant 4). */
import type { z } from 'zod';
import { toTimestamp } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { EffectClass, ToolOutcome } from '../../protocol/content.ts';
import { type EventEnvelope, parseEvent } from '../../protocol/events.ts';
import { type EffectId, toToolEffectId } from '../../protocol/ids.ts';
import { runsInSandbox } from '../../protocol/tools.ts';
import type { askRequests } from '../../protocol/worker-methods.ts';
import { type Draft, draft } from '../sessions/journal.ts';
import { isApproved } from './approval-digest.ts';
import type { ApprovalAnswer, Approvals } from './approvals.ts';
import { hasArguments, parseArguments } from './arguments.ts';
import { type Decision, decideCall, toSubject } from './decision.ts';
import {
  effectOf,
  findCustomCallProblem,
  findMcpCallProblem,
  standingOf,
} from './foreign-tools.ts';
import { runOwnTool } from './own-tools.ts';
import { notRun, plainOutcome, stale, toAnswered, toDenial } from './plain-outcomes.ts';
import type { GateDeps } from './ports.ts';
import { isOver, mayGoOn, reserve } from './reserve.ts';
import { toSpoolPath } from './spool.ts';
import { readEnd, runInHost } from './tool-run.ts';

export type ToolAsk = z.infer<(typeof askRequests)['tool/call']['params']>;

interface Call {
  readonly deps: GateDeps;
  readonly approvals: Approvals;
  readonly ask: ToolAsk;
  readonly effect: EffectId;
  readonly effectClass: EffectClass;
  readonly signal: AbortSignal;
}

/** Under which a call may run. */
interface Permit {
  /** Its arguments, as it runs. */
  readonly value: unknown;
  /** What a person said yes to, if one was asked. */
  readonly approved?: Shown;
}

/** A call as it was put before a person. */
interface Shown {
  readonly value: unknown;
  readonly digest: string;
}

/** Re-runs of one call whose outcome stayed unknown. */
const ATTEMPTS_MAX = 5;

/** Where the journal says this call stands. */
interface Past {
  readonly outcome: ToolOutcome | undefined;
  readonly requested: boolean;
  readonly tool: string | undefined;
  /** As the model asked for them. */
  readonly asked: unknown;
  /** Of what was put before a person. */
  readonly digest: string | undefined;
  readonly decision: 'allow' | 'ask' | 'deny' | undefined;
  readonly answer: ApprovalAnswer | undefined;
  readonly attempts: number;
  /** Of the newest reserve. */
  readonly epoch: number | undefined;
  /** As they run: a person may have edited them. */
  readonly arguments: unknown;
}

export async function runToolCall(
  deps: GateDeps,
  approvals: Approvals,
  ask: ToolAsk,
  past: readonly EventEnvelope[],
  signal: AbortSignal,
): Promise<ToolOutcome> {
  const effect = toToolEffectId(ask.turn, ask.step, ask.call);
  const effectClass = effectOf(deps, ask.name);
  const call: Call = { deps, approvals, ask, effect, effectClass, signal };
  const known = readPast(past);
  if (known.outcome !== undefined) return known.outcome;
  if (!known.requested) return requestCall(call);
  if (known.tool !== ask.name || !hasArguments(ask.arguments, known.asked)) throw altered(effect);
  if (known.attempts > 0) return resumeStarted(call, known);
  if (known.decision !== 'ask') return startCall(call, toPermit(known), [], 1);
  return awaitApproval(call, toShown(known), known.answer);
}

const toShown = ({ asked, digest = '' }: Past): Shown => ({ value: asked, digest });

function toPermit(known: Past): Permit {
  const isApproved = known.answer?.decision === 'approve';
  return { value: known.arguments, ...(isApproved ? { approved: toShown(known) } : {}) };
}

/** What was asked for, decided and perhaps approved is one call; this is another one. */
export function altered(effect: EffectId): PrxError {
  const message = `tool call ${effect} was asked for again with another tool or other arguments than the journal has; nothing ran`;
  return new PrxError('CALL_ALTERED', message, { data: { effect } });
}

/** First time: check, decide, and go on as decided. */
async function requestCall(call: Call): Promise<ToolOutcome> {
  const { deps, ask, effect, effectClass } = call;
  if (runsInSandbox(ask.name)) await deps.findSandbox(call.signal);
  if (!(await mayGoOn(call))) return notRun('interrupted');
  const parsed = parseArguments(ask, deps.tools());
  const requested = draft(
    'tool.requested',
    { call_id: effect, tool: ask.name, arguments: parsed.value, effect: effectClass },
    at(call),
  );
  const { value, problem: unparsed } = parsed;
  const question = { tool: ask.name, value, signal: call.signal };
  const problem = unparsed ?? (await findMcpCallProblem(deps, question));
  if (problem !== undefined) return commit(call, plainOutcome('error', problem), [requested]);
  const standing = standingOf(deps, ask.name);
  const verdict = decideCall(deps, ask.name, value);
  const { decision, by, rule, reason } = verdict;
  const decided = draft('tool.decided', { call_id: effect, decision, by, rule }, at(call));
  if (standing.refusal !== undefined && runsInSandbox(ask.name)) {
    return commit(call, plainOutcome('denied', standing.refusal), [requested]);
  }
  if (decision === 'deny') {
    return commit(call, plainOutcome('denied', toDenial(rule, reason)), [requested, decided]);
  }
  if (decision === 'allow') return startCall(call, { value }, [requested, decided], 1);
  const unfit = await findCustomCallProblem(deps, ask.name, value);
  if (unfit !== undefined) return commit(call, plainOutcome('error', unfit), [requested, decided]);
  const isAsked = await reserve(call, () => [
    requested,
    decided,
    ...requestApproval(call, value, verdict),
  ]);
  if (!isAsked) return notRun('interrupted');
  return awaitApproval(call, { value, digest: verdict.digest }, undefined);
}

/** The events that put a call before a person; the session waits in state `awaiting`. */
function requestApproval(call: Call, value: unknown, verdict: Decision): Draft[] {
  const { deps, ask, effect } = call;
  const { digest, rule, covers, keeps } = verdict;
  const drafts: Draft[] = [
    draft(
      'approval.requested',
      {
        call_id: effect,
        digest,
        tool: ask.name,
        arguments: value,
        expires_at: toTimestamp(deps.clock.wallMs() + deps.approvalTimeoutMs()),
        rule,
        covers: [...covers],
        ...(keeps === undefined ? {} : { keeps }),
      },
      at(call),
    ),
  ];
  if (deps.journal.state() === 'running') {
    const reason = `approval of ${ask.name} (${effect})`;
    drafts.push(draft('session.state', { from: 'running', to: 'awaiting', reason }));
  }
  return drafts;
}

async function awaitApproval(
  call: Call,
  shown: Shown,
  known: ApprovalAnswer | undefined,
): Promise<ToolOutcome> {
  const answer =
    known ?? (await call.approvals.wait(call.effect, call.signal)) ?? (await readAnswer(call));
  if (answer.decision === 'approve') {
    return startApproved(call, shown, answer);
  }
  if (answer.decision === 'cancelled') return commit(call, notRun('interrupted'), []);
  const why =
    answer.decision === 'timeout'
      ? 'nobody answered in time'
      : (answer.reason ?? 'no reason given');
  const message = `denied by ${answer.by}: ${why}; do not repeat this call, ask the user how to go on`;
  return commit(call, plainOutcome('denied', message), []);
}

async function startApproved(
  call: Call,
  shown: Shown,
  answer: ApprovalAnswer,
): Promise<ToolOutcome> {
  const value = answer.arguments === undefined ? shown.value : answer.arguments;
  const permit = { value, approved: shown };
  const refused = findRefusal(call, permit);
  if (refused !== undefined) return commit(call, refused, []);
  if (call.ask.name === 'ask_user') return commit(call, toAnswered(answer, value), []);
  return startCall(call, permit, [], 1);
}

/** The policy may have changed since a call was allowed, approved or reserved: what it forbids now
 *  does not run, and what was approved under another one is asked for again. */
function findRefusal({ deps, ask }: Call, { value, approved }: Permit): ToolOutcome | undefined {
  const { decision, by, rule, reason } = decideCall(deps, ask.name, value);
  const isForbidden = decision === 'deny' && by === 'policy';
  if (isForbidden) return plainOutcome('denied', toDenial(rule, reason));
  if (approved === undefined) return undefined;
  const subject = toSubject(deps, ask.name, approved.value);
  return isApproved(approved.digest, subject) ? undefined : stale();
}

/** The answer came between our look into the journal and the wait. None at all: the turn of this
 *  call was closed. */
async function readAnswer({ deps, effect }: Call): Promise<ApprovalAnswer> {
  const { answer } = readPast(await deps.store.readEffect(deps.session, effect));
  return answer ?? { call_id: effect, decision: 'cancelled', by: 'interrupt' };
}

/** Reserves (synced) and runs. */
async function startCall(
  call: Call,
  permit: Permit,
  before: readonly Draft[],
  attempt: number,
): Promise<ToolOutcome> {
  if (call.signal.aborted) return commit(call, notRun('interrupted'), before);
  if (!runsInSandbox(call.ask.name)) return commit(call, runOwnTool(permit.value), before);
  const refused = await prepareHost(call, permit);
  if (refused !== undefined) return commit(call, refused, before);
  if (!(await reserve(call, () => [...before, toStart(call, attempt)]))) {
    return commit(call, notRun('interrupted'), before);
  }
  return runReserved(call, permit, attempt);
}

function toStart(call: Call, attempt: number): Draft {
  const { deps, ask, effect } = call;
  const policy = deps.host.policyDigest(ask.name);
  const standing = {
    level: standingOf(deps, ask.name).level,
    limits: { ...deps.toolLimits() },
    ...(policy === undefined ? {} : { policy }),
  };
  return draft('tool.started', { call_id: effect, ...standing, attempt }, at(call));
}

async function runReserved(call: Call, permit: Permit, attempt: number): Promise<ToolOutcome> {
  // Interrupted while it was being reserved: it certainly did not run.
  if (isOver(call)) return commit(call, notRun('interrupted'), []);
  const outcome = await runInHost(call, permit.value, attempt);
  if (outcome.status !== 'indeterminate') return commit(call, outcome, []);
  return resolveIndeterminate(call, permit, attempt, outcome);
}

/** Reserved, and no host ever heard of it: we died in between. After a power loss the file may be
 *  gone though the call was made. */
function wasNeverSent({ deps, effect }: Call, known: Past): boolean {
  const { stateDir, session, store, spools } = deps;
  const path = toSpoolPath({ stateDir, session, effect, attempt: known.attempts });
  return known.epoch === store.epoch && spools.has?.(path) === false;
}

async function sendReserved(call: Call, known: Past): Promise<ToolOutcome> {
  const { effect } = call;
  const permit = toPermit(known);
  const refused = await prepareHost(call, permit);
  if (refused !== undefined) return commit(call, refused, []);
  const resolved = { id: effect, how: 'sent (it was reserved and never sent)' };
  if (!(await reserve(call, () => [draft('effect.resolved', resolved, at(call))]))) {
    return commit(call, notRun('interrupted'), []);
  }
  return runReserved(call, permit, known.attempts);
}

/** Before the reserve: a call that finds no sandbox never began, and is not indeterminate. The
 *  policy is asked behind it: a host takes its time to start, and is one of the policy of then. */
async function prepareHost(call: Call, permit: Permit): Promise<ToolOutcome | undefined> {
  try {
    await call.deps.host.prepare(call.ask.name);
  } catch (error) {
    // Nobody refused it: a machine without a sandbox is told before, as `denied`.
    const { message } = toPrxError(error);
    return plainOutcome('error', `its process could not be started; nothing ran: ${message}`);
  }
  return findRefusal(call, permit);
}

/** A call that was reserved before we, or its host, died: its spool has the end, or will. */
async function resumeStarted(call: Call, known: Past): Promise<ToolOutcome> {
  const outcome = await readEnd(call, known.attempts);
  const how = outcome.status === 'indeterminate' ? undefined : 'spool';
  if (how !== undefined) {
    const adopted = draft('effect.adopted', { id: call.effect, how }, at(call));
    return commit(call, outcome, [adopted]);
  }
  if (wasNeverSent(call, known)) return sendReserved(call, known);
  return resolveIndeterminate(call, toPermit(known), known.attempts, outcome);
}

/** Never silently re-run or dropped: the effect class decides, and the journal says so. What is
 *  forbidden by now is not re-run. */
async function resolveIndeterminate(
  call: Call,
  permit: Permit,
  attempt: number,
  outcome: ToolOutcome,
): Promise<ToolOutcome> {
  const { effect, effectClass } = call;
  const isRepeatable = effectClass !== 'write' && attempt < ATTEMPTS_MAX;
  const mayRepeat = isRepeatable && findRefusal(call, permit) === undefined;
  const how = mayRepeat ? `re-run (${effectClass})` : `reported (${effectClass})`;
  const resolved = draft('effect.resolved', { id: effect, how }, at(call));
  if (mayRepeat) return startCall(call, permit, [resolved], attempt + 1);
  return commit(call, outcome, [resolved]);
}

async function commit(
  call: Call,
  outcome: ToolOutcome,
  before: readonly Draft[],
): Promise<ToolOutcome> {
  const { deps, effect } = call;
  const { exceeded } = outcome;
  await deps.journal.append(
    ...before,
    ...(exceeded === undefined ? [] : [draft('limit.exceeded', exceeded, at(call))]),
    draft('tool.completed', { call_id: effect, ...outcome }, at(call)),
  );
  deps.spools.remove(deps.stateDir, deps.session, effect);
  return outcome;
}

function readPast(events: readonly EventEnvelope[]): Past {
  let past: Past = {
    outcome: undefined,
    requested: false,
    tool: undefined,
    asked: undefined,
    digest: undefined,
    decision: undefined,
    answer: undefined,
    attempts: 0,
    epoch: undefined,
    arguments: undefined,
  };
  for (const envelope of events) {
    const event = parseEvent(envelope);
    if (event?.type === 'tool.requested') {
      const { tool, arguments: asked } = event.data;
      past = { ...past, requested: true, tool, asked, arguments: asked };
    } else if (event?.type === 'approval.requested') {
      past = { ...past, digest: event.data.digest };
    } else if (event?.type === 'tool.decided') {
      past = { ...past, decision: event.data.decision };
    } else if (event?.type === 'approval.resolved') {
      const edited = event.data.arguments;
      past = {
        ...past,
        answer: event.data,
        arguments: edited === undefined ? past.arguments : edited,
      };
    } else if (event?.type === 'tool.started') {
      past = { ...past, attempts: event.data.attempt ?? 1, epoch: envelope.epoch };
    } else if (event?.type === 'tool.completed') {
      const { call_id: _, ...outcome } = event.data;
      past = { ...past, outcome };
    }
  }
  return past;
}

function at(call: Call): { turn: number; effect: EffectId } {
  return { turn: call.ask.turn, effect: call.effect };
}
