/** A session's hold on a worker: waiting for a slot, starting one, heartbeat, its death, giving it
 *  back. Invariant: at most one live worker a session, and only the newest generation is heard. */

import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { toTimestamp } from '../../base/clock.ts';
import { type ErrorCode, PrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { SessionHistory } from '../../protocol/content.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { Residency } from '../../protocol/states.ts';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import type { OpenTurn } from '../../store/contract.ts';
import type { ChildExit } from '../children/child.ts';
import {
  createRestartBudget,
  type DeathVerdict,
  type RestartBudget,
} from '../children/lifecycle.ts';
import { startHeartbeat } from '../children/lifecycle-heartbeat.ts';
import type { MemoryOwner, MemoryWatch } from '../children/memory.ts';
import type { RestartPolicy } from '../children/restart.ts';
import type { AskHandlers, Worker, WorkerPool } from '../children/workers.ts';
import type { Admission, Slot } from './admission.ts';
import { draft, type SessionJournal } from './journal.ts';
import { createObituary } from './obituary.ts';
import { createResidencyTracker } from './residency.ts';

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
  /** Also what else must be known before a worker is told its session. */
  readonly readHistory: (signal: AbortSignal) => Promise<SessionHistory>;
  readonly restart: () => RestartPolicy;
  /** How long the open turn has been executing; 0: there is none. */
  readonly spentMs: () => number;
  readonly heartbeatMs: () => number;
  /** Another object after each reload: a worker that was told of the one before is replaced. */
  readonly settings: () => unknown;
  readonly memory: Pick<MemoryWatch, 'recordOf' | 'isPressed'>;
}

export interface Resident {
  readonly logger: Logger;
  /** The live, initialized worker; waits for a slot and for back-off. Rejects with CANCELLED when
   *  the signal aborts, and with LIMIT_EXCEEDED when restarts are used up.
   *  @param onTaken  called when one was taken that is told its session now: what else is to be
   *    done before it can work is done meanwhile. Not called for one that is initialized. */
  ensure(signal: AbortSignal, onTaken?: () => void): Promise<Worker>;
  worker(): Worker | undefined;
  /** The longest delay of its event loop between the last two heartbeats. */
  loopLagMs(): number | undefined;
  /** It holds a slot, with or without a live worker. */
  isHolding(): boolean;
  residency(): Residency;
  /** Why no other worker will be started: restarts are used up. Known as soon as the last one is
   *  dead, before its death is journaled. */
  exhausted(): string | undefined;
  backoff(): { readonly attempt: number; readonly next_at: string } | undefined;
  /** Kills the worker and gives the slot back. */
  leave(reason: string): Promise<void>;
  /** Kills the worker; the next `ensure` starts another at once. The slot is kept. */
  recycle(): void;
  /** A person asked for another chance: earlier restarts no longer count, a back-off ends. */
  forgive(): void;
  /** The worker runs this turn from now on; undefined: none. */
  setTurn(turn: number | undefined): void;
  onMemory: MemoryOwner['onMemory'];
  /** Between two turns: a worker that could not give its memory back is replaced. */
  relieve(): Promise<void>;
  /** Something of the open turn was committed, or it ended. */
  onProgress(): void;
  /** Why this turn's input is to be set aside: workers died of it until the budget was used up. */
  findPoison(turn: number): string | undefined;
  /** Resolves when the present worker is dead and that is on its way to the journal: what is
   *  appended from then on stands behind it. */
  died(): Promise<void>;
  /** Resolves when the present worker's death is journaled. */
  settled(): Promise<void>;
  /** A death, or that it has no worker, could not be journaled yet. */
  owesJournal(): boolean;
  /** The supervisor stops: nothing is written any more. */
  close(): void;
}

interface Held {
  readonly worker: Worker;
  readonly settings: unknown;
  /** Its death is judged, and on its way to the journal. Never rejects. */
  readonly dead: Promise<void>;
  /** Death is journaled. Never rejects. */
  readonly buried: Promise<void>;
  /** The turn it runs. */
  turn: number | undefined;
  progress: boolean;
  loopLagMs: number | undefined;
}

