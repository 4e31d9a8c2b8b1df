/** The shell tool: one command, one fresh sandbox. */
import type { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId } from '../../protocol/ids.ts';
import { createRedactor } from '../../protocol/redactor.ts';
import { hasOwnRoot } from '../../protocol/sandbox-levels.ts';
import type { shellArgumentsSchema } from '../../protocol/tools.ts';
import { createCollector } from '../collect.ts';
import type { Backend } from '../launch/backend.ts';
import type { WorkspaceGuard } from '../launch/workspace-guard.ts';
import type { ReadSecret } from '../network/requests.ts';
import {
  joinSentence,
  type ToolLimits,
  type ToolResult,
  toEnding,
  toFailure,
  toShown,
  toUsage,
  toWithheldSentence,
} from '../outcome.ts';
import { toPrintable } from '../printable.ts';
import { runScript, type StopCause } from '../script.ts';
import { ARTIFACT_BYTES_MAX, createSpill } from '../spill.ts';
import type { Streamer, StreamName } from '../streamer.ts';

export interface ShellCall {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly effect: EffectId;
  readonly arguments: z.infer<typeof shellArgumentsSchema>;
  readonly limits: ToolLimits;
  readonly guard: WorkspaceGuard;
  readonly artifact: { readonly id: string; readonly path: string };
  readonly streamer: Streamer;
  readonly fingerprints: () => Fingerprints;
  readonly readSecret: ReadSecret;
  readonly signal: AbortSignal;
}

/** A command that prints this many times its cap is not talking to anyone any more. */
export const FLOOD_FACTOR = 64;

/** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
export async function runShell(call: ShellCall): Promise<ToolResult> {
  const { backend, clock, limits, artifact, streamer, signal } = call;
  const { command, timeout_secs: asked, secrets = [] } = call.arguments;
  const files = await takeSecrets(call, secrets);
  if ('reason' in files) return toFailure(files.reason, 'denied');
  const timeoutMs = Math.min(limits.timeoutMs, (asked ?? Number.POSITIVE_INFINITY) * 1000);
  const floodBytes = limits.maxOutputBytes * FLOOD_FACTOR;
  const collector = createCollector(limits.maxOutputBytes);
  const spill = createSpill({
    path: artifact.path,
    thresholdBytes: limits.maxOutputBytes,
    bytesMax: ARTIFACT_BYTES_MAX,
  });
  // Before anything else sees it: the stream, the artifact and the answer.
  const redactors = {
    stdout: createRedactor(call.fingerprints),
    stderr: createRedactor(call.fingerprints),
  };
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  let producedBytes = 0;

  async function show(stream: StreamName, decoded: string): Promise<void> {
    if (decoded === '') return;
    const text = toPrintable(decoded);
    collector.add(text);
    await streamer.push(stream, text);
  }
  async function onOutput(name: StreamName, bytes: Buffer, stop: (cause: StopCause) => void) {
    producedBytes += bytes.length;
    if (producedBytes > floodBytes) stop('flood');
    await take(name, redactors[name].push(bytes));
  }
  async function take(name: StreamName, clean: Buffer): Promise<void> {
    spill.add(clean);
    await show(name, decoders[name].decode(clean, { stream: true }));
  }

  const guard = call.guard.watch();
  const bounds = { timeoutMs, limits: limits.tree, guard };
  const use = { call: call.effect, ...files };
  const end = await runScript({
    ...{ backend, clock, script: command, use, ...bounds, signal, onOutput },
  }).finally(() => guard?.close());
  for (const name of ['stdout', 'stderr'] as const) {
    await take(name, redactors[name].end());
    await show(name, decoders[name].decode());
  }
  await streamer.flush();
  const ending = toEnding(end, { timeoutMs, floodBytes });
  const shown = toShown({ collector, spill: spill.finish(), artifact: artifact.id });
  return {
    ...shown,
    status: ending.status,
    // A command of a few milliseconds is over before its memory is looked at.
    usage: { output_bytes: producedBytes, ...toUsage(end).usage },
    ...(ending.exceeded === undefined ? {} : { exceeded: ending.exceeded }),
    output: withSentences(shown.output, ending.sentence, toWithheldSentence(end.withheld ?? [])),
    ...(ending.exitCode === undefined ? {} : { exit_code: ending.exitCode }),
  };
}

function withSentences(output: string, ending: string, withheld: string): string {
  const ended = joinSentence(output, ending);
  return withheld === '' ? ended : joinSentence(ended, withheld);
}

/** Values by name for this call alone; one that is refused refuses the call. */
async function takeSecrets(
  { backend, effect, readSecret }: ShellCall,
  names: readonly string[],
): Promise<{ readonly secrets: Record<string, string> } | { readonly reason: string }> {
  const secrets: Record<string, string> = {};
  if (names.length > 0 && !hasOwnRoot(backend.level)) {
    const reason = `Secrets are given as files of a sandbox of its own, and level ${backend.level} has none.`;
    return { reason };
  }
  for (const name of new Set(names)) {
    const asked = { use: 'file', purpose: 'file for a command', call: effect } as const;
    const answer = await readSecret(name, asked);
    if (answer.kind === 'refused') return { reason: answer.reason };
    secrets[name] = answer.value;
  }
  return { secrets };
}
