/** The calls that run in one MCP host, of however many sessions. Order that must hold: the end to
 *  the spool, synced where nobody is there to commit it, then answered. */
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import type { ToolOutcome } from '../../protocol/content.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { RunningSpan } from '../../protocol/orphan-door.ts';
import { redactText } from '../../protocol/redactor.ts';
import { type ToolResult, toFailure } from '../outcome.ts';
import { openSpool } from '../spool.ts';
import type { CallEnd } from './call-end.ts';
import { toToolResult } from './result.ts';
import type { McpServer } from './server.ts';

export interface McpCall {
  readonly session: SessionId;
  readonly effect: EffectId;
  readonly tool: string;
  readonly arguments: unknown;
  readonly attempt: number;
  readonly spoolPath: string;
  readonly fingerprints: Fingerprints;
}

export interface McpCallsSpec {
  readonly server: McpServer;
  readonly level: string;
  readonly notice: string | undefined;
  readonly timeoutMs: number;
  readonly maxOutputBytes: number;
  readonly artifactsDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly isOrphaned: () => boolean;
}

export interface McpCalls {
  run(call: McpCall): Promise<ToolOutcome>;
  cancel(session: SessionId, effect: EffectId): void;
  cancelAll(): void;
  running(): readonly RunningSpan[];
  /** Resolves when no call runs. */
  settled(): Promise<void>;
}

/** All sessions together, and one of them: the others always find room. */
const RUNNING_MAX = 64;
const RUNNING_PER_SESSION_MAX = 16;
/** Beside the time limit: to give the call up, to write it down. */
const MARGIN_MS = 5000;

interface Running {
  readonly outcome: Promise<ToolOutcome>;
  readonly abort: AbortController;
  readonly span: RunningSpan;
}

export function createMcpCalls(spec: McpCallsSpec): McpCalls {
  const running = new Map<string, Running>();

  function findRefusal(session: SessionId): string | undefined {
    const own = [...running.values()].filter(({ span }) => span.session === session).length;
    if (running.size < RUNNING_MAX && own < RUNNING_PER_SESSION_MAX) return undefined;
    const limits = `${RUNNING_PER_SESSION_MAX} of one session, ${RUNNING_MAX} of all`;
    return `The server is busy: ${running.size} calls run (limits: ${limits}). Nothing ran; call again later.`;
  }

  return {
    async run(call) {
      const key = keyOf(call.session, call.effect);
      const joined = running.get(key);
      if (joined !== undefined) return await joined.outcome;
      const refusal = findRefusal(call.session);
      const abort = new AbortController();
      const outcome = runCall(spec, call, { signal: abort.signal, refusal });
      running.set(key, { outcome, abort, span: toSpan(spec, call) });
      try {
        return await outcome;
      } finally {
        running.delete(key);
      }
    },
    cancel: (session, effect) => running.get(keyOf(session, effect))?.abort.abort(),
    cancelAll() {
      for (const { abort } of running.values()) abort.abort();
    },
    running: () => [...running.values()].map(({ span }) => span),
    async settled() {
      await Promise.allSettled([...running.values()].map(({ outcome }) => outcome));
    },
  };
}

function keyOf(session: SessionId, effect: EffectId): string {
  return `${session}/${effect}`;
}

function toSpan({ clock, timeoutMs }: McpCallsSpec, call: McpCall): RunningSpan {
  const { session, effect, attempt } = call;
  const startedMs = clock.nowMs();
  return { session, effect, attempt, startedMs, deadlineMs: startedMs + timeoutMs + MARGIN_MS };
}

async function runCall(
  spec: McpCallsSpec,
  call: McpCall,
  how: { readonly signal: AbortSignal; readonly refusal: string | undefined },
): Promise<ToolOutcome> {
  const { clock, logger, level, notice } = spec;
  const startedMs = clock.nowMs();
  const spool = openSpool(call.spoolPath, logger, spec.isOrphaned);
  if (spool.kind === 'refused') return { ...toFailure(spool.message), duration_ms: 0 };
  const result =
    how.refusal === undefined ? await perform(spec, call, how.signal) : toFailure(how.refusal);
  const outcome: ToolOutcome = {
    ...result,
    output: redactText(result.output, call.fingerprints),
    duration_ms: Math.round(clock.nowMs() - startedMs),
    level,
    ...(notice === undefined ? {} : { notice }),
  };
  spool.finish({ kind: 'end', outcome });
  return outcome;
}

async function perform(
  spec: McpCallsSpec,
  call: McpCall,
  signal: AbortSignal,
): Promise<ToolResult> {
  const { server, timeoutMs, maxOutputBytes } = spec;
  const problem = server.findProblem(call.tool, call.arguments);
  if (problem !== undefined) return toFailure(problem);
  const { tool, arguments: args, effect, session, fingerprints } = call;
  const end = await server.call({ tool, arguments: args, timeoutMs, signal });
  const artifactDir = join(spec.artifactsDir, session);
  if (end.kind === 'result') {
    return toToolResult(end.result, { effect, artifactDir, maxOutputBytes, fingerprints });
  }
  return toEndResult(end, timeoutMs);
}

/** Every sentence about a call that brought no result. Pure. */
function toEndResult(end: Exclude<CallEnd, { kind: 'result' }>, timeoutMs: number): ToolResult {
  switch (end.kind) {
    case 'failed':
      return toFailure(`The MCP server refused or failed: ${end.message}`);
    case 'timeout': {
      const limit = `The MCP server did not answer within ${timeoutMs / 1000} s and was told to stop.`;
      return toFailure(`${limit} Whether the call had its effect is not known.`, 'timeout');
    }
    case 'cancelled': {
      const message = 'The call was cancelled. Whether it had its effect is not known.';
      return toFailure(message, 'cancelled');
    }
    case 'unclear':
      return toUnknown(`The MCP server gave no usable answer (${end.detail})`);
    case 'lost':
      return toUnknown(`The MCP server went away during the call (${end.detail})`);
  }
}

function toUnknown(what: string): ToolResult {
  const message = `${what}: whether it had its effect is not known. Look at the present state before you repeat it.`;
  return toFailure(message, 'indeterminate');
}