interface Poison {
  readonly turn: number;
  readonly reason: string;
}

const MEMORY_LIMIT = 'agent.limits.max_memory_mb';
const COLLECT_MS = 5000;
/** A start that ends so says nothing about the worker: the journal, or who asked, is the cause. */
const NO_FAULT_OF_THE_WORKER: readonly ErrorCode[] = [
  'STORE_DEGRADED',
  'SHUTTING_DOWN',
  'CANCELLED',
];
/** Of a dead worker's stderr, in a reason that people read. */
const REASON_LINES = 4;
const REASON_CHARS = 1000;

export function createResident(deps: ResidentDeps): Resident {
  const { clock, journal, session } = deps;
  const residency = createResidencyTracker(deps);
  const { move } = residency;
  let slot: Slot | undefined;
  let held: Held | undefined;
  /** Of the start under way; it may be dead and buried already. */
  let begun: Held | undefined;
  const budget = createRestartBudget({
    clock,
    random: deps.random,
    policy: deps.restart,
    earlier: journal.record().open_turn?.deaths ?? [],
  });
  const obituary = createObituary(deps);
  let poison = findPoison(journal.record().open_turn, budget);
  let pending: { delayMs: number; attempt: number; nextAtMs: number } | undefined;
  let exhausted: string | undefined;
  let leaving = false;
  /** How often somebody took hold of it: whoever gives it back may have been overtaken. */
  let holds = 0;
  let skipBackoff = new AbortController();

  async function takeSlot(signal: AbortSignal): Promise<void> {
    if (slot !== undefined) return;
    try {
      if (!deps.admission.hasRoom()) await move('queued', 'all worker slots are taken');
      slot = await deps.admission.acquire(session, signal);
    } catch (error) {
      const { message } = toPrxError(error);
      // Where that cannot be written now, it is when there is room.
      if (residency.now() === 'queued') await move('hibernated', message).catch(() => undefined);
      throw error;
    }
  }

  /** What is begun ends with the signal: a close does not wait for a start that hangs. */
  async function start(signal: AbortSignal, onTaken: (() => void) | undefined): Promise<Worker> {
    const { manifest, asks } = deps;
    // Of before it is taken: what it was started with is no newer than that.
    const settings = deps.settings();
    const [taken, read] = await Promise.allSettled([
      deps.workers.take(signal),
      deps.readHistory(signal),
    ]);
    if (taken.status === 'rejected') throw taken.reason;
    const { worker, warm } = taken.value;
    if (read.status === 'rejected') {
      // Nobody else knows of this worker.
      worker.kill('stopped');
      throw read.reason;
    }
    const history = read.value;
    const generation = journal.record().generation + 1;
    const buried = Promise.withResolvers<void>();
    const dead = worker.exited.then((exit) => {
      void bury(own, generation, exit).then(buried.resolve);
    });
    const ends = { dead, buried: buried.promise };
    const none = { turn: undefined, progress: false, loopLagMs: undefined };
    const own: Held = { worker, settings, ...ends, ...none };
    held = own;
    begun = own;
    const bound = { sessionId: session, generation, manifest: manifest(), history };
    const binding = { ...bound, asks, logger: deps.logger };
    const isInTurn = journal.record().open_turn !== undefined;
    const spent = isInTurn ? { spent_ms: Math.round(deps.spentMs()) } : {};
    const begins = draft('worker.started', { generation, pid: worker.pid, warm, ...spent });
    deps.logger.info('worker.started', { generation, pid: worker.pid, warm });
    const started = obituary.behind(() => journal.append(begins));
    onTaken?.();
    const giveUp = (): void => worker.kill('stopped');
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      if (signal.aborted) giveUp();
      await Promise.all([worker.initialize(binding), started]);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
    beat(own);
    return worker;
  }

  function obey(verdict: DeathVerdict, exit: ChildExit): void {
    if (verdict.kind === 'restart') {
      const { attempt, delayMs } = verdict;
      pending = { attempt, delayMs, nextAtMs: clock.wallMs() + delayMs };
    } else if (verdict.kind === 'fail') exhausted = withStderr(verdict.reason, exit);
    else if (verdict.kind === 'poison') {
      poison = { turn: verdict.turn, reason: withStderr(verdict.reason, exit) };
      // The input explains these deaths: the next one starts afresh.
      budget.forgive();
      pending = undefined;
    } else if (exit.cause !== 'stopped') {
      exhausted = `the worker exited (${exit.cause}) and restart = "${deps.restart().type}"`;
    }
  }

  async function bury(own: Held, generation: number, exit: ChildExit): Promise<void> {
    const { worker, turn, progress } = own;
    if (held === own) held = undefined;
    const blame = turn === undefined ? undefined : { turn, progress };
    const memory = deps.memory.recordOf(worker.pid);
    if (!leaving) obey(budget.onDeath(exit.cause, blame), exit);
    const { cause, code, signal, uptimeMs } = exit;
    const facts = { generation, pid: worker.pid, cause, code, signal };
    deps.logger.info('worker.exited', { ...facts, uptime_ms: Math.round(uptimeMs) });
    const exited = draft(
      'worker.exited',
      {
        generation,
        pid: worker.pid,
        cause: exit.cause,
        code: exit.code ?? null,
        signal: exit.signal ?? null,
        stderr_tail: exit.stderrTail.slice(-4000),
        peak_rss_bytes: memory?.peakBytes ?? null,
        ...(memory === undefined ? {} : { memory_curve: [...memory.curve] }),
        ...(turn === undefined ? {} : { progress, spent_ms: Math.round(deps.spentMs()) }),
      },
      turn === undefined ? {} : { turn },
    );
    await obituary.write(exited);
  }

  async function waitBackoff(signal: AbortSignal): Promise<void> {
    if (pending === undefined) return;
    const { attempt, delayMs } = pending;
    const noted = journal.append(draft('worker.restarting', { attempt, delay_ms: delayMs }));
    if (delayMs === 0) background(noted, 'session.restarting', deps.logger);
    else {
      await noted;
      await move('backoff', `restart ${attempt} in ${delayMs} ms`);
      skipBackoff = new AbortController();
      await clock.sleep(delayMs, AbortSignal.any([signal, skipBackoff.signal]));
      if (signal.aborted) throw new PrxError('CANCELLED', 'no longer waiting for a restart');
    }
    pending = undefined;
  }

  function beat(own: Held): void {
    const { logger, heartbeatMs: intervalMs } = deps;
    const ping = async (timeoutMs: number): Promise<void> => {
      own.loopLagMs = (await own.worker.ping(timeoutMs)).loopLagMs;
    };
    startHeartbeat({ clock, logger, kind: 'worker', intervalMs, ping }, own.worker);
  }

  return {
    logger: deps.logger,
    worker: () => held?.worker,
    loopLagMs: () => held?.loopLagMs,
    isHolding: () => slot !== undefined,
    residency: residency.now,
    exhausted: () => exhausted,
    backoff: () =>
      residency.now() === 'backoff' && pending !== undefined
        ? { attempt: pending.attempt, next_at: toTimestamp(pending.nextAtMs) }
        : undefined,
    async ensure(signal, onTaken) {
      leaving = false;
      holds += 1;
      await takeSlot(signal);
      if (held !== undefined && held.settings !== deps.settings()) held.worker.kill('stopped');
      if (held?.worker.isAlive()) return held.worker;
      await held?.dead;
      await obituary.flush();
      if (exhausted !== undefined) throw new PrxError('LIMIT_EXCEEDED', exhausted);
      await waitBackoff(signal);
      const noted = move('starting', 'a worker starts');
      noted.catch(() => undefined); // Heard of below.
      begun = undefined;
      try {
        const worker = await start(signal, onTaken);
        await noted;
        // It works meanwhile: what its turn does is journaled behind this.
        const ready = move('resident', 'the worker is ready');
        background(ready.catch(failStart), 'session.resident', deps.logger);
        return worker;
      } catch (error) {
        await failStart(error);
        throw signal.aborted ? new PrxError('CANCELLED', 'no longer waiting for a worker') : error;
      }
    },
    async leave(reason) {
      leaving = true;
      const [present, before] = [held, holds];
      present?.worker.kill('stopped');
      await present?.buried;
      // Resumed before the death was journaled: the slot belongs to the worker that comes next.
      if (holds !== before) return;
      slot?.release();
      slot = undefined;
      await move('hibernated', reason);
    },
    recycle: () => held?.worker.kill('stopped'),
    setTurn(turn) {
      if (held === undefined) return;
      held.turn = turn;
      held.progress = false;
    },
    onProgress() {
      budget.onProgress();
      if (held !== undefined) held.progress = true;
    },
    onMemory(level, { bytes, limitBytes, source }) {
      const present = held;
      const [value, max] = [toMebibytes(bytes), toMebibytes(limitBytes)];
      const exceeded = { limit: MEMORY_LIMIT, value, max, level, source };
      const at = present?.turn === undefined ? {} : { turn: present.turn };
      const journaled = journal.append(draft('limit.exceeded', exceeded, at));
      background(journaled, 'session.memory', deps.logger);
      if (level === 'hard') return;
      present?.worker.collect(COLLECT_MS).catch((error: unknown) => {
        deps.logger.debug('worker.not_collected', { error });
      });
    },
    async relieve() {
      const present = held;
      if (present === undefined || !deps.memory.isPressed(present.worker.pid)) return;
      deps.logger.info('worker.recycled', { pid: present.worker.pid });
      present.worker.kill('stopped');
      await present.buried;
    },
    findPoison: (turn) => (poison?.turn === turn ? poison.reason : undefined),
    forgive() {
      budget.forgive();
      pending = undefined;
      exhausted = undefined;
      skipBackoff.abort();
    },
    died: async () => held?.dead,
    settled: async () => held?.buried,
    owesJournal: () => obituary.isOwed() || residency.isOwed(),
    close() {
      obituary.close();
      residency.close();
    },
  };

  /** A start that failed counts as a death, so that a broken worker backs off; as one death, when
   *  a worker died of it. */
  async function failStart(error: unknown): Promise<void> {
    const present = begun;
    const isOurs = NO_FAULT_OF_THE_WORKER.includes(toPrxError(error).code);
    present?.worker.kill(isOurs ? 'stopped' : 'crashed');
    await present?.buried;
    if (present !== undefined || isOurs) return;
    const decision = budget.onDeath('crashed', undefined);
    if (decision.kind !== 'restart') {
      exhausted = `no worker could be started: ${toPrxError(error).message}`;
      return;
    }
    const { attempt, delayMs } = decision;
    pending = { attempt, delayMs, nextAtMs: clock.wallMs() + delayMs };
  }
}

/** A reason, and the last that the dead worker said. */
function withStderr(reason: string, exit: ChildExit): string {
  const lines = exit.stderrTail.trim().split('\n').slice(-REASON_LINES).join(' | ');
  return lines === '' ? reason : `${reason}; stderr: ${lines.slice(-REASON_CHARS)}`;
}

/** By the deaths that an earlier supervisor journaled. */
function findPoison(open: OpenTurn | undefined, budget: RestartBudget): Poison | undefined {
  const reason = budget.findPoison();
  if (open === undefined || reason === undefined) return undefined;
  budget.forgive();
  return { turn: open.turn, reason };
}

/** In the unit of MEMORY_LIMIT, as all limits are told. */
function toMebibytes(bytes: number): number {
  return Math.round((bytes / 2 ** 20) * 10) / 10;
}
