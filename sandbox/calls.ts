/** The calls that run. Each is identified by its effect id: asking again joins the running one.
 *  Order that must hold: output to the spool, then reported; the end to the spool, synced, then
 *  answered. Never throws for what a tool does. */
import { join } from 'node:path';
import { type AppendLog, openAppendLog } from '../base/append-log.ts';
import type { Clock } from '../base/clock.ts';
import { PrxError, systemCode, toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ToolOutcome } from '../protocol/content.ts';
import type { EffectId, SessionId } from '../protocol/ids.ts';
import type { RunningSpan } from '../protocol/orphan-door.ts';
import type { SandboxPolicy, ToolOutput, ToolSpoolRecord } from '../protocol/sandbox-methods.ts';
import { isToolName, type ToolName, toolTable } from '../protocol/tools.ts';
import type { Backend } from './launch/backend.ts';
import { type ToolResult, toFailure } from './outcome.ts';
import { createStreamer, type Streamer } from './streamer.ts';
import type { FileTools } from './tools/files.ts';
import { runSearch } from './tools/search.ts';
import { runShell } from './tools/shell.ts';

export interface CallParams {
  readonly effect: EffectId;
  readonly tool: string;
  readonly arguments: unknown;
  readonly attempt: number;
  readonly spoolPath: string;
}

export interface CallsSpec {
  readonly session: SessionId;
  readonly backend: Backend;
  readonly fileTools: FileTools;
  readonly policy: SandboxPolicy;
  readonly artifactDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Resolves when the supervisor's pipe has taken it. */
  readonly report: (output: ToolOutput) => Promise<void>;
  /** Nobody is there to commit an outcome: the spool must outlive the machine. */
  readonly isOrphaned: () => boolean;
}

export interface Calls {
  run(params: CallParams): Promise<ToolOutcome>;
  cancel(effect: EffectId): void;
  cancelAll(): void;
  count(): number;
  /** What runs, and when it has ended by itself at the latest. */
  running(): readonly RunningSpan[];
  /** Resolves when no call runs. */
  settled(): Promise<void>;
}

/** More at once than any turn may ask for; the rest would only share two cores. */
const RUNNING_MAX = 32;
const OUTPUT_BYTES_MIN = 1024;
/** Beside the time limit of its tool: to have a sandbox, to kill it, to read the last output. */
const CALL_MARGIN_MS = 15_000;

interface RunningCall {
  readonly outcome: Promise<ToolOutcome>;
  readonly abort: AbortController;
  readonly span: RunningSpan;
}

export function createCalls(spec: CallsSpec): Calls {
  const running = new Map<EffectId, RunningCall>();

  return {
    async run(params) {
      const joined = running.get(params.effect);
      if (joined !== undefined) return await joined.outcome;
      if (running.size >= RUNNING_MAX) {
        throw new PrxError('AT_CAPACITY', `${RUNNING_MAX} tool calls run already; ask again later`);
      }
      const abort = new AbortController();
      const outcome = runCall(spec, params, abort.signal);
      running.set(params.effect, { outcome, abort, span: toSpan(spec, params) });
      try {
        return await outcome;
      } finally {
        running.delete(params.effect);
      }
    },
    cancel: (effect) => running.get(effect)?.abort.abort(),
    cancelAll() {
      for (const call of running.values()) call.abort.abort();
    },
    count: () => running.size,
    running: () => [...running.values()].map(({ span }) => span),
    async settled() {
      await Promise.allSettled([...running.values()].map((call) => call.outcome));
    },
  };
}

function toSpan({ session, clock, policy }: CallsSpec, params: CallParams): RunningSpan {
  const { effect, attempt } = params;
  const startedMs = clock.nowMs();
  const deadlineMs = startedMs + policy.timeoutMs + CALL_MARGIN_MS;
  return { session, effect, attempt, startedMs, deadlineMs };
}

