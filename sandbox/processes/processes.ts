/** The background processes of a session: what process_start, process_poll, process_input and
 *  process_stop do. Each runs as a call does, in a sandbox of its own under the same policy and
 *  limits, but its call is over. Order that must hold: its record in a file, its start in the
 *  journal, then it runs; its end in the file, then the supervisor hears of it. Nothing here lives
 *  longer than the host: the cell ends with it, whatever kills it. */
import { dirname } from 'node:path';
import type { z } from 'zod';
import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { toTimestamp } from '../../base/clock.ts';
import { PrxError, systemCode, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { Fingerprints } from '../../protocol/fingerprints.ts';
import type { EffectId, SessionId } from '../../protocol/ids.ts';
import type { RunningSpan } from '../../protocol/orphan-door.ts';
import type { ProcessEnd, ProcessEndReason, ProcessStart } from '../../protocol/processes.ts';
import type { SandboxPolicy } from '../../protocol/sandbox-methods.ts';
import type {
  processInputArgumentsSchema,
  processPollArgumentsSchema,
  processStartArgumentsSchema,
} from '../../protocol/tools.ts';
import type { Backend } from '../launch/backend.ts';
import type { WorkspaceGuard } from '../launch/workspace-guard.ts';
import { type ToolResult, toFailure } from '../outcome.ts';
import { toPrintable } from '../printable.ts';
import { type LiveProcess, startLive } from './live.ts';
import {
  forgetProcess,
  type KnownProcess,
  listProcessRecords,
  openProcessRecord,
  type ProcessPlace,
  readOutput,
  readProcess,
} from './record.ts';
import { type Standing, toList, toShownOutput } from './shown.ts';

export interface ProcessesSpec {
  readonly session: SessionId;
  readonly backend: Backend;
  readonly policy: SandboxPolicy;
  readonly guard: WorkspaceGuard;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly fingerprints: () => Fingerprints;
  /** As LiveSpec has it. */
  readonly quietSinceMs: () => number | undefined;
  /** Resolves when the journal has its start; rejects: it may not run. */
  readonly register: (start: ProcessStart) => Promise<unknown>;
  /** Its end is in its file. */
  readonly onEnded: (call: EffectId, end: ProcessEnd) => void;
}

export interface ProcessCall<A> {
  readonly effect: EffectId;
  /** Of the call: the files of processes stand beside it. */
  readonly spoolPath: string;
  readonly arguments: A;
  readonly signal: AbortSignal;
}

export interface Processes {
  start(call: ProcessCall<z.infer<typeof processStartArgumentsSchema>>): Promise<ToolResult>;
  poll(call: ProcessCall<z.infer<typeof processPollArgumentsSchema>>): Promise<ToolResult>;
  input(call: ProcessCall<z.infer<typeof processInputArgumentsSchema>>): Promise<ToolResult>;
  stop(call: ProcessCall<{ readonly process: EffectId }>): Promise<ToolResult>;
  /** Kills all; resolves when all have ended. Behind `orphaned` none is started any more. */
  endAll(reason: ProcessEndReason): Promise<void>;
  running(): readonly RunningSpan[];
}

/** Ended ones whose output can still be read. */
const REMEMBERED_MAX = 16;
const POLL_BYTES = 32_768;
/** From the start, or an input, until something is printed. */
const FIRST_OUTPUT_MS = 1000;
/** What is being printed is waited for so long. */
const BURST_MS = 50;
/** Between SIGTERM and SIGKILL. */
const STOP_GRACE_MS = 2000;
/** Written, and not yet read by the process. */
const INPUT_BYTES_MAX = 65_536;
/** An orphan that has not killed all by then is killed itself. */
const END_MS_MAX = 10_000;

export function createProcesses(spec: ProcessesSpec): Processes {
  const { session, clock, policy, logger } = spec;
  const lives = new Map<EffectId, LiveProcess>();
  /** Behind what the model was shown last. */
  const cursors = new Map<EffectId, number>();
  let endingMs: number | undefined;

  function findRefusal(): string | undefined {
    if (endingMs !== undefined)
      return 'The sandbox of this session is ending; nothing was started.';
    if (policy.backgroundMax === 0) {
      return 'No background process may be started: security.sandbox.max_background_processes is 0. Use shell.';
    }
    if (lives.size < policy.backgroundMax) return undefined;
    const names = [...lives.keys()].join(', ');
    return `${lives.size} background processes run already (${names}); the limit security.sandbox.max_background_processes is ${policy.backgroundMax}. Stop one, then call again.`;
  }

  /** Undefined: its record could not be made. */
  function begin(
    { effect, arguments: args }: ProcessCall<z.infer<typeof processStartArgumentsSchema>>,
    place: ProcessPlace,
  ): LiveProcess {
    const askedMs = (args.timeout_secs ?? Number.POSITIVE_INFINITY) * 1000;
    const timeoutMs = Math.min(policy.backgroundTimeoutMs, askedMs);
    const nowMs = clock.wallMs();
    const start: ProcessStart = {
      call_id: effect,
      command: args.command,
      level: spec.backend.level,
      started_at: toTimestamp(nowMs),
      deadline_at: toTimestamp(nowMs + timeoutMs),
    };
    const record = openProcessRecord(place, start, Math.max(policy.maxOutputBytes, 1024));
    const live = startLive({ ...spec, place, start, record, timeoutMs });
    lives.set(effect, live);
    const over = live.ended.then((end) => {
      lives.delete(effect);
      spec.onEnded(effect, end);
    });
    background(over, 'process.end', logger);
    return live;
  }

  function forgetOldest(folder: string): void {
    const ended = listProcessRecords(folder).filter(({ start }) => !lives.has(start.call_id));
    for (const { start } of ended.slice(0, Math.max(0, ended.length - REMEMBERED_MAX))) {
      forgetProcess({ folder, call: start.call_id });
      cursors.delete(start.call_id);
    }
  }

  function toStanding(call: string, known: KnownProcess): Standing {
    // An id that parsed when the record was read.
    const live = lives.get(call as EffectId);
    if (live === undefined) return { call, known };
    const ranForMs = clock.nowMs() - live.startedMs;
    const leftMs = live.startedMs + live.timeoutMs - clock.nowMs();
    return { call, known, live: { ranForMs, leftMs }, failure: live.record.failure() };
  }

  function show(
    place: ProcessPlace,
    call: EffectId,
    {
      offset,
      bytesMax = POLL_BYTES,
    }: { readonly offset?: number; readonly bytesMax?: number } = {},
  ): ToolResult {
    const known = readProcess(place);
    if (known === undefined) return toUnknown(place);
    const wanted = offset ?? cursors.get(call) ?? 0;
    const part = readOutput(place, wanted, bytesMax);
    cursors.set(call, part.next);
    return toShownOutput(toStanding(call, known), part, wanted);
  }

  function toUnknown({ folder, call }: ProcessPlace): ToolResult {
    const names = listProcessRecords(folder).map(({ start }) => start.call_id);
    const there = names.length === 0 ? 'there is none' : `there are: ${names.join(', ')}`;
    return toFailure(`There is no background process ${call}; ${there}.`);
  }

  /** Until it printed something behind `offset` or has ended, and the burst is over. */
  async function awaitNews(
    live: LiveProcess,
    { offset, waitMs }: { readonly offset: number; readonly waitMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    if (waitMs <= 0) return;
    const late = new AbortController();
    const timer = clock.setTimer(waitMs, () => late.abort());
    const stop = AbortSignal.any([signal, late.signal]);
    await live.awaitOutput(offset, stop);
    timer.cancel();
    if (!stop.aborted && lives.has(live.start.call_id)) {
      await Promise.race([live.ended, clock.sleep(BURST_MS, signal)]);
    }
  }

  return {
    async start(call) {
      const refusal = findRefusal();
      if (refusal !== undefined) return toFailure(refusal);
      const place = { folder: dirname(call.spoolPath), call: call.effect };
      forgetOldest(place.folder);
      let live: LiveProcess;
      try {
        live = begin(call, place);
      } catch (error) {
        const reason = systemCode(error) ?? toPrxError(error).message;
        return toFailure(`It was not started: its record could not be made (${reason}).`);
      }
      const cancel = (): void => live.refuse(new PrxError('CANCELLED', 'the call was cancelled'));
      call.signal.addEventListener('abort', cancel, { once: true });
      if (call.signal.aborted) cancel();
      const problem = await live.begun;
      call.signal.removeEventListener('abort', cancel);
      if (problem !== undefined) {
        return toFailure(`It was not started, nothing ran: ${problem}`, live.refusedStatus());
      }
      await awaitNews(live, { offset: 0, waitMs: FIRST_OUTPUT_MS }, call.signal);
      return show(place, call.effect);
    },
    async poll({ spoolPath, arguments: args, signal }) {
      const folder = dirname(spoolPath);
      const { process: call, offset, wait_secs: waitSecs = 0, max_bytes: bytesMax } = args;
      if (call === undefined) {
        return toList(
          listProcessRecords(folder).map((each) => toStanding(each.start.call_id, each)),
        );
      }
      const live = lives.get(call);
      if (live !== undefined) {
        const wanted = offset ?? cursors.get(call) ?? 0;
        const behind = wanted < 0 ? live.record.outputBytes() : wanted;
        const waitMs = Math.min(waitSecs * 1000, policy.timeoutMs);
        await awaitNews(live, { offset: behind, waitMs }, signal);
      }
      return show({ folder, call }, call, {
        ...(offset === undefined ? {} : { offset }),
        ...(bytesMax === undefined ? {} : { bytesMax }),
      });
    },
    async input({ spoolPath, arguments: { process: call, text, end }, signal }) {
      const place = { folder: dirname(spoolPath), call };
      const known = readProcess(place);
      const live = lives.get(call);
      if (known === undefined) return toUnknown(place);
      if (live === undefined) {
        const { output } = show(place, call);
        return toFailure(`Nothing was written.\n${output}`);
      }
      const printed = live.record.outputBytes();
      const refusal = live.write(text, { isLast: end === true, bytesMax: INPUT_BYTES_MAX });
      if (refusal !== undefined) return toFailure(`Nothing was written: ${toPrintable(refusal)}`);
      await awaitNews(live, { offset: printed, waitMs: FIRST_OUTPUT_MS }, signal);
      return show(place, call);
    },
    async stop({ spoolPath, arguments: { process: call } }) {
      const live = lives.get(call);
      if (live !== undefined) {
        live.terminate('stopped');
        await Promise.race([live.ended, clock.sleep(STOP_GRACE_MS)]);
        live.kill('stopped');
        await live.ended;
      }
      return show({ folder: dirname(spoolPath), call }, call);
    },
    async endAll(reason) {
      if (reason === 'orphaned') endingMs ??= clock.nowMs();
      for (const live of lives.values()) live.kill(reason);
      await Promise.all([...lives.values()].map(({ ended }) => ended));
    },
    running: () =>
      [...lives].map(([effect, { startedMs, timeoutMs }]) => {
        const ownMs = startedMs + timeoutMs;
        const deadlineMs = endingMs === undefined ? ownMs : Math.min(ownMs, endingMs + END_MS_MAX);
        return { session, effect, attempt: 1, startedMs, deadlineMs };
      }),
  };
}
