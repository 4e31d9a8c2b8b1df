/** The shell tool: one command, one fresh sandbox. */
import type { z } from 'zod';
import type { Clock } from '../../base/clock.ts';
import type { shellArgumentsSchema } from '../../protocol/tools.ts';
import { createCollector } from '../collect.ts';
import type { Backend } from '../launch/backend.ts';
import { joinSentence, type ToolResult, toEnding, toShown } from '../outcome.ts';
import { runScript, type StopCause } from '../script.ts';
import { ARTIFACT_BYTES_MAX, createSpill } from '../spill.ts';
import type { Streamer, StreamName } from '../streamer.ts';

export interface ShellCall {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly arguments: z.infer<typeof shellArgumentsSchema>;
  readonly limits: { readonly timeoutMs: number; readonly maxOutputBytes: number };
  readonly artifact: { readonly id: string; readonly path: string };
  readonly streamer: Streamer;
  readonly signal: AbortSignal;
}

/** A command that prints this many times its cap is not talking to anyone any more. */
const FLOOD_FACTOR = 64;

/** Throws SANDBOX_UNAVAILABLE; every other end is a result. */
export async function runShell(call: ShellCall): Promise<ToolResult> {
  const { backend, clock, limits, artifact, streamer, signal } = call;
  const { command, timeout_secs: asked } = call.arguments;
  const timeoutMs = Math.min(limits.timeoutMs, (asked ?? Number.POSITIVE_INFINITY) * 1000);
  const floodBytes = limits.maxOutputBytes * FLOOD_FACTOR;
  const collector = createCollector(limits.maxOutputBytes);
  const spill = createSpill({
    path: artifact.path,
    thresholdBytes: limits.maxOutputBytes,
    bytesMax: ARTIFACT_BYTES_MAX,
  });
  const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  let producedBytes = 0;

  async function show(stream: StreamName, text: string): Promise<void> {
    if (text === '') return;
    collector.add(text);
    await streamer.push(stream, text);
  }
  async function onOutput(name: StreamName, bytes: Buffer, stop: (cause: StopCause) => void) {
    producedBytes += bytes.length;
    if (producedBytes > floodBytes) stop('flood');
    spill.add(bytes);
    await show(name, decoders[name].decode(bytes, { stream: true }));
  }

  const end = await runScript({ backend, clock, script: command, timeoutMs, signal, onOutput });
  for (const name of ['stdout', 'stderr'] as const) await show(name, decoders[name].decode());
  await streamer.flush();
  const ending = toEnding(end, { timeoutMs, floodBytes });
  const shown = toShown({ collector, spill: spill.finish(), artifact: artifact.id });
  return {
    ...shown,
    status: ending.status,
    output: joinSentence(shown.output, ending.sentence),
    ...(ending.exitCode === undefined ? {} : { exit_code: ending.exitCode }),
  };
}