async function runCall(
  spec: CallsSpec,
  params: CallParams,
  signal: AbortSignal,
): Promise<ToolOutcome> {
  const { backend, clock, logger } = spec;
  const { effect, tool } = params;
  const startedMs = clock.nowMs();
  const spool = openSpool(params.spoolPath, logger, spec.isOrphaned);
  if (spool.kind === 'refused') return { ...toFailure(spool.message), duration_ms: 0 };
  logger.debug('tool.started', { effect, tool });
  const streamer = createStreamer({
    bytesMax: Math.max(spec.policy.maxOutputBytes, OUTPUT_BYTES_MIN),
    async send(stream, text) {
      const offset = spool.append({ kind: 'output', stream, text });
      await spec.report({ effect, stream, text, offset });
    },
  });
  const result = await perform({ spec, params, streamer, signal });
  const outcome: ToolOutcome = {
    ...result,
    duration_ms: Math.round(clock.nowMs() - startedMs),
    level: backend.level,
    ...(backend.notice === undefined ? {} : { notice: backend.notice }),
  };
  spool.finish({ kind: 'end', outcome });
  logger.debug('tool.ended', { effect, tool, status: outcome.status });
  return outcome;
}

interface Performance {
  readonly spec: CallsSpec;
  readonly params: CallParams;
  readonly streamer: Streamer;
  readonly signal: AbortSignal;
}

async function perform(performance: Performance): Promise<ToolResult> {
  const { spec, params } = performance;
  const { tool } = params;
  if (!isToolName(tool)) {
    const known = Object.keys(toolTable).join(', ');
    return toFailure(`There is no tool ${JSON.stringify(tool)}; there are: ${known}.`);
  }
  const problem = findArgumentProblem(tool, params.arguments);
  if (problem !== undefined) return toFailure(problem);
  try {
    return await dispatch(tool, performance);
  } catch (error) {
    const known = toPrxError(error);
    if (known.code === 'INTERNAL') spec.logger.error('tool.failed', { tool, error });
    return toFailure(`${known.code}: ${known.message}`);
  }
}

/** What is wrong with the arguments, for the model; undefined: nothing. Pure. */
function findArgumentProblem(tool: ToolName, value: unknown): string | undefined {
  const parsed = toolTable[tool].arguments.safeParse(value);
  if (parsed.success) return undefined;
  const issues = parsed.error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.join('.') || 'arguments'}: ${issue.message}`);
  return `The arguments do not fit ${tool}: ${issues.join('; ')}. Correct them and call again.`;
}

async function dispatch(tool: ToolName, performance: Performance): Promise<ToolResult> {
  const { spec, params, streamer, signal } = performance;
  const { backend, clock, policy, fileTools, artifactDir } = spec;
  const limits = {
    timeoutMs: policy.timeoutMs,
    maxOutputBytes: Math.max(policy.maxOutputBytes, OUTPUT_BYTES_MIN),
  };
  switch (tool) {
    case 'shell': {
      const id = `tool-${params.effect}`;
      const artifact = { id, path: join(artifactDir, id) };
      const args = toolTable.shell.arguments.parse(params.arguments);
      return await runShell({
        ...{ backend, clock, limits, artifact, streamer, signal },
        arguments: args,
      });
    }
    case 'search': {
      const args = toolTable.search.arguments.parse(params.arguments);
      return await runSearch({ backend, clock, limits, signal, arguments: args });
    }
    default:
      return await fileTools.run({ tool, arguments: params.arguments, limits, signal });
  }
}

interface Spool {
  readonly kind: 'open';
  /** Returns the offset behind the record; after a failure the last good one. */
  append(record: ToolSpoolRecord): number;
  finish(record: ToolSpoolRecord): void;
}

/** A call without a spool file has never begun: that is how its asker knows, whoever died. So one
 *  whose file cannot be made is not run. A disk that is full later on stops nothing: the answer
 *  then stands in the journal only. */
function openSpool(
  path: string,
  logger: Logger,
  isOrphaned: () => boolean,
): Spool | { readonly kind: 'refused'; readonly message: string } {
  let log: AppendLog;
  try {
    log = openAppendLog(path);
  } catch (error) {
    logger.error('spool.open_failed', { path, error });
    const reason = systemCode(error) ?? 'unknown';
    const message = `The call was not started: its record could not be made (${reason}). Nothing ran.`;
    return { kind: 'refused', message };
  }
  let offset = 0;
  let failed = false;

  function attempt(act: () => void): void {
    if (failed) return;
    try {
      act();
    } catch (error) {
      failed = true;
      logger.error('spool.write_failed', { path, error });
    }
  }

  return {
    kind: 'open',
    append(record) {
      attempt(() => {
        offset = log.append(record);
      });
      return offset;
    },
    finish(record) {
      attempt(() => {
        log.append(record);
        // A supervisor that hears the outcome syncs it in its journal.
        if (isOrphaned()) log.sync();
      });
      failed = false;
      attempt(() => log.close());
    },
  };
}
