/** The calls that run. Each is identified by its effect id: asking again joins the running one.
 *  Order that must hold: output to the spool, then reported; the end to the spool, synced, then
 *  answered. Never throws for what a tool does. */
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { PrxError, toPrxError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ToolOutcome } from '../protocol/content.ts';
import { isCustomToolName } from '../protocol/custom-names.ts';
import type { Fingerprints } from '../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../protocol/ids.ts';
import type { NetworkRequest } from '../protocol/network.ts';
import type { RunningSpan } from '../protocol/orphan-door.ts';
import type { ProcessEnd, ProcessEndReason, ProcessStart } from '../protocol/processes.ts';
import { redactAround } from '../protocol/redactor.ts';
import type { SandboxPolicy, ToolOutput } from '../protocol/sandbox-methods.ts';
import { isToolName, type ToolName, toolTable } from '../protocol/tools.ts';
import type { Backend } from './launch/backend.ts';
import type { WorkspaceGuard } from './launch/workspace-guard.ts';
import type { SessionNetwork } from './network/session-network.ts';
import { joinSentence, type ToolLimits, type ToolResult, toFailure } from './outcome.ts';
import { createProcesses, type Processes } from './processes/processes.ts';
import { runProcessTool } from './processes/run-process-tool.ts';
import { createWriters } from './processes/writers.ts';
import { createScanner } from './scanner.ts';
import { openSpool, type Spool } from './spool.ts';
import { createStreamer, type Streamer } from './streamer.ts';
import type { CustomToolHost } from './tools/custom.ts';
import { runFetch } from './tools/fetch.ts';
import type { FileTools } from './tools/files.ts';
import { runGlob } from './tools/glob.ts';
import type { ToMarkdown } from './tools/html.ts';
import { runCode } from './tools/run-code.ts';
import { runSearch } from './tools/search.ts';
import { runShell } from './tools/shell.ts';
import { toTreeLimits } from './watch.ts';

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
  readonly customTools: CustomToolHost;
  readonly network: SessionNetwork;
  readonly toMarkdown: ToMarkdown;
  /** What is not to be shown, as it stands now. */
  readonly fingerprints: () => Fingerprints;
  readonly policy: SandboxPolicy;
  readonly policyDigest: string;
  readonly guard: WorkspaceGuard;
  readonly artifactDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Resolves when the supervisor's pipe has taken it. */
  readonly report: (output: ToolOutput) => Promise<void>;
  /** Of a background process, before it runs; rejects: it may not. */
  readonly registerProcess: (start: ProcessStart) => Promise<unknown>;
  /** Its end is in its file. */
  readonly reportProcessEnd: (call: EffectId, end: ProcessEnd) => void;
  /** Nobody is there to commit an outcome: the spool must outlive the machine. */
  readonly isOrphaned: () => boolean;
}

export interface Calls {
  run(params: CallParams): Promise<ToolOutcome>;
  cancel(effect: EffectId): void;
  cancelAll(): void;
  count(): number;
  has(effect: EffectId): boolean;
  /** Writes a request to the spool of its call. @returns the offset behind it; undefined: there
   *  is no such call. */
  note(request: NetworkRequest): number | undefined;
  /** What runs, and when it has ended by itself at the latest. */
  running(): readonly RunningSpan[];
  /** Resolves when no call runs. */
  settled(): Promise<void>;
  /** Ends the background processes; resolves when none is left. */
  endProcesses(reason: ProcessEndReason): Promise<void>;
  /** Looks through what the calls since the last scan have left. */
  scan(): Promise<void>;
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
  readonly record: Recording;
}

/** The spool of a call, for what else happens while it runs. */
interface Recording {
  spool: Spool | undefined;
}

