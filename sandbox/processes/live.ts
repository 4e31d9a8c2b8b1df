/** One background process while it runs: from its sandbox to its record file. It is a script run
 *  like that of any call, and ended by the same watch over time, memory, processor and disk. */
import type { Writable } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import { type PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { ProcessEnd, ProcessEndReason, ProcessStart } from '../../protocol/processes.ts';
import { createRedactor } from '../../protocol/redactor.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type { Backend } from '../launch/backend.ts';
import type { CommandTree } from '../launch/command-tree.ts';
import type { WorkspaceGuard } from '../launch/workspace-guard.ts';
import { toEnding, toWithheldSentence } from '../outcome.ts';
import { toPrintable } from '../printable.ts';
import { runScript, type ScriptEnd, type StopCause } from '../script.ts';
import type { StreamName } from '../streamer.ts';
import { FLOOD_FACTOR } from '../tools/shell.ts';
import { toTreeLimits } from '../watch.ts';
import type { ProcessPlace, ProcessRecord } from './record.ts';

export interface LiveSpec {
  readonly backend: Backend;
  readonly policy: SandboxPolicy;
  readonly guard: WorkspaceGuard;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly fingerprints: () => Fingerprints;
  readonly register: (start: ProcessStart) => Promise<unknown>;
  readonly place: ProcessPlace;
  readonly start: ProcessStart;
  readonly record: ProcessRecord;
  readonly timeoutMs: number;
  /** Wall time since when no call of the session can have written; undefined: one runs. */
  readonly quietSinceMs: () => number | undefined;
}

export interface LiveProcess {
  readonly start: ProcessStart;
  readonly record: ProcessRecord;
  readonly startedMs: number;
  readonly timeoutMs: number;
  /** Resolves when it runs, or with why it never will. */
  readonly begun: Promise<string | undefined>;
  /** Its end is in its record. Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  /** It does not begin, unless it has begun. */
  refuse(why: PrxError): void;
  refusedStatus(): 'error' | 'cancelled';
  /** Resolves when it printed something behind `offset`, has ended, or the signal aborts. */
  awaitOutput(offset: number, signal: AbortSignal): Promise<void>;
  /** @returns why nothing was written. */
  write(
    text: string,
    options: { readonly isLast: boolean; readonly bytesMax: number },
  ): string | undefined;
  /** Asks all its processes to end. */
  terminate(reason: ProcessEndReason): void;
  /** Ends all its processes. Idempotent; the first reason counts. */
  kill(reason: ProcessEndReason): void;
}

export function startLive(spec: LiveSpec): LiveProcess {
  const { backend, clock, policy, record, start, timeoutMs } = spec;
  const abort = new AbortController();
  const begun = Promise.withResolvers<string | undefined>();
  const waiters = new Set<() => void>();
  const startedMs = clock.nowMs();
  const floodBytes = Math.max(policy.maxOutputBytes, 1024) * FLOOD_FACTOR;
  let admission: Promise<unknown> | undefined;
  let refusal: PrxError | undefined;
  let stdin: Writable | undefined;
  let tree: CommandTree | undefined;
  let reason: ProcessEndReason | undefined;
  let hasBegun = false;
  let isOver = false;

  const wake = (): void => {
    for (const each of waiters) each();
  };

  /** Once: a sandbox that died before it ran anything is replaced. */
  async function admit(): Promise<void> {
    admission ??= refusal === undefined ? spec.register(start) : Promise.reject(refusal);
    await admission;
    if (refusal !== undefined) throw refusal;
  }

  async function run(script: string) {
    const command = await backend.start(script, { call: start.call_id }, admit);
    stdin = command.stdin;
    tree = command.tree;
    hasBegun = true;
    begun.resolve(undefined);
    return command;
  }

  async function runToEnd(): Promise<ProcessEnd> {
    const output = createOutput(spec.fingerprints, (text) => {
      record.append(text);
      wake();
    });
    const guard = spec.guard.watch();
    const limits = toTreeLimits(policy, backend.temporaryFolder);
    let producedBytes = 0;
    let end: ProcessEnd;
    try {
      const ended = await runScript({
        ...{ backend: { run }, clock, script: start.command, timeoutMs, limits, guard },
        signal: abort.signal,
        growthSince: spec.quietSinceMs,
        async onOutput(stream, bytes, stop: (cause: StopCause) => void) {
          producedBytes += bytes.length;
          if (producedBytes > floodBytes) stop('flood');
          output.push(stream, bytes);
        },
      });
      output.end();
      const withheld = toWithheldSentence(ended.withheld ?? []);
      if (withheld !== '') record.append(`\n[${withheld}]\n`);
      end = hasBegun ? toEnd(ended, reason, { timeoutMs, floodBytes }) : { reason: 'not_started' };
      begun.resolve('it was ended before it could begin');
    } catch (error) {
      end = { reason: 'not_started' };
      begun.resolve(toPrxError(error).message);
    } finally {
      guard?.close();
    }
    isOver = true;
    stdin?.destroy();
    const durationMs = Math.round(clock.nowMs() - startedMs);
    const whole = { ...end, duration_ms: durationMs, output_bytes: record.outputBytes() };
    record.finish(whole);
    spec.logger.info('process.ended', { call: start.call_id, reason: end.reason });
    wake();
    return whole;
  }

  return {
    ...{ start, record, startedMs, timeoutMs },
    begun: begun.promise,
    ended: runToEnd(),
    refuse(why) {
      refusal ??= why;
    },
    refusedStatus: () => (refusal === undefined ? 'error' : 'cancelled'),
    awaitOutput(offset, signal) {
      return new Promise((resolve) => {
        const look = (): void => {
          if (!isOver && !signal.aborted && record.outputBytes() <= offset) return;
          waiters.delete(look);
          signal.removeEventListener('abort', look);
          resolve();
        };
        waiters.add(look);
        signal.addEventListener('abort', look);
        look();
      });
    },
    write(text, { isLast, bytesMax }) {
      if (stdin === undefined || !stdin.writable) return 'its standard input is closed.';
      const waiting = stdin.writableLength;
      if (waiting + Buffer.byteLength(text) > bytesMax) {
        return `it has not read ${waiting} bytes of earlier input; the limit is ${bytesMax}.`;
      }
      const input = stdin;
      // Destroyed, not ended: the end of a named pipe is that nobody has it open.
      input.write(text, () => (isLast ? input.destroy() : undefined));
      if (isLast) stdin = undefined;
      return undefined;
    },
    terminate(why) {
      reason ??= why;
      tree?.signal('SIGTERM');
    },
    kill(why) {
      reason ??= why;
      abort.abort();
    },
  };
}

function createOutput(fingerprints: () => Fingerprints, show: (text: string) => void) {
  // Before anything else sees it, as the output of a call.
  const streams = {
    stdout: { redactor: createRedactor(fingerprints), decoder: new TextDecoder() },
    stderr: { redactor: createRedactor(fingerprints), decoder: new TextDecoder() },
  };
  return {
    push(name: StreamName, bytes: Buffer): void {
      const { redactor, decoder } = streams[name];
      show(toPrintable(decoder.decode(redactor.push(bytes), { stream: true })));
    },
    end(): void {
      for (const { redactor, decoder } of Object.values(streams)) {
        show(toPrintable(decoder.decode(redactor.end())));
      }
    },
  };
}

/** Which end this is. Pure.
 *  @param reason  what ended it from here; undefined: nothing did. */
export function toEnd(
  end: ScriptEnd,
  reason: ProcessEndReason | undefined,
  limits: { readonly timeoutMs: number; readonly floodBytes: number },
): ProcessEnd {
  switch (end.kind) {
    case 'exited':
      return { reason: reason ?? 'exited', exit_code: end.code };
    case 'timeout': {
      const seconds = limits.timeoutMs / 1000;
      const exceeded = { limit: 'background_timeout_secs', value: seconds, max: seconds };
      return { reason: 'deadline', exceeded };
    }
    case 'limit':
    case 'flood': {
      const { exceeded } = toEnding(end, limits);
      return { reason: 'limit', ...(exceeded === undefined ? {} : { exceeded }) };
    }
    case 'cancelled':
    case 'enough':
    case 'lost':
    case 'unstarted':
      return { reason: reason ?? 'lost' };
  }
}
