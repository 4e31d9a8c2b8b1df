/** A tool call through the gate: policy → approval → reserve (tool.started, synced) → run in the
 *  sandbox → commit → answer. It runs at most once: a call that was reserved and whose end nobody
 *  knows is indeterminate, and its effect class decides (HOUSE invariant 4). */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { toTimestamp } from '../../base/clock.ts';
import { toPrxError } from '../../base/errors.ts';
import type { EffectClass, ToolOutcome } from '../../protocol/content.ts';
import { type EventEnvelope, parseEvent } from '../../protocol/events.ts';
import { type EffectId, toToolEffectId } from '../../protocol/ids.ts';
import { toolSpoolRecordSchema } from '../../protocol/sandbox-methods.ts';
import { isToolName, toolTable } from '../../protocol/tools.ts';
import type { askRequests } from '../../protocol/worker-methods.ts';
import { type Draft, draft } from '../sessions/journal.ts';
import type { ApprovalAnswer, Approvals } from './approvals.ts';
import { parseArguments } from './arguments.ts';
import { decideTool } from './policy.ts';
import type { GateDeps } from './ports.ts';
import { tailSpool, toSpoolPath } from './spool.ts';

export type ToolAsk = z.infer<(typeof askRequests)['tool/call']['params']>;

interface Call {
  readonly deps: GateDeps;
  readonly approvals: Approvals;
  readonly ask: ToolAsk;
  readonly effect: EffectId;
  readonly effectClass: EffectClass;
  readonly signal: AbortSignal;
}

/** Re-runs of one call whose outcome stayed unknown. */
const ATTEMPTS_MAX = 5;

/** Where the journal says this call stands. */
interface Past {
  readonly outcome: ToolOutcome | undefined;
  readonly requested: boolean;
  readonly decision: 'allow' | 'ask' | 'deny' | undefined;
  readonly answer: ApprovalAnswer | undefined;
  readonly attempts: number;
  /** Of the newest reserve. */
  readonly epoch: number | undefined;
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
  const effectClass = isToolName(ask.name) ? toolTable[ask.name].effect : 'write';
  const call: Call = { deps, approvals, ask, effect, effectClass, signal };
  const known = readPast(past);
  if (known.outcome !== undefined) return known.outcome;
  if (known.attempts > 0) return resumeStarted(call, known);
  if (!known.requested) return requestCall(call);
  if (known.decision === 'ask') return awaitApproval(call, known.arguments, known.answer);
  return startCall(call, known.arguments, [], 1);
}

/** First time: check, decide, and go on as decided. */
async function requestCall(call: Call): Promise<ToolOutcome> {
  const { deps, ask, effect, effectClass } = call;
  if ((await deps.permission()) === 'stop' || call.signal.aborted) return notRun('interrupted');
  const parsed = parseArguments(ask, deps.tools);
  const requested = draft(
    'tool.requested',
    { call_id: effect, tool: ask.name, arguments: parsed.value, effect: effectClass },
    at(call),
  );
  if (parsed.problem !== undefined) {
    return commit(call, plainOutcome('error', parsed.problem), [requested]);
  }
  const record = deps.journal.record();
  const standing = deps.sandbox();
  const verdict = decideTool(deps.policy(), {
    tool: ask.name,
    level: standing.level,
    approve: record.approve,
    approvedTools: record.approved_tools,
  });
  const decided = draft('tool.decided', { call_id: effect, ...verdict }, at(call));
  if (standing.refusal !== undefined) {
    return commit(call, plainOutcome('denied', standing.refusal), [requested]);
  }
  if (verdict.decision === 'deny') {
    const message = `denied by policy (${verdict.rule}); do not try this tool again, find another way or say what you need`;
    return commit(call, plainOutcome('denied', message), [requested, decided]);
  }
  if (verdict.decision === 'allow') return startCall(call, parsed.value, [requested, decided], 1);
  await deps.journal.append(requested, decided, ...requestApproval(call, parsed.value));
  return awaitApproval(call, parsed.value, undefined);
}