export function createCalls(spec: CallsSpec): Calls {
  const running = new Map<EffectId, RunningCall>();
  const scanner = createScanner(spec, {
    isIdle: () => running.size === 0,
    hasProcesses: () => processes.running().length > 0,
  });
  const writers = createWriters(spec.clock);
  const processes = createProcesses({
    ...spec,
    quietSinceMs: writers.quietSinceMs,
    register: spec.registerProcess,
    onEnded(call, end) {
      spec.network.endCall(call);
      spec.reportProcessEnd(call, end);
      scanner.scanLater();
    },
  });

  return {
    endProcesses: processes.endAll,
    async run(params) {
      const joined = running.get(params.effect);
      if (joined !== undefined) return await joined.outcome;
      if (running.size >= RUNNING_MAX) {
        throw new PrxError('AT_CAPACITY', `${RUNNING_MAX} tool calls run already; ask again later`);
      }
      const abort = new AbortController();
      const record: Recording = { spool: undefined };
      const { takeNotice } = scanner;
      const extra = { signal: abort.signal, record, takeNotice, processes };
      const leave = writers.enter(params.tool);
      const outcome = runCall(spec, params, extra);
      running.set(params.effect, { outcome, abort, span: toSpan(spec, params), record });
      try {
        return await outcome;
      } finally {
        leave();
        running.delete(params.effect);
        if (running.size === 0) scanner.scanLater();
      }
    },
    cancel: (effect) => running.get(effect)?.abort.abort(),
    cancelAll() {
      for (const call of running.values()) call.abort.abort();
    },
    count: () => running.size,
    note(request) {
      const call = request.call_id === undefined ? undefined : running.get(request.call_id);
      return call?.record.spool?.append({ kind: 'network', request });
    },
    has: (effect) => running.has(effect),
    running: () => [...[...running.values()].map(({ span }) => span), ...processes.running()],
    scan: scanner.scan,
    async settled() {
      await Promise.allSettled([...running.values()].map((call) => call.outcome));
    },
  };
}

interface Extra {
  readonly signal: AbortSignal;
  readonly processes: Processes;
  readonly record: Recording;
  readonly takeNotice: () => string;
}

function toSpan({ session, clock, policy }: CallsSpec, params: CallParams): RunningSpan {
  const { effect, attempt } = params;
  const startedMs = clock.nowMs();
  const deadlineMs = startedMs + policy.timeoutMs + CALL_MARGIN_MS;
  return { session, effect, attempt, startedMs, deadlineMs };
}

/** What read_file and ripgrep write behind a line that they do not show to its end. */
const LINE_CUT =
  /( \[(?:line cut: \d+ characters|\.\.\. omitted end of long line|\.\.\. \d+ more match(?:es)?)\]$)/m;

