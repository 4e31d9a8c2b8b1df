/** Drives one session's turns: one loop, one owner. It takes the next input when the session is
 *  open and idle, has a worker run the turn, resumes the same turn on another worker when that one
 *  dies, and closes the turn in the journal. Commands only change the journal and wake the loop. */

import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { type ErrorCode, isPrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { acceptedInputSchema } from '../../protocol/content.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { SessionState } from '../../protocol/states.ts';
import type { OpenTurn, QueuedInput } from '../../store/contract.ts';
import type { TurnResult, Worker } from '../children/workers.ts';
import type { Gate } from '../effects/gate.ts';
import type { InputReader } from './input-reader.ts';
import { draft, type SessionJournal } from './journal.ts';
import type { Resident } from './resident.ts';
import { createTurnClocks, type PassedLimit, type TurnClocks } from './turn-clock.ts';
import {
  type Closing,
  type Ending,
  INTERRUPTED,
  toQuarantine,
  toResultEnd,
  toTurnEnd,
} from './turn-end.ts';

export interface DriverDeps {
  readonly session: SessionId;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly inputs: InputReader;
  readonly journal: SessionJournal;
  readonly gate: Gate;
  readonly resident: Resident;
  readonly turnTimeoutMs: () => number;
  /** Nothing came of the turn for this long: it is ended; 0: never. */
  readonly progressTimeoutMs: () => number;
  readonly idleHibernateMs: () => number;
  /** Somebody waits for a slot. */
  readonly isContended: () => boolean;
  /** The tools' processes go when the worker goes, as soon as no call runs. */
  readonly retireHost: () => void;
}

export interface Driver {
  /** Runs until `halt`; never rejects. */
  readonly done: Promise<void>;
  /** Something changed: look again. */
  wake(): void;
  /** The session's state, or the tombstone of its turn, changed. */
  onState(): void;
  /** Something came of the turn: a chunk, some output, a step. */
  onProgress(): void;
  /** Ends this turn so, as soon as its tombstone is durable: its effects are cancelled. A turn
   *  that ended meanwhile stays as it ended. Rejects as `tombstone` does. */
  stopTurn(turn: number, ending: Ending, tombstone: Promise<unknown>): Promise<void>;
  /** The session no longer runs (suspended): give the worker back, keep the turn. */
  stepBack(): void;
  /** Since when it is idle, monotonic ms, and may be asked to give its slot; undefined: it works,
   *  or has none. */
  idleSinceMs(): number | undefined;
  hibernate(reason: string): void;
  /** Ends the loop without touching turn or effects (the supervisor stops). */
  halt(): void;
}

/** A worker that was told to stop its turn has this long to answer, ms. */
const STOP_GRACE_MS = 1000;
/** After a failure (a full disk, a damaged record) the loop looks again after this, ms. */
const RETRY_MS = 1000;
/** Failures in a row, other than those that pass by themselves, until the session is failed. */
const FAILURES_MAX = 5;
/** Troubles that pass: of the machine or of the moment, not of this session. */
const PASSING: readonly ErrorCode[] = ['STORE_DEGRADED', 'SHUTTING_DOWN', 'AT_CAPACITY'];

const isPassing = (error: unknown): boolean => PASSING.includes(toPrxError(error).code);

export function startDriver(deps: DriverDeps): Driver {
  const { clock, journal, gate, resident, inputs, session } = deps;
  const halting = new AbortController();
  let failures = 0;
  let idleSinceMs: number | undefined;
  let hibernateReason: string | undefined;
  let wakeUp: () => void = () => undefined;
  let waitAbort = new AbortController();
  let closing: Closing | undefined;
  let stopping: Closing | undefined;
  let executing: { readonly turn: number; force(): void } | undefined;
  let clocks: TurnClocks | undefined;
  const isHalted = (): boolean => halting.signal.aborted;
  const isOpen = (): boolean => ['running', 'awaiting'].includes(journal.state());

  async function loop(): Promise<void> {
    while (!isHalted()) {
      try {
        await step();
        failures = 0;
      } catch (error) {
        await recover(error);
      }
    }
  }

  async function step(): Promise<void> {
    const { open_turn: open, queued } = journal.record();
    const state = journal.state();
    if (open !== undefined && mustEnd(open)) await endTurn(open);
    else if (open !== undefined && isOpen()) await runTurn(open);
    else if (isOpen() && queued.length > 0) await openTurn();
    else if (state === 'created') await move('starting', 'forked');
    else if (state === 'starting') await move('running', 'open for work');
    else if (state === 'stopping') await toStopped();
    else await rest();
  }

  /** Also a turn that opened while the session was being closed. */
  function mustEnd(open: OpenTurn): boolean {
    return open.interrupted || closing?.turn === open.turn || journal.state() === 'stopping';
  }

  async function move(to: SessionState, reason: string): Promise<void> {
    await journal.append(draft('session.state', { from: journal.state(), to, reason }));
  }

  async function toStopped(): Promise<void> {
    deps.retireHost();
    await resident.leave('closed');
    const { state, state_reason } = journal.record();
    await move('stopped', state === 'stopping' ? state_reason : 'closed');
  }

  /** The journal is right, whatever went wrong here: what the worker remembers may not be. */
  async function recover(error: unknown): Promise<void> {
    if (isHalted()) return;
    resident.recycle();
    failures += isPassing(error) ? 0 : 1;
    deps.logger.error('session.driver_retries', { session, failures, error });
    await clock.sleep(RETRY_MS, halting.signal);
    if (failures < FAILURES_MAX || isHalted()) return;
    await fail(toPrxError(error).message).catch((later: unknown) => {
      deps.logger.error('session.driver_failed', { session, error: later });
    });
  }

  /** Nothing to do: wait, and hibernate when that lasts (or when others need the slot). */
  async function rest(): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      wakeUp = resolve;
    });
    const isHolding = resident.isHolding();
    if (isHolding && !isOpen()) hibernateReason = `the session is ${journal.state()}`;
    else if (isHolding && deps.isContended()) {
      hibernateReason = 'another session waits for the slot';
    }
    // An idle worker died or was replaced: by policy another one takes its place at once.
    if (hibernateReason === undefined && isHolding && resident.worker() === undefined) {
      await takeWorker();
      return;
    }
    idleSinceMs = isOpen() ? clock.nowMs() : undefined;
    if (hibernateReason === undefined) await waitIdle(woken, isHolding);
    idleSinceMs = undefined;
    const { open_turn: open, queued } = journal.record();
    const hasWork = isOpen() && (open !== undefined || queued.length > 0);
    const reason = hibernateReason;
    hibernateReason = undefined;
    if (reason === undefined || hasWork || isHalted()) return;
    deps.retireHost();
    await resident.leave(reason);
  }

  async function waitIdle(woken: Promise<void>, isHolding: boolean): Promise<void> {
    const timer = new AbortController();
    const limitMs = isHolding ? deps.idleHibernateMs() : Number.POSITIVE_INFINITY;
    const slept = clock.sleep(limitMs, timer.signal).then(() => {
      if (!timer.signal.aborted) hibernateReason = 'idle_hibernate_secs passed';
    });
    const died = resident.worker() === undefined ? [] : [resident.settled()];
    await Promise.race([woken, slept, ...died]);
    timer.abort();
  }

  async function openTurn(): Promise<void> {
    if ((await takeWorker()) === undefined) return;
    const { queued, turn: latest } = journal.record();
    if (!isOpen() || isHalted() || queued.length === 0) return;
    const { input_id } = pickNext(queued);
    const turn = latest + 1;
    inputs.start(input_id);
    gate.openTurn(turn, true);
    await journal.append(draft('turn.started', { turn, input_id, attempt: 1 }, { turn }));
  }

  /** Undefined: none to be had now; the loop looks at what changed. */
  async function takeWorker(): Promise<Worker | undefined> {
    waitAbort = new AbortController();
    if (isHalted()) return undefined;
    try {
      return await resident.ensure(waitAbort.signal);
    } catch (error) {
      if (isPrxError(error, 'CANCELLED')) return undefined;
      const { message, code } = toPrxError(error);
      deps.logger.warn('session.no_worker', { session, code, message });
      if (isPassing(error)) throw error;
      // A start that failed is tried again with the back-off the resident keeps, until it gives up.
      if (code === 'LIMIT_EXCEEDED') await fail(message);
      return undefined;
    }
  }

  async function fail(message: string): Promise<void> {
    deps.retireHost();
    await resident.leave('the session failed');
    if (!isOpen()) return;
    await move('failed', `${message}; 'prx-supervisor restart ${session}' brings it back`);
  }

  async function runTurn(open: OpenTurn): Promise<void> {
    gate.openTurn(open.turn, false);
    hibernateReason = undefined;
    const blame = resident.findPoison(open.turn);
    if (blame !== undefined) {
      closing ??= toQuarantine(open, blame);
      return endTurn(open);
    }
    const worker = await takeWorker();
    const isStill = journal.record().open_turn?.turn === open.turn;
    if (worker === undefined || !isOpen() || isHalted() || !isStill || mustEnd(open)) return;
    // Its tombstone is on its way. Looking again at once would never end: nothing else could run.
    if (journal.isStopped()) return journal.nextLanding();
    const limits = { turnMs: deps.turnTimeoutMs(), progressMs: deps.progressTimeoutMs() };
    clocks ??= createTurnClocks(clock, limits, (passed) => onTimeout(open.turn, passed));
    const result = await runOnWorker(worker, open);
    if (result === undefined || isHalted()) return;
    closing ??= toResultEnd(open.turn, result);
    await endTurn(open);
  }

  /** The worker's answer; undefined: it died or was taken away, the turn stays open. */
  async function runOnWorker(worker: Worker, open: OpenTurn): Promise<TurnResult | undefined> {
    const event = await inputs.take(open.input_id);
    const input = acceptedInputSchema.parse(event.data);
    const forced = new Promise<'forced'>((resolve) => {
      executing = { turn: open.turn, force: () => resolve('forced') };
    });
    syncClock();
    resident.setTurn(open.turn);
    try {
      const result = await Promise.race([worker.runTurn(open.turn, input), forced]);
      if (result !== 'forced') return result;
      return { outcome: 'interrupted', steps: open.steps };
    } catch (error) {
      if (isHalted()) return undefined;
      // The pipe of a dying worker closes before its exit is known.
      if (worker.isAlive() && !isPrxError(error, 'PEER_CLOSED')) return failedResult(error, open);
      await resident.settled();
      return undefined;
    } finally {
      resident.setTurn(undefined);
      executing = undefined;
      syncClock();
    }
  }

  /** Trouble that passes costs the worker, not the turn. */
  function failedResult(error: unknown, open: OpenTurn): TurnResult {
    if (isPassing(error)) throw error;
    const { code, message } = toPrxError(error);
    return { outcome: 'failed', error: { code, message }, steps: open.steps };
  }

  async function endTurn(open: OpenTurn): Promise<void> {
    const { turn } = open;
    gate.openTurn(turn, false);
    gate.cancelTurn();
    await gate.settle();
    const record = journal.record().open_turn;
    // Who stopped it goes before what the worker made of that.
    const isStopped = stopping?.turn === turn && journal.isStopped();
    const own = isStopped ? stopping : closing;
    const ending = own?.turn === turn ? own : INTERRUPTED;
    await journal.append(...toTurnEnd(ending, record ?? open));
    clocks?.pause();
    clocks = undefined;
    closing = undefined;
    stopping = undefined;
    if (ending.outcome === 'completed') return resident.relieve();
    // What a worker remembers of a turn that did not simply complete may differ from the journal.
    resident.recycle();
    await resident.settled();
  }

  async function stopTurn(
    turn: number,
    ending: Ending,
    tombstone: Promise<unknown>,
  ): Promise<void> {
    const own = { turn, ...ending };
    // The first cause wins. It is known before it is durable: nothing starts from here on, and
    // the worker may end the turn by itself because of that.
    if (stopping?.turn !== turn) stopping = own;
    try {
      await tombstone;
    } catch (error) {
      if (stopping === own) stopping = undefined;
      throw error;
    }
    if (journal.record().open_turn?.turn !== turn) return;
    gate.cancelTurn();
    waitAbort.abort();
    resident.worker()?.interrupt(turn);
    clock.setTimer(STOP_GRACE_MS, () => {
      if (executing?.turn === turn) executing.force();
    });
    wakeUp();
  }

  function onTimeout(turn: number, passed: PassedLimit): void {
    const { limit, max, reason } = passed;
    const open = journal.record().open_turn;
    if (open?.turn !== turn || journal.isStopped() || isHalted()) return;
    const tombstone = journal.append(
      draft('limit.exceeded', { limit, value: max, max }, { turn }),
      draft('interrupt.accepted', { source: 'timeout' }, { turn }),
    );
    stopTurn(turn, { outcome: 'timeout', reason }, tombstone).catch((error: unknown) => {
      deps.logger.error('turn.timeout_failed', { session, error });
      clock.setTimer(RETRY_MS, () => onTimeout(turn, passed));
    });
  }

  /** The turn's time runs only while a worker runs it and nobody is waited for. */
  function syncClock(): void {
    if (executing !== undefined && journal.record().state === 'running') clocks?.run();
    else clocks?.pause();
  }

  return {
    done: loop(),
    wake: () => wakeUp(),
    stopTurn,
    idleSinceMs: () => (resident.isHolding() ? idleSinceMs : undefined),
    onProgress() {
      clocks?.onProgress();
    },
    onState() {
      syncClock();
      if (!isOpen()) waitAbort.abort();
      wakeUp();
    },
    stepBack() {
      background(
        resident.leave('suspended').finally(() => wakeUp()),
        'session.step_back',
        deps.logger,
      );
    },
    hibernate(reason) {
      hibernateReason = reason;
      wakeUp();
    },
    halt() {
      halting.abort();
      waitAbort.abort();
      clocks?.pause();
      wakeUp();
    },
  };
}

/** An input that interrupts goes before those that wait; among equals the oldest. */
export function pickNext(queued: readonly QueuedInput[]): QueuedInput {
  const [first] = queued;
  const urgent = queued.find((each) => each.on_busy === 'interrupt') ?? first;
  if (urgent === undefined) throw new RangeError('an empty queue has no next input');
  return urgent;
}
