/** A model call through the gate: budget → reserve (model.started, synced) → one provider request
 *  → commit → answer. A retry is a new attempt with its own reserve, so that requests the provider
 *  sees equal attempts in the journal. An attempt whose end is in the spool is never repeated. */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { assert } from '../../base/assert.ts';
import { isPrxError, toPrxError } from '../../base/errors.ts';
import type { ModelOutcome } from '../../protocol/content.ts';
import { type EventEnvelope, parseEvent } from '../../protocol/events.ts';
import {
  type AttemptOutcome,
  type ModelDelta,
  modelSpoolRecordSchema,
} from '../../protocol/gateway-methods.ts';
import { type EffectId, toModelEffectId } from '../../protocol/ids.ts';
import type { askRequests } from '../../protocol/worker-methods.ts';
import type { SessionRecord } from '../../store/contract.ts';
import { draft } from '../sessions/journal.ts';
import { findOverrun, type Overrun } from './budget.ts';
import { createLiveFeed, type LiveFeed } from './live-feed.ts';
import type { GateDeps } from './ports.ts';
import { isOver, mayGoOn, reserve } from './reserve.ts';
import { tailSpool, toSpoolPath } from './spool.ts';

export type GenerateAsk = z.infer<(typeof askRequests)['model/generate']['params']>;

interface Call {
  readonly deps: GateDeps;
  readonly ask: GenerateAsk;
  readonly effect: EffectId;
  /** Aborted when the turn is interrupted. */
  readonly signal: AbortSignal;
}

/** Attempts over all models and gateway deaths; the provider's own retry limit is far below. */
const ATTEMPTS_MAX = 100;

/** What the journal already knows of this call. */
interface Past {
  readonly outcome: ModelOutcome | undefined;
  readonly digest: string | undefined;
  readonly attempts: number;
  /** The newest attempt was reserved and has no end. */
  readonly open: boolean;
  /** Of the next attempt; of the newest one while that is open. */
  readonly model: string | undefined;
  /** Of the newest attempt's reserve. */
  readonly epoch: number | undefined;
}

/** Runs (or resumes, or looks up) one model call. `past` holds the effect's journaled events. */
export async function runModelCall(
  deps: GateDeps,
  ask: GenerateAsk,
  past: readonly EventEnvelope[],
  signal: AbortSignal,
): Promise<ModelOutcome> {
  const effect = toModelEffectId(ask.turn, ask.step);
  const call: Call = { deps, ask, effect, signal };
  const known = readPast(past);
  const digest = digestOf(ask);
  if (known.digest !== undefined && known.digest !== digest) {
    const data = { step: ask.step, expected: known.digest, actual: digest };
    await deps.journal.append(draft('model.mismatched', data, at(call)));
  }
  if (known.outcome !== undefined) return known.outcome;
  if (known.open) {
    const found = await adoptAttempt(call, known.attempts);
    const isUnsent = isGatewayLost(found) && wasNeverSent(call, known);
    const outcome = isUnsent ? await sendReserved(call, known) : found;
    const settled = await commitAttempt(call, known.attempts, outcome);
    if (settled !== undefined) return settled;
    const model = outcome.kind === 'failed' ? outcome.next_model : undefined;
    return runAttempts(call, digest, { ...known, model: model ?? known.model });
  }
  return runAttempts(call, digest, known);
}

/** Brings a reserved call of a cancelled turn to its end without anyone asking for it. */
export async function settleModelCall(
  deps: GateDeps,
  address: { readonly turn: number; readonly step: number },
  past: readonly EventEnvelope[],
  signal: AbortSignal,
): Promise<void> {
  const known = readPast(past);
  if (!known.open) return;
  const ask: GenerateAsk = { ...address, purpose: 'step', messages: [], tools: [] };
  const call: Call = { deps, ask, effect: toModelEffectId(address.turn, address.step), signal };
  await commitAttempt(call, known.attempts, await adoptAttempt(call, known.attempts));
}

function isGatewayLost(outcome: AttemptOutcome): boolean {
  return outcome.kind === 'failed' && outcome.code === 'GATEWAY_LOST';
}

/** Reserved, and no gateway ever heard of it: we died in between. After a power loss the file may
 *  be gone though the request was made. */
function wasNeverSent({ deps, effect }: Call, known: Past): boolean {
  const { stateDir, session, store, spools } = deps;
  const path = toSpoolPath({ stateDir, session, effect, attempt: known.attempts });
  return known.epoch === store.epoch && spools.has?.(path) === false;
}

/** The reserve stands, so that requests stay equal to attempts. */
async function sendReserved(call: Call, known: Past): Promise<AttemptOutcome> {
  const { effect } = call;
  const resolved = { id: effect, how: 'sent (it was reserved and never sent)' };
  if (!(await reserve(call, () => [draft('effect.resolved', resolved, at(call))])))
    return notSent();
  return requestAttempt(call, known.attempts, known.model ?? '');
}