async function runCall(
  spec: CallsSpec,
  params: CallParams,
  { signal, record, takeNotice, processes }: Extra,
): Promise<ToolOutcome> {
  const { backend, clock, logger } = spec;
  const { effect, tool } = params;
  const startedMs = clock.nowMs();
  const spool = openSpool(params.spoolPath, logger, spec.isOrphaned);
  if (spool.kind === 'refused') return { ...toFailure(spool.message), duration_ms: 0 };
  record.spool = spool;
  logger.debug('tool.started', { effect, tool });
  const streamer = createStreamer({
    bytesMax: Math.max(spec.policy.maxOutputBytes, OUTPUT_BYTES_MIN),
    async send(stream, text) {
      const offset = spool.append({ kind: 'output', stream, text });
      await spec.report({ effect, stream, text, offset });
    },
  });
  const result = await perform({ spec, params, streamer, signal, processes });
  const notices = [backend.notice ?? '', takeNotice()].filter((text) => text !== '');
  // What a background process asks for is asked for by the call that started it.
  const refused = tool === 'process_start' ? '' : spec.network.endCall(effect);
  const output = redactAround(LINE_CUT, result.output, spec.fingerprints());
  const outcome: ToolOutcome = {
    ...result,
    output: refused === '' ? output : joinSentence(output, refused),
    duration_ms: Math.round(clock.nowMs() - startedMs),
    level: backend.level,
    policy: spec.policyDigest,
    ...(notices.length === 0 ? {} : { notice: notices.join(' ') }),
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
  readonly processes: Processes;
}

async function perform(performance: Performance): Promise<ToolResult> {
  const { params } = performance;
  const { tool } = params;
  if (isCustomToolName(tool)) return orFailure(performance, () => runCustom(performance));
  if (!isToolName(tool)) {
    const known = Object.keys(toolTable).join(', ');
    return toFailure(`There is no tool ${JSON.stringify(tool)}; there are: ${known}.`);
  }
  const problem = findArgumentProblem(tool, params.arguments);
  if (problem !== undefined) return toFailure(problem);
  return orFailure(performance, () => dispatch(tool, performance));
}

async function orFailure(
  { spec, params: { tool } }: Performance,
  run: () => Promise<ToolResult>,
): Promise<ToolResult> {
  try {
    return await run();
  } catch (error) {
    const known = toPrxError(error);
    if (known.code === 'INTERNAL') spec.logger.error('tool.failed', { tool, error });
    return toFailure(`${known.code}: ${known.message}`);
  }
}

/** Its arguments are looked at where it runs: its schema is code of its file. */
function runCustom(performance: Performance): Promise<ToolResult> {
  const { spec, params, streamer, signal } = performance;
  const { effect, tool, arguments: args } = params;
  const id = `tool-${effect}`;
  return spec.customTools.run({
    ...{ effect, tool, arguments: args, streamer, signal },
    limits: toLimits(spec),
    artifact: { id, path: join(spec.artifactDir, id) },
    fingerprints: spec.fingerprints,
  });
}

function toLimits({ policy, backend }: Pick<CallsSpec, 'policy' | 'backend'>): ToolLimits {
  return {
    timeoutMs: policy.timeoutMs,
    maxOutputBytes: Math.max(policy.maxOutputBytes, OUTPUT_BYTES_MIN),
    tree: toTreeLimits(policy, backend.temporaryFolder),
  };
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
  const { backend, clock, fileTools, artifactDir } = spec;
  const limits = toLimits(spec);
  switch (tool) {
    case 'shell': {
      const id = `tool-${params.effect}`;
      const artifact = { id, path: join(artifactDir, id) };
      const args = toolTable.shell.arguments.parse(params.arguments);
      return await runShell({
        ...{ backend, clock, limits, guard: spec.guard, artifact, streamer, signal },
        ...toOutside(performance),
        arguments: args,
      });
    }
    case 'run_code': {
      const id = `tool-${params.effect}`;
      const artifact = { id, path: join(artifactDir, id) };
      const args = toolTable.run_code.arguments.parse(params.arguments);
      return await runCode({
        ...{ backend, clock, limits, guard: spec.guard, artifact, streamer, signal },
        ...toOutside(performance),
        arguments: args,
      });
    }
    case 'process_start':
    case 'process_poll':
    case 'process_input':
    case 'process_stop':
      return await runProcessTool(performance.processes, { ...params, tool, signal });
    case 'glob': {
      const args = toolTable.glob.arguments.parse(params.arguments);
      const { effect } = params;
      return await runGlob({ backend, clock, effect, limits, signal, arguments: args });
    }
    case 'search': {
      const args = toolTable.search.arguments.parse(params.arguments);
      const { effect } = params;
      return await runSearch({ backend, clock, effect, limits, signal, arguments: args });
    }
    case 'ask_user':
    case 'todo':
      return toFailure(`${tool} runs in the supervisor, not in a sandbox.`);
    case 'fetch': {
      const id = `tool-${params.effect}`;
      const artifact = { id, path: join(artifactDir, id) };
      const args = toolTable.fetch.arguments.parse(params.arguments);
      const { requests } = spec.network;
      return await runFetch({
        ...{ requests, toMarkdown: spec.toMarkdown, clock, limits, artifact, signal },
        fingerprints: spec.fingerprints,
        effect: params.effect,
        arguments: args,
      });
    }
    default:
      return await fileTools.run({ tool, arguments: params.arguments, limits, signal });
  }
}

/** Whose requests they are, and what goes in and may not come out. */
function toOutside({ spec, params }: Performance) {
  const { readSecret } = spec.network.requests;
  return { effect: params.effect, fingerprints: spec.fingerprints, readSecret };
}