/** The events that put a call before a person; the session waits in state `awaiting`. */
function requestApproval(call: Call, value: unknown): Draft[] {
  const { deps, ask, effect } = call;
  const drafts: Draft[] = [
    draft(
      'approval.requested',
      {
        call_id: effect,
        digest: digestOf(ask.name, value, deps.journal.record().workspace),
        tool: ask.name,
        arguments: value,
        expires_at: toTimestamp(deps.clock.wallMs() + deps.approvalTimeoutMs()),
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
  value: unknown,
  known: ApprovalAnswer | undefined,
): Promise<ToolOutcome> {
  const answer =
    known ?? (await call.approvals.wait(call.effect, call.signal)) ?? (await readAnswer(call));
  if (answer.decision === 'approve') {
    const edited = answer.arguments;
    return startCall(call, edited === undefined ? value : edited, [], 1);
  }
  if (answer.decision === 'cancelled') return commit(call, notRun('interrupted'), []);
  const why =
    answer.decision === 'timeout'
      ? 'nobody answered in time'
      : (answer.reason ?? 'no reason given');
  const message = `denied by ${answer.by}: ${why}; do not repeat this call, ask the user how to go on`;
  return commit(call, plainOutcome('denied', message), []);
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
  value: unknown,
  before: readonly Draft[],
  attempt: number,
): Promise<ToolOutcome> {
  const { deps, effect } = call;
  if (call.signal.aborted) return commit(call, notRun('interrupted'), before);
  const unprepared = await prepareHost(call);
  if (unprepared !== undefined) return commit(call, unprepared, before);
  if ((await deps.permission()) === 'stop' || call.signal.aborted) {
    return commit(call, notRun('interrupted'), before);
  }
  const started = draft(
    'tool.started',
    { call_id: effect, level: deps.sandbox().level, limits: { ...deps.toolLimits() }, attempt },
    at(call),
  );
  await deps.journal.append(...before, started);
  // Interrupted while it was being reserved: it certainly did not run.
  if (call.signal.aborted) return commit(call, notRun('interrupted'), []);
  return runReserved(call, value, attempt);
}

async function runReserved(call: Call, value: unknown, attempt: number): Promise<ToolOutcome> {
  const outcome = await runInHost(call, value, attempt);
  if (outcome.status !== 'indeterminate') return commit(call, outcome, []);
  return resolveIndeterminate(call, value, attempt, outcome);
}

/** Reserved, and no host ever heard of it: we died in between. After a power loss the file may be
 *  gone though the call was made. */
function wasNeverSent({ deps, effect }: Call, known: Past): boolean {
  const { stateDir, session, store, spools } = deps;
  const path = toSpoolPath({ stateDir, session, effect, attempt: known.attempts });
  return known.epoch === store.epoch && spools.has?.(path) === false;
}

async function sendReserved(call: Call, known: Past): Promise<ToolOutcome> {
  const { deps, effect } = call;
  const unprepared = await prepareHost(call);
  if (unprepared !== undefined) return commit(call, unprepared, []);
  if ((await deps.permission()) === 'stop' || call.signal.aborted) {
    return commit(call, notRun('interrupted'), []);
  }
  const resolved = { id: effect, how: 'sent (it was reserved and never sent)' };
  await deps.journal.append(draft('effect.resolved', resolved, at(call)));
  return runReserved(call, known.arguments, known.attempts);
}

/** Before the reserve: a call that finds no sandbox never began, and is not indeterminate. */
async function prepareHost(call: Call): Promise<ToolOutcome | undefined> {
  try {
    await call.deps.host.prepare();
    return undefined;
  } catch (error) {
    const { code, message } = toPrxError(error);
    const status = code === 'SANDBOX_UNAVAILABLE' ? 'denied' : 'error';
    return plainOutcome(status, `the sandbox could not be started; nothing ran: ${message}`);
  }
}

async function runInHost(call: Call, value: unknown, attempt: number): Promise<ToolOutcome> {
  const { deps, ask, effect } = call;
  const spoolPath = toSpoolPath({
    stateDir: deps.stateDir,
    session: deps.session,
    effect,
    attempt,
  });
  const onAbort = (): void => deps.host.cancel(effect);
  call.signal.addEventListener('abort', onAbort, { once: true });
  let written: Promise<unknown> = Promise.resolve();
  try {
    const run = { effect, tool: ask.name, arguments: value, attempt, spoolPath };
    return await deps.host.run(run, async ({ stream, text, offset }) => {
      const data = { call_id: effect, stream, text, offset, attempt };
      written = deps.journal.append(draft('tool.output', data, at(call)));
      await written;
    });
  } catch (error) {
    // The spool is read from behind the last journaled output: first let those under way land.
    await written.catch(() => undefined);
    deps.logger.warn('tool.host_failed', { effect, error: toPrxError(error).message });
    return readEnd(call, attempt);
  } finally {
    call.signal.removeEventListener('abort', onAbort);
  }
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
  return resolveIndeterminate(call, known.arguments, known.attempts, outcome);
}

async function readEnd(call: Call, attempt: number): Promise<ToolOutcome> {
  const { deps, effect, signal } = call;
  const { session, stateDir, clock, journal } = deps;
  const end = await tailSpool({
    files: deps.spools,
    path: toSpoolPath({ stateDir, session, effect, attempt }),
    offset: await deps.store.readSpoolOffset(session, effect, attempt),
    classify(value) {
      const parsed = toolSpoolRecordSchema.safeParse(value);
      if (!parsed.success) return undefined;
      return parsed.data.kind === 'end' ? { end: parsed.data.outcome } : { progress: parsed.data };
    },
    onProgress(batch) {
      const drafts = batch.map(({ record: { stream, text }, offset }) => {
        const data = { call_id: effect, stream, text, offset, attempt };
        return draft('tool.output', data, at(call));
      });
      return journal.append(...drafts);
    },
    isWriterAlive: () => deps.hasOrphanWriter(effect),
    cancel: () => deps.cancelOrphan(effect),
    clock,
    signal,
  });
  if (end !== undefined) return end;
  return plainOutcome(
    'indeterminate',
    'the process that ran this call died before it could say how the call ended: it may have had its effect, fully, partly or not at all. Look at the present state before you decide whether to repeat it.',
  );
}

/** Never silently re-run or dropped: the effect class decides, and the journal says so. */
async function resolveIndeterminate(
  call: Call,
  value: unknown,
  attempt: number,
  outcome: ToolOutcome,
): Promise<ToolOutcome> {
  const { effect, effectClass } = call;
  const mayRepeat = effectClass !== 'write' && attempt < ATTEMPTS_MAX;
  const how = mayRepeat ? `re-run (${effectClass})` : `reported (${effectClass})`;
  const resolved = draft('effect.resolved', { id: effect, how }, at(call));
  if (mayRepeat) return startCall(call, value, [resolved], attempt + 1);
  return commit(call, outcome, [resolved]);
}

async function commit(
  call: Call,
  outcome: ToolOutcome,
  before: readonly Draft[],
): Promise<ToolOutcome> {
  const { deps, effect } = call;
  await deps.journal.append(
    ...before,
    draft('tool.completed', { call_id: effect, ...outcome }, at(call)),
  );
  deps.spools.remove(deps.stateDir, deps.session, effect);
  return outcome;
}

function readPast(events: readonly EventEnvelope[]): Past {
  let past: Past = {
    outcome: undefined,
    requested: false,
    decision: undefined,
    answer: undefined,
    attempts: 0,
    epoch: undefined,
    arguments: undefined,
  };
  for (const envelope of events) {
    const event = parseEvent(envelope);
    if (event?.type === 'tool.requested') {
      past = { ...past, requested: true, arguments: event.data.arguments };
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

function plainOutcome(status: ToolOutcome['status'], output: string): ToolOutcome {
  return { status, output, duration_ms: 0, truncated: false };
}

function notRun(why: 'interrupted'): ToolOutcome {
  return plainOutcome('cancelled', `not run: the turn was ${why}`);
}

/** Binds an approval to exactly this call. */
function digestOf(tool: string, value: unknown, workspace: string): string {
  const json = JSON.stringify([tool, value, workspace]);
  return createHash('sha256').update(json).digest('hex').slice(0, 32);
}

function at(call: Call): { turn: number; effect: EffectId } {
  return { turn: call.ask.turn, effect: call.effect };
}
