/** One attempt from its first byte to its terminal record: asks the provider once, spools and
 *  reports what is heard, keeps the deadlines, and judges how it ended. The outcome is a value:
 *  nothing is thrown but our own bugs. */
import { type AppendLog, openAppendLog } from '../base/append-log.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/logger.ts';
import type { Random } from '../base/random.ts';
import type {
  AttemptOutcome,
  ModelSpoolRecord,
  ProviderSettings,
} from '../protocol/gateway-methods.ts';
import { type Collector, createCollector } from './collector.ts';
import {
  createDeltaSink,
  type Delta,
  type DeltaSink,
  isSaid,
  toSpoolFailure,
} from './delta-sink.ts';
import { type Failure, failureTable, toFailure } from './failures.ts';
import { toCostUsd } from './pricing.ts';
import type { Chunk, GenerateRequest, Provider } from './providers/provider.ts';
import { decideRetry } from './retry.ts';
import { type Expiry, startTimeouts, type Timeouts } from './timeouts.ts';

export interface AttemptSpec {
  readonly request: GenerateRequest;
  readonly effect: string;
  readonly attempt: number;
  readonly spoolPath: string;
  readonly provider: Provider;
  readonly settings: ProviderSettings;
  /** Ends the attempt as completed, with finish reason cancelled. */
  readonly cancel: AbortSignal;
  readonly report: (delta: Delta) => Promise<void>;
  /** Nobody is there to commit the outcome: the spool must outlive the machine. */
  readonly isOrphaned: () => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Runs the attempt to its end. The terminal record is in the spool before this resolves; it is
 *  synced only where there is no supervisor, whose journal syncs the same outcome a moment later
 *  (one sync blocks every stream of this process for about a millisecond). */
export async function runAttempt(spec: AttemptSpec): Promise<AttemptOutcome> {
  let log: AppendLog;
  try {
    log = openAppendLog(spec.spoolPath);
  } catch (error) {
    return toFailedOutcome(spec, toFailure(toSpoolFailure(error)));
  }
  try {
    const sink = createDeltaSink(log, spec.report);
    const outcome = await listen(spec, sink);
    endSpool(spec, log, outcome);
    return outcome;
  } finally {
    log.close();
  }
}

/** A paid answer is not thrown away because the disk is full: it is still told, and committed by
 *  whoever asked. */
function endSpool(spec: AttemptSpec, log: AppendLog, outcome: AttemptOutcome): void {
  const record: ModelSpoolRecord = { kind: 'end', outcome };
  try {
    log.append(record);
    if (spec.isOrphaned()) log.sync();
  } catch (error) {
    spec.logger.error('spool.unwritable', { effect: spec.effect, path: spec.spoolPath, error });
  }
}

/** What one attempt knows while it runs. */
interface Hearing {
  readonly startedAtMs: number;
  readonly collector: Collector;
  readonly timeouts: Timeouts;
  /** Aborted by the cancel, by a deadline, or at the end. */
  readonly signal: AbortSignal;
  firstTokenMs: number | undefined;
}

async function listen(spec: AttemptSpec, sink: DeltaSink): Promise<AttemptOutcome> {
  const abort = new AbortController();
  const stop = (): void => abort.abort();
  spec.cancel.addEventListener('abort', stop, { once: true });
  if (spec.cancel.aborted) stop();
  const { clock, settings } = spec;
  const hearing: Hearing = {
    startedAtMs: clock.nowMs(),
    collector: createCollector(`call_${spec.effect.replaceAll('.', '_')}`),
    timeouts: startTimeouts({ clock, settings, onExpire: stop }),
    signal: abort.signal,
    firstTokenMs: undefined,
  };
  let thrown: unknown;
  try {
    await hear(spec, hearing, sink);
    sink.finish();
  } catch (error) {
    thrown = error;
  } finally {
    hearing.timeouts.stop();
    spec.cancel.removeEventListener('abort', stop);
    stop();
  }
  return toWhole(judge(spec, hearing, thrown), sink.close());
}

/** Whoever follows the deltas has the whole text, also where the last could not be spooled. */
function toWhole(outcome: AttemptOutcome, textChars: number): AttemptOutcome {
  if (outcome.kind === 'failed') return outcome;
  const unsaid = outcome.message.text.slice(textChars);
  return unsaid === '' ? outcome : { ...outcome, unsaid };
}

async function hear(spec: AttemptSpec, hearing: Hearing, sink: DeltaSink): Promise<void> {
  for await (const chunk of spec.provider.generate(spec.request, hearing.signal)) {
    const full = takeChunk(spec, hearing, sink, chunk);
    if (full === undefined) continue;
    hearing.timeouts.hold();
    await untilAborted(full, hearing.signal);
    hearing.timeouts.onChunk(true);
    if (hearing.signal.aborted) return;
  }
}

function takeChunk(
  spec: AttemptSpec,
  hearing: Hearing,
  sink: DeltaSink,
  chunk: Chunk,
): Promise<void> | undefined {
  const said = chunk.some(isSaid);
  if (said) hearing.firstTokenMs ??= spec.clock.nowMs() - hearing.startedAtMs;
  hearing.timeouts.onChunk(said);
  let full: Promise<void> | undefined;
  for (const part of chunk) {
    hearing.collector.add(part);
    if (isSaid(part)) full = sink.push(part) ?? full;
  }
  return full;
}

/** The first cause wins: an answer that was complete stays complete, whatever came after. */
function judge(spec: AttemptSpec, hearing: Hearing, thrown: unknown): AttemptOutcome {
  if (hearing.collector.finishReason() !== undefined) return toCompletedOutcome(spec, hearing);
  const expired = hearing.timeouts.expired();
  if (expired !== undefined) return toFailedOutcome(spec, toTimeoutFailure(spec, expired));
  if (spec.cancel.aborted) return toCompletedOutcome(spec, hearing);
  if (thrown === undefined) return toFailedOutcome(spec, toCutOffFailure(spec, hearing));
  const failure = toFailure(thrown);
  if (failure.kind === 'internal') spec.logger.error('attempt.broken', { error: thrown });
  return toFailedOutcome(spec, failure);
}

function toCompletedOutcome(spec: AttemptSpec, hearing: Hearing): AttemptOutcome {
  const { collector, firstTokenMs } = hearing;
  const finishReason = collector.finishReason() ?? 'cancelled';
  const model = collector.model() ?? spec.request.model;
  const usage = collector.usage();
  return {
    kind: 'completed',
    message: collector.toMessage(finishReason === 'cancelled'),
    finish_reason: finishReason,
    usage,
    cost_usd: toCostUsd(usage, [spec.request.model, model], spec.settings.prices),
    latency_ms: Math.round(spec.clock.nowMs() - hearing.startedAtMs),
    ...(firstTokenMs === undefined ? {} : { first_token_ms: Math.round(firstTokenMs) }),
    model,
  };
}

/** A failure with the verdict on what follows it. */
export function toFailedOutcome(
  spec: Pick<AttemptSpec, 'attempt' | 'settings' | 'request' | 'random'>,
  failure: Failure,
): AttemptOutcome {
  const { attempt, settings, request } = spec;
  return {
    kind: 'failed',
    code: failureTable[failure.kind].code,
    message: failure.message,
    ...decideRetry({ failure, attempt, model: request.model, settings }, spec.random),
  };
}

const TIMEOUT_WORDS: Readonly<Record<Expiry['name'], string>> = {
  connect: 'did not begin to answer within the connect timeout',
  first_token: 'began to answer but said nothing within the first-token timeout',
  idle: 'fell silent in mid-answer for longer than the idle timeout',
  total: 'did not finish within the total timeout',
};

function toTimeoutFailure(spec: AttemptSpec, expiry: Expiry): Failure {
  const { provider, request } = spec;
  const message = `${provider.target} (model ${request.model}) ${TIMEOUT_WORDS[expiry.name]} of \
${expiry.limitMs} ms; if this model is that slow, raise provider.${expiry.name}_timeout_secs`;
  return { kind: expiry.name === 'total' ? 'total_timeout' : 'timeout', message };
}

function toCutOffFailure(spec: AttemptSpec, hearing: Hearing): Failure {
  const { provider, request } = spec;
  const said =
    hearing.firstTokenMs === undefined ? 'nothing had been said' : 'it had begun to speak';
  const message = `the stream from ${provider.target} (model ${request.model}) ended without a \
finish reason (${said}), so the answer may be cut off and is not used`;
  return { kind: 'stream_broken', message };
}

/** Resolves with `wait`, or when the signal aborts. */
function untilAborted(wait: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      signal.removeEventListener('abort', done);
      resolve();
    };
    signal.addEventListener('abort', done, { once: true });
    void wait.then(done);
  });
}