async function runAttempts(call: Call, digest: string, known: Past): Promise<ModelOutcome> {
  const { deps, ask } = call;
  let model = known.model ?? '';
  try {
    model ||= await deps.model();
  } catch (error) {
    const { code, message } = toPrxError(error);
    return { kind: 'failed', code, message };
  }
  for (let attempt = known.attempts + 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    if (!(await mayGoOn(call))) return { kind: 'cancelled' };
    const refusal = await refuseOverBudget(call);
    if (refusal !== undefined) return refusal;
    const started = {
      step: ask.step,
      attempt,
      model,
      request_digest: digest,
      ...(ask.purpose === 'compaction' ? { purpose: ask.purpose } : {}),
    };
    const isReserved = await reserve(call, () => [draft('model.started', started, at(call))]);
    if (!isReserved) return { kind: 'cancelled' };
    const outcome = await requestAttempt(call, attempt, model);
    const settled = await commitAttempt(call, attempt, outcome);
    if (settled !== undefined) return settled;
    assert(outcome.kind === 'failed', 'only a failed attempt is followed by another');
    model = outcome.next_model ?? model;
    await deps.clock.sleep(outcome.retry_in_ms ?? 0, call.signal);
  }
  const message = `gave up after ${ATTEMPTS_MAX} attempts`;
  return { kind: 'failed', code: 'PROVIDER_UNREACHABLE', message };
}

async function refuseOverBudget(call: Call): Promise<ModelOutcome | undefined> {
  const { journal, budget } = call.deps;
  const record = journal.record();
  const open = record.open_turn;
  const overrun = findOverrun(budget(), {
    usage: {
      input_tokens: record.usage.input_tokens + (open?.usage.input_tokens ?? 0),
      output_tokens: record.usage.output_tokens + (open?.usage.output_tokens ?? 0),
    },
    costUsd: record.cost_usd + (open?.cost_usd ?? 0),
  });
  if (overrun === undefined) return undefined;
  await journal.append(draft('limit.exceeded', overrun, at(call)));
  return { kind: 'budget', message: toBudgetMessage(overrun, record.limits) };
}

/** A limit that the session was created with is not that of the configuration. */
function toBudgetMessage({ limit, value, max }: Overrun, own: SessionRecord['limits']): string {
  const isOwn = own[limit] !== undefined;
  const name = isOwn ? `limits.${limit} of this session` : `budget.${limit}`;
  const mend = isOwn ? 'start a new session' : 'raise it in [budget] or start a new session';
  return `${name} is used up: ${value} of ${max}; ${mend}`;
}

/** One provider request; what it says is journaled as it comes. Where some of that could not be
 *  written, the rest is read from its spool before its end is committed.
 *  @throws what the journal throws when it still cannot be written. */
async function requestAttempt(call: Call, attempt: number, model: string): Promise<AttemptOutcome> {
  const { deps, ask } = call;
  const feed = createLiveFeed((deltas: readonly ModelDelta[]) =>
    deps.journal.append(
      ...deltas.map(({ kind, text, offset }) => {
        const data = { step: ask.step, attempt, kind, text, offset };
        return draft('model.delta', data, at(call));
      }),
    ),
  );
  const outcome = await sendAttempt(call, { attempt, model, feed });
  if (await feed.settle()) return outcome;
  return (await readEnd(call, attempt)) ?? outcome;
}

interface Sending {
  readonly attempt: number;
  readonly model: string;
  readonly feed: LiveFeed<ModelDelta>;
}

/** The death of the gateway is a failed attempt, unless its spool has the end. */
async function sendAttempt(call: Call, { attempt, model, feed }: Sending): Promise<AttemptOutcome> {
  const { deps, ask, effect } = call;
  const { session, gateway, stateDir } = deps;
  // Interrupted while it was being reserved: nothing is sent after the tombstone.
  if (isOver(call)) return notSent();
  const onAbort = (): void => gateway.cancel(session, effect);
  call.signal.addEventListener('abort', onAbort, { once: true });
  try {
    const spoolPath = toSpoolPath({ stateDir, session, effect, attempt });
    const { messages, tools } = ask;
    const parallelToolCalls = deps.parallelToolCalls();
    const sent = { session, effect, attempt, spoolPath, model };
    const request = { ...sent, messages, tools, parallelToolCalls };
    return await gateway.generate(request, feed.push);
  } catch (error) {
    // The spool is read from behind the last journaled delta: first let those under way land.
    await feed.settle();
    if (isPrxError(error, 'GATEWAY_LOST')) return await adoptAttempt(call, attempt);
    const { code, message } = toPrxError(error);
    return { kind: 'failed', code, message, retry_in_ms: null };
  } finally {
    call.signal.removeEventListener('abort', onAbort);
  }
}

/** Reads an attempt's end from its spool, waiting for an orphaned gateway that still streams;
 *  where there is none, the attempt failed with its gateway. */
