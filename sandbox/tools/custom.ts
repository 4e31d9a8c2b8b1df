/** The host's side of the user's own tools: each call has a sandboxed process, watched like a
 *  command, and in there a thread. The thread ends what it can by itself and gently; what a thread
 *  cannot be held to (memory beyond its heap, disk) ends the process. */
import type { Clock } from '../../base/clock.ts';
import { isPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { CustomTools } from '../../protocol/custom-tools.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId } from '../../protocol/ids.ts';
import { redactText } from '../../protocol/redactor.ts';
import { createCollector } from '../collect.ts';
import type { CallResult } from '../inside/custom/methods.ts';
import type { Backend } from '../launch/backend.ts';
import type { Withheld } from '../launch/guards.ts';
import type { WorkspaceGuard } from '../launch/workspace-guard.ts';
import {
  joinSentence,
  type ToolLimits,
  type ToolResult,
  toBreachEnding,
  toFailure,
  toShown,
  toWithheldSentence,
} from '../outcome.ts';
import { toPrintable } from '../printable.ts';
import { ARTIFACT_BYTES_MAX, createSpill } from '../spill.ts';
import type { Streamer } from '../streamer.ts';
import { type Breach, watchTree } from '../watch.ts';
import { createToolHosts, diedOfMemory, type ToolHost } from './tool-hosts.ts';

export interface CustomCall {
  readonly effect: EffectId;
  readonly tool: string;
  readonly arguments: unknown;
  readonly limits: ToolLimits;
  readonly artifact: { readonly id: string; readonly path: string };
  readonly streamer: Streamer;
  readonly fingerprints: () => Fingerprints;
  readonly signal: AbortSignal;
}

export interface CustomToolHost {
  /** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
  run(call: CustomCall): Promise<ToolResult>;
  /** What is wrong with the arguments; undefined: nothing. Throws SANDBOX_UNAVAILABLE. */
  check(tool: string, value: unknown): Promise<string | undefined>;
  close(): void;
}

export interface CustomToolsSpec {
  readonly backend: Backend;
  readonly custom: CustomTools | undefined;
  readonly guard: WorkspaceGuard;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Where a tool stands inside, and what its thread may use. */
interface Place {
  readonly root: string;
  readonly file: string;
  readonly digest: string;
  readonly heapBytes: number;
}

/** To load a file and look at arguments. */
const CHECK_MS = 5000;
/** Behind the limit of a call: the grace of its thread, its end, its answer. This is the backstop
 *  for a tool host that does not answer. */
const MARGIN_MS = 5000;

export function createCustomTools(spec: CustomToolsSpec): CustomToolHost {
  const { backend, custom } = spec;
  const hosts = createToolHosts(spec);

  return {
    async run(call) {
      const place = findPlace(spec, call.tool);
      if (place === undefined) return toFailure(toUnknown(custom, call.tool));
      if (call.signal.aborted) return toFailure('The call was cancelled.', 'cancelled');
      return hosts.use(async (host) => {
        const watch = watchCall(spec, host, call.limits);
        const asked = ask(host, call, { ...place, workspace: backend.workspace });
        const { breach, withheld } = await asked.then(watch.finish, watch.finish);
        const end = await asked;
        // What it used of the processor would be the next call's.
        host.isSpent ||= end.isSpent || call.limits.tree.cpuMs > 0;
        const result = breach === undefined ? finish(end, call, place.heapBytes) : toBreach(breach);
        if (withheld.length === 0) return result;
        return { ...result, output: joinSentence(result.output, toWithheldSentence(withheld)) };
      });
    },
    async check(tool, value) {
      const place = findPlace(spec, tool);
      if (place === undefined) return toUnknown(custom, tool);
      const params = { ...place, timeoutMs: CHECK_MS, arguments: value };
      return hosts.use(async (host) => {
        // Its schema is code, too: nobody comes after it.
        host.isSpent = true;
        const options = { timeoutMs: CHECK_MS + MARGIN_MS };
        return (await host.connection.request('custom/check', params, options)).problem;
      });
    },
    close: hosts.close,
  };
}

function findPlace({ backend, custom }: CustomToolsSpec, name: string): Place | undefined {
  const tool = custom?.tools.find((each) => each.name === name);
  const path = tool === undefined ? undefined : custom?.roots[tool.root];
  if (custom === undefined || tool === undefined || path === undefined) return undefined;
  const root = backend.toToolPath(path, tool.root);
  const file = tool.path === '' ? root : `${root}/${tool.path}`;
  return { root, file, digest: tool.digest, heapBytes: custom.heapBytes };
}

function toUnknown(custom: CustomTools | undefined, tool: string): string {
  const known = (custom?.tools ?? []).map(({ name }) => name).join(', ') || 'none';
  return `There is no custom tool ${JSON.stringify(tool)} here any more; there are: ${known}.`;
}

/** As of a command: the whole process, what it writes, and the guarded names. */
function watchCall(
  { guard, clock }: CustomToolsSpec,
  host: ToolHost,
  { tree: limits }: ToolLimits,
) {
  const names = guard.watch();
  const withheld: Withheld[] = [];
  const sweep = (): void => void withheld.push(...(names?.sweep() ?? []));
  const { tree } = host.process;
  const onBreach = (): void => host.process.kill();
  const watch = watchTree({ clock, tree, limits, onBreach, onLook: sweep });
  return {
    finish(): { readonly breach: Breach | undefined; readonly withheld: readonly Withheld[] } {
      const { breach } = watch.finish();
      sweep();
      names?.close();
      return { breach, withheld };
    },
  };
}

type End = Omit<CallResult, 'status'> & { readonly status: ToolResult['status'] };

async function ask(
  host: ToolHost,
  call: CustomCall,
  place: Place & { readonly workspace: string },
): Promise<End> {
  const { signal, streamer, arguments: args } = call;
  const { timeoutMs } = call.limits;
  const { connection } = host;
  const onCancel = (): void => void connection.notify('custom/cancel', {});
  signal.addEventListener('abort', onCancel, { once: true });
  let logged: Promise<void> = Promise.resolve();
  host.onLog = (text) => {
    const clean = toPrintable(redactText(text, call.fingerprints()));
    logged = logged.then(() => streamer.push('stderr', clean));
  };
  try {
    const params = { ...place, timeoutMs, arguments: args };
    const asked = connection.request('custom/call', params, { timeoutMs: timeoutMs + MARGIN_MS });
    // Cancelled while its process was started.
    if (signal.aborted) onCancel();
    return await asked;
  } catch (error) {
    return await toLostEnd(error, call, host);
  } finally {
    signal.removeEventListener('abort', onCancel);
    await logged;
    await streamer.flush();
  }
}

const UNKNOWN = 'Whether it had its effect is not known.';

async function toLostEnd(error: unknown, call: CustomCall, host: ToolHost): Promise<End> {
  const { tool, limits, signal } = call;
  host.process.kill();
  if (isPrxError(error, 'DEADLINE_EXCEEDED')) {
    const seconds = limits.timeoutMs / 1000;
    const status = signal.aborted ? 'cancelled' : 'timeout';
    const output = `${tool} did not end within ${seconds} s and was killed. ${UNKNOWN}`;
    return { status, output, isSpent: true };
  }
  if (!isPrxError(error, 'PEER_CLOSED')) throw error;
  if (await diedOfMemory(host)) {
    const output = `${tool} was ended because it asked for too much memory at once. Ask for less at once. ${UNKNOWN}`;
    return { status: 'memory', output, isSpent: true };
  }
  const output = `The process of ${tool} ended during the call: whether it had its effect is not known. Look at the present state before you repeat it.`;
  return { status: 'indeterminate', output, isSpent: true };
}

/** Bounded like the output of a command; the whole of it is an artifact. */
function finish(end: End, call: CustomCall, heapBytes: number): ToolResult {
  const { limits, artifact } = call;
  const collector = createCollector(limits.maxOutputBytes);
  const spill = createSpill({
    path: artifact.path,
    thresholdBytes: limits.maxOutputBytes,
    bytesMax: ARTIFACT_BYTES_MAX,
  });
  const text = toPrintable(redactText(end.output, call.fingerprints()));
  collector.add(text);
  spill.add(Buffer.from(text));
  const shown = toShown({ collector, spill: spill.finish(), artifact: artifact.id });
  const exceeded = toExceeded(end.status, limits.timeoutMs, heapBytes);
  return {
    ...shown,
    status: end.status,
    output: joinSentence(shown.output, ''),
    ...(exceeded === undefined ? {} : { exceeded }),
  };
}

function toExceeded(status: End['status'], timeoutMs: number, heapBytes: number) {
  const reached = (limit: string, max: number) => ({ limit, value: max, max });
  if (status === 'timeout') return reached('timeout_secs', timeoutMs / 1000);
  if (status === 'memory') return reached('custom_tools.memory_limit_mb', heapBytes / 2 ** 20);
  return undefined;
}

function toBreach(breach: Breach): ToolResult {
  const { sentence, status, exceeded } = toBreachEnding(breach);
  return { ...toFailure(sentence, status), ...(exceeded === undefined ? {} : { exceeded }) };
}
