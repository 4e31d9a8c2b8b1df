/** A session's hold on a worker: waiting for a slot, starting one, heartbeat, its death, giving it
 *  back. Invariant: at most one live worker per session, and only the newest generation is heard. */

import { background } from '../../base/background.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { toTimestamp } from '../../base/clock.ts';
import { PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { SessionHistory } from '../../protocol/content.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { Residency } from '../../protocol/states.ts';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import type { ChildExit } from '../children/child.ts';
import { decideRestart, type RestartPolicy } from '../children/restart.ts';
import type { AskHandlers, Worker, WorkerPool } from '../children/workers.ts';
import type { Admission, Slot } from './admission.ts';
import { draft, type SessionJournal } from './journal.ts';

export interface ResidentDeps {
  readonly session: SessionId;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: { next(): number };
  readonly journal: SessionJournal;
  readonly workers: WorkerPool;
  readonly admission: Admission;
  readonly asks: AskHandlers;
  readonly manifest: () => AgentManifest;
  readonly readHistory: () => Promise<SessionHistory>;
  readonly restart: () => RestartPolicy;
  readonly heartbeatMs: () => number;
  readonly peakRssBytes: (pid: number) => number | undefined;
}

export interface Resident {
  /** The live, initialized worker; waits for a slot and for back-off. Rejects with CANCELLED when
   *  the signal aborts, and with LIMIT_EXCEEDED when restarts are used up. */
  ensure(signal: AbortSignal): Promise<Worker>;
  worker(): Worker | undefined;
  residency(): Residency;
  backoff(): { readonly attempt: number; readonly next_at: string } | undefined;
  /** Kills the worker and gives the slot back. */
  leave(reason: string): Promise<void>;
  /** Kills the worker; the next `ensure` starts another at once. The slot is kept. */
  recycle(): void;
  /** A person asked for another chance: earlier restarts no longer count. */
  forgive(): void;
  /** Resolves when the present worker's death is journaled. */
  settled(): Promise<void>;
}

interface Held {
  readonly worker: Worker;
  /** Death is journaled. */
  readonly buried: Promise<void>;
}

export function createResident(deps: ResidentDeps): Resident {
  const { clock, journal, session } = deps;
  let residency: Residency = 'hibernated';
  let slot: Slot | undefined;
  let held: Held | undefined;
  let restarts: number[] = [];
  let pending: { delayMs: number; attempt: number; nextAtMs: number } | undefined;
  let exhausted: string | undefined;
  let leaving = false;

  async function move(to: Residency, reason: string): Promise<void> {
    if (residency === to) return;
    const from = residency;
    residency = to;
    await journal.append(draft('session.residency', { from, to, reason }));
  }

  async function takeSlot(signal: AbortSignal): Promise<void> {
    if (slot !== undefined) return;
    if (!deps.admission.hasRoom()) await move('queued', 'all worker slots are taken');
    try {
      slot = await deps.admission.acquire(session, signal);
    } catch (error) {
      if (residency === 'queued') await move('hibernated', toPrxError(error).message);
      throw error;
    }
  }

  async function start(): Promise<Worker> {
    const [{ worker, warm }, history] = await Promise.all([
      deps.workers.take(),
      deps.readHistory(),
    ]);
    const generation = journal.record().generation + 1;
    held = { worker, buried: worker.exited.then((exit) => bury(worker, generation, exit)) };
    background(held.buried, 'worker.bury', deps.logger);
    const started = journal.append(draft('worker.started', { generation, pid: worker.pid, warm }));
    const { manifest, asks } = deps;
    const binding = { sessionId: session, generation, manifest: manifest(), history, asks };
    await Promise.all([worker.initialize(binding), started]);
    beat(worker);
    return worker;
  }

  async function bury(worker: Worker, generation: number, exit: ChildExit): Promise<void> {
    if (held?.worker === worker) held = undefined;
    const decision = leaving
      ? { kind: 'stop' as const }
      : decideRestart(deps.restart(), exit.cause, restarts, clock.nowMs(), deps.random.next());
    if (decision.kind === 'restart') {
      const { attempt, delayMs } = decision;
      restarts = [...restarts, clock.nowMs()].slice(-1000);
      pending = { attempt, delayMs, nextAtMs: clock.wallMs() + delayMs };
    } else if (decision.kind === 'fail') exhausted = decision.reason;
    else if (!leaving && exit.cause !== 'stopped') {
      exhausted = `the worker exited (${exit.cause}) and restart = "${deps.restart().type}"`;
    }
    await journal.append(
      draft('worker.exited', {
        generation,
        pid: worker.pid,
        cause: exit.cause,
        code: exit.code ?? null,
        signal: exit.signal ?? null,
        stderr_tail: exit.stderrTail.slice(-4000),
        peak_rss_bytes: deps.peakRssBytes(worker.pid) ?? null,
      }),
    );
  }

  async function waitBackoff(signal: AbortSignal): Promise<void> {
    if (pending === undefined) return;
    const { attempt, delayMs } = pending;
    await journal.append(draft('worker.restarting', { attempt, delay_ms: delayMs }));
    if (delayMs > 0) {
      await move('backoff', `restart ${attempt} in ${delayMs} ms`);
      await clock.sleep(delayMs, signal);
      if (signal.aborted) throw new PrxError('CANCELLED', 'no longer waiting for a restart');
    }
    pending = undefined;
  }

  /** Two-step heartbeat: one late answer is logged, the second is a death. */
  function beat(worker: Worker): void {
    let late = false;
    let timer: Timer;
    const schedule = (): void => {
      timer = clock.setTimer(deps.heartbeatMs(), () => {
        worker.ping(deps.heartbeatMs()).then(
          () => {
            late = false;
            schedule();
          },
          () => {
            if (!worker.isAlive()) return;
            deps.logger.warn('worker.late', { pid: worker.pid, final: late });
            if (late) worker.kill('unresponsive');
            late = true;
            schedule();
          },
        );
      });
    };
    schedule();
    void worker.exited.then(() => timer.cancel());
  }

  return {
    worker: () => held?.worker,
    residency: () => residency,
    backoff: () =>
      residency === 'backoff' && pending !== undefined
        ? { attempt: pending.attempt, next_at: toTimestamp(pending.nextAtMs) }
        : undefined,
    async ensure(signal) {
      leaving = false;
      await takeSlot(signal);
      if (held?.worker.isAlive()) return held.worker;
      await held?.buried;
      if (exhausted !== undefined) throw new PrxError('LIMIT_EXCEEDED', exhausted);
      await waitBackoff(signal);
      await move('starting', 'a worker starts');
      try {
        const worker = await start();
        await move('resident', 'the worker is ready');
        return worker;
      } catch (error) {
        await failStart(error);
        throw error;
      }
    },
    async leave(reason) {
      leaving = true;
      const present = held;
      present?.worker.kill('stopped');
      await present?.buried;
      slot?.release();
      slot = undefined;
      await move('hibernated', reason);
    },
    recycle: () => held?.worker.kill('stopped'),
    forgive() {
      restarts = [];
      pending = undefined;
      exhausted = undefined;
    },
    settled: async () => held?.buried,
  };

  /** A start that failed counts as a death, so that a broken worker backs off. */
  async function failStart(error: unknown): Promise<void> {
    const present = held;
    present?.worker.kill('crashed');
    await present?.buried;
    if (present !== undefined) return;
    const decision = decideRestart(
      deps.restart(),
      'crashed',
      restarts,
      clock.nowMs(),
      deps.random.next(),
    );
    if (decision.kind !== 'restart') {
      exhausted = `no worker could be started: ${toPrxError(error).message}`;
      return;
    }
    restarts = [...restarts, clock.nowMs()];
    const { attempt, delayMs } = decision;
    pending = { attempt, delayMs, nextAtMs: clock.wallMs() + delayMs };
  }
}