async function adoptAttempt(call: Call, attempt: number): Promise<AttemptOutcome> {
  const { deps, effect } = call;
  const outcome = await readEnd(call, attempt);
  if (outcome !== undefined) {
    await deps.journal.append(draft('effect.adopted', { id: effect, how: 'spool' }, at(call)));
    return outcome;
  }
  if (call.signal.aborted && deps.hasOrphanWriter(effect)) {
    const message = "interrupted; its gateway, an earlier supervisor's, did not end it in time";
    return { kind: 'failed', code: 'CANCELLED', message, retry_in_ms: null };
  }
  const message = 'the gateway died before this attempt ended';
  return { kind: 'failed', code: 'GATEWAY_LOST', message, retry_in_ms: 0 };
}

/** The end that stands in the spool, once all before it is journaled; undefined: there is none. */
async function readEnd(call: Call, attempt: number): Promise<AttemptOutcome | undefined> {
  const { deps, ask, effect } = call;
  const { session, store, journal } = deps;
  const offset = await store.readSpoolOffset(session, effect, attempt);
  return await tailSpool({
    files: deps.spools,
    path: toSpoolPath({ stateDir: deps.stateDir, session, effect, attempt }),
    offset,
    classify(value) {
      const parsed = modelSpoolRecordSchema.safeParse(value);
      if (!parsed.success) return undefined;
      return parsed.data.kind === 'end' ? { end: parsed.data.outcome } : { progress: parsed.data };
    },
    onProgress(batch) {
      const drafts = batch.map(({ record, offset: behind }) => {
        const { delta: kind, text } = record;
        const data = { step: ask.step, attempt, kind, text, offset: behind };
        return draft('model.delta', data, at(call));
      });
      return journal.append(...drafts);
    },
    isWriterAlive: () => deps.hasOrphanWriter(effect),
    cancel: () => deps.cancelOrphan(effect),
    clock: deps.clock,
    signal: call.signal,
  });
}

function notSent(): AttemptOutcome {
  const message = 'interrupted before the request was sent';
  return { kind: 'failed', code: 'CANCELLED', message, retry_in_ms: null };
}

/** Journals the end of an attempt. Undefined: another attempt follows. */
async function commitAttempt(
  call: Call,
  attempt: number,
  outcome: AttemptOutcome,
): Promise<ModelOutcome | undefined> {
  const { deps, ask, effect } = call;
  const { step } = ask;
  if (outcome.kind === 'completed') {
    const { kind: _, unsaid: text, ...completed } = outcome;
    const rest = { step, attempt, kind: 'text', text: text ?? '' } as const;
    await deps.journal.append(
      ...(text === undefined ? [] : [draft('model.delta', rest, at(call))]),
      draft('model.completed', { step, attempt, ...completed }, at(call)),
    );
    deps.spools.remove(deps.stateDir, deps.session, effect);
    const { message, finish_reason, usage } = outcome;
    if (finish_reason === 'cancelled') return { kind: 'cancelled' };
    return { kind: 'completed', message, finish_reason, usage };
  }
  const { code, message } = outcome;
  const stop = isOver(call) ? null : outcome.retry_in_ms;
  const { next_model } = outcome;
  const failed = {
    ...{ step, attempt, error: { code, message }, retry_in_ms: stop },
    ...(stop === null || next_model === undefined ? {} : { next_model }),
  };
  await deps.journal.append(draft('model.failed', failed, at(call)));
  if (stop !== null) return undefined;
  deps.spools.remove(deps.stateDir, deps.session, effect);
  return isOver(call) ? { kind: 'cancelled' } : { kind: 'failed', code, message };
}

function readPast(events: readonly EventEnvelope[]): Past {
  let past: Past = {
    outcome: undefined,
    digest: undefined,
    attempts: 0,
    open: false,
    model: undefined,
    epoch: undefined,
  };
  for (const envelope of events) {
    const event = parseEvent(envelope);
    if (event?.type === 'model.started') {
      const { attempt, request_digest, model } = event.data;
      past = {
        ...past,
        digest: past.digest ?? request_digest,
        attempts: attempt,
        open: true,
        model,
        epoch: envelope.epoch,
      };
    } else if (event?.type === 'model.failed') {
      const { error, retry_in_ms, next_model: model = past.model } = event.data;
      const outcome = retry_in_ms === null ? { kind: 'failed' as const, ...error } : undefined;
      past = { ...past, open: false, outcome, model };
    } else if (event?.type === 'model.completed') {
      const { message, finish_reason, usage } = event.data;
      const outcome: ModelOutcome =
        finish_reason === 'cancelled'
          ? { kind: 'cancelled' }
          : { kind: 'completed', message, finish_reason, usage };
      past = { ...past, open: false, outcome };
    }
  }
  return past;
}

/** The request as a short digest: what a restarted worker asks must be the same. */
function digestOf(ask: GenerateAsk): string {
  const { messages, tools, purpose } = ask;
  const json = JSON.stringify({ messages, tools, purpose });
  return createHash('sha256').update(json).digest('hex').slice(0, 32);
}

function at(call: Call): { turn: number; effect: EffectId } {
  return { turn: call.ask.turn, effect: call.effect };
}
