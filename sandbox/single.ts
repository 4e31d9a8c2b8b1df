/** One command in a sandbox for a person or a script: `prx sandbox run`. The same backend, limits
 *  and end as a tool call has; only its output goes straight to our own streams. */
import type { Clock } from '../base/clock.ts';
import type { SandboxPolicy } from '../protocol/sandbox-methods.ts';
import type { Backend, CommandUse } from './launch/backend.ts';
import { quote } from './launch/quote.ts';
import type { WorkspaceGuard } from './launch/workspace-guard.ts';
import { type Ending, toEnding, toWithheldSentence } from './outcome.ts';
import { toPrintable } from './printable.ts';
import { runScript, type StopCause } from './script.ts';
import type { StreamName } from './streamer.ts';
import { FLOOD_FACTOR } from './tools/shell.ts';
import { toTreeLimits } from './watch.ts';

export interface SingleSpec {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly policy: SandboxPolicy;
  readonly guard: WorkspaceGuard;
  readonly use: CommandUse;
  readonly command: readonly string[];
  /** Bytes as they come. */
  readonly raw: boolean;
  readonly signal: AbortSignal;
  /** Resolves when there is room for more. */
  readonly write: (stream: StreamName, bytes: Buffer | string) => Promise<void>;
}

const statusExits = {
  denied: 5,
  timeout: 124,
  memory: 6,
  killed: 6,
  cancelled: 130,
  indeterminate: 1,
} as const;

/** The exit code of the command, or that of the status which ended it, with the sentence. */
export async function runSingle(spec: SingleSpec): Promise<number> {
  const { backend, clock, policy, command, use, signal } = spec;
  const { timeoutMs, maxOutputBytes } = policy;
  const floodBytes = maxOutputBytes * FLOOD_FACTOR;
  const output = createOutput(spec);
  const script = `exec ${command.map(quote).join(' ')}\n`;
  let producedBytes = 0;

  async function onOutput(name: StreamName, bytes: Buffer, stop: (cause: StopCause) => void) {
    producedBytes += bytes.length;
    if (producedBytes > floodBytes) stop('flood');
    await output.push(name, bytes);
  }

  const guard = spec.guard.watch();
  const bounds = { timeoutMs, limits: toTreeLimits(policy, backend.temporaryFolder), guard };
  const end = await runScript({ backend, clock, script, use, ...bounds, signal, onOutput });
  guard?.close();
  const withheld = [...(end.withheld ?? []), ...(await spec.guard.scan())];
  await output.finish(producedBytes);
  const ending = toEnding(end, { timeoutMs, floodBytes });
  const exit = toExit(ending);
  if (ending.status !== 'ok' && ending.status !== 'error') {
    await spec.write('stderr', `prx-supervisor: ${ending.status}: ${ending.sentence}\n`);
  }
  if (withheld.length > 0) {
    await spec.write('stderr', `prx-supervisor: ${toWithheldSentence(withheld)}\n`);
  }
  return exit;
}

function toExit({ status, exitCode }: Ending): number {
  if (status === 'ok' || status === 'error') return exitCode ?? 1;
  return statusExits[status];
}

/** Passes on up to the cap; what follows is counted and said once. */
function createOutput({ policy, raw, write }: SingleSpec) {
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  let leftBytes = policy.maxOutputBytes;
  return {
    async push(name: StreamName, bytes: Buffer): Promise<void> {
      const part = bytes.subarray(0, Math.max(0, leftBytes));
      leftBytes -= part.length;
      if (part.length === 0) return;
      if (raw) await write(name, part);
      else await write(name, toPrintable(decoders[name].decode(part, { stream: true })));
    },
    async finish(producedBytes: number): Promise<void> {
      if (!raw) for (const name of ['stdout', 'stderr'] as const) await flush(name);
      const cut = producedBytes - policy.maxOutputBytes;
      if (cut <= 0) return;
      const limit = `security.sandbox.max_output_bytes = ${policy.maxOutputBytes}`;
      await write('stderr', `prx-supervisor: ${cut} bytes of output were cut (${limit})\n`);
    },
  };

  async function flush(name: StreamName): Promise<void> {
    const rest = decoders[name].decode();
    if (rest !== '') await write(name, toPrintable(rest));
  }
}
