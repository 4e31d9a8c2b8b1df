/** Drives one session's turns: one loop, one owner. It takes the next input when the session is
 *  open and idle, has a worker run the turn, resumes the same turn on another worker when that one
 *  dies, and closes the turn in the journal. Commands only change the journal and wake the loop. */

import { background } from '../../base/background.ts';
import type { Clock } from '../../base/clock.ts';
import { type ErrorCode, isPrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { SessionState } from '../../protocol/states.ts';
import type { OpenTurn } from '../../store/contract.ts';
import type { Host } from '../children/hosts.ts';
import type { TurnResult, Worker } from '../children/workers.ts';
import type { Gate } from '../effects/gate.ts';
import { CONTENDED, createIdleness } from './idleness.ts';
import type { InputReader } from './input-reader.ts';
import { type Draft, draft, type SessionJournal } from './journal.ts';
import { createParking } from './parking.ts';
import type { Resident } from './resident.ts';
import type { TurnTime } from './turn-clock.ts';
import {
  CLOSED,
  type Closing,
  findParkReason,
  INTERRUPTED,
  toQuarantine,
  toResultEnd,
  toTurnEnd,
} from './turn-end.ts';
import { createTurnStart, type TurnStart } from './turn-start.ts';
import { createTurnStop, type TurnStop } from './turn-stop.ts';

export interface DriverDeps {
  readonly session: SessionId;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly inputs: InputReader;
  readonly journal: SessionJournal;
  readonly gate: Gate;
  readonly resident: Resident;
  readonly time: TurnTime;
  readonly idleHibernateMs: () => number;
  /** Slots are short: see Admission. */
  readonly isContended: () => boolean;
  /** The tools' processes go when the worker goes, as soon as none runs; background processes go
   *  with the session. */
  readonly host: Pick<Host, 'retire' | 'endProcesses'>;
}

export interface Driver {
  /** Runs until `halt`; never rejects. */
  readonly done: Promise<void>;
  /** Something changed: look again. */
  wake(): void;
  /** The session's state, or the tombstone of its turn, changed. */
  onState(): void;
  /** An approval was asked for or answered, or an ask of the worker was answered. */
  onWaiting(): void;
  readonly stopTurn: TurnStop['stop'];
  /** Of an input that waits: see TurnStart. */
  readonly stopNext: TurnStart['stopNext'];
  /** The session no longer runs (suspended): give the worker back, keep the turn. */
  stepBack(): void;
  /** Since when it is idle, monotonic ms, and may be asked to give its slot; undefined: it works,
   *  or has none. */
  idleSinceMs(): number | undefined;
  hibernate(reason: string): void;
  /** Ends the loop without touching turn or effects (the supervisor stops). */
  halt(): void;
}

/** Its worker is taken from a turn that goes on. */
type RunEnd = TurnResult | { readonly parked: string };

interface Executing {
  readonly turn: number;
  /** Ends the wait for the worker. */
  readonly end: (end: RunEnd) => void;
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
  const { clock, time, journal, gate, resident } = deps;
  const halting = new AbortController();
  let failures = 0;
  let waitAbort = new AbortController();
  let closing: Closing | undefined;
  let executing: Executing | undefined;
  const isHalted = (): boolean => halting.signal.aborted;
  const isOpen = (): boolean => ['running', 'awaiting'].includes(journal.state());
  const idleness = createIdleness({ ...deps, state: journal.state, isOpen, replace: takeWorker });
  const lookAgain = (): void => {
    waitAbort.abort();
    idleness.wake();
  };
  const start = createTurnStart({ ...deps, isOpen, isHalted, takeWorker, lookAgain });
  const stop = createTurnStop({ ...deps, isHalted, cancel });
  const parking = createParking({
    ...deps,
    isWaiting: () => executing !== undefined && gate.isWaiting(),
    park: (reason) => executing?.end({ parked: reason }),
  });

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
    const { open_turn: open, queued, state: durable } = journal.record();
    const state = journal.state();
    // A close on its way to the disk: a turn that it ended would have ended without a reason.
    if (state === 'stopping' && durable !== state) await journal.nextLanding();
    else if (open !== undefined && mustEnd(open)) await endTurn(open);
    else if (open !== undefined && !resident.isHolding() && gate.isWaiting()) await rest();
    else if (open !== undefined && isOpen()) await runTurn(open);
    else if (isOpen() && queued.length > 0) await start.open();
    else if (state === 'created') await move('starting', 'forked');
    else if (state === 'starting') await move('running', 'open for work');
    else if (state === 'stopping') await toStopped();
    else await rest();
  }

  function mustEnd(open: OpenTurn): boolean {
    // Also a turn that opened while the session was being closed.
    return open.interrupted || closing?.turn === open.turn || journal.state() === 'stopping';
  }

  async function move(to: SessionState, reason: string): Promise<void> {
    await journal.append(draft('session.state', { from: journal.state(), to, reason }));
  }

  async function toStopped(): Promise<void> {
    await deps.host.endProcesses('closed');
    await letGo('closed');
    const { state, state_reason } = journal.record();
    await move('stopped', state === 'stopping' ? state_reason : 'closed');
  }

  /** The journal is right, whatever went wrong here: what the worker remembers may not be. */
  async function recover(error: unknown): Promise<void> {
    if (isHalted()) return;
    resident.recycle();
    failures += isPassing(error) ? 0 : 1;
    deps.logger.error('session.driver_retries', { failures, error });
    await clock.sleep(RETRY_MS, halting.signal);
    if (failures < FAILURES_MAX || isHalted()) return;
    await fail(toPrxError(error).message).catch((later: unknown) => {
      deps.logger.error('session.driver_failed', { error: later });
    });
  }

  /** Nothing to do: wait, and hibernate when that lasts (or when others need the slot). */
  async function rest(): Promise<void> {
    if (journal.state() === 'failed') await deps.host.endProcesses('closed');
    const reason = await idleness.rest();
    const { open_turn: open, queued } = journal.record();
    const hasWork = isOpen() && (open !== undefined || queued.length > 0);
    if (reason === undefined || hasWork || isHalted()) return;
    await giveBack(reason);
  }

  async function giveBack(reason: string): Promise<void> {
    // On a slow disk it may sleep before its last death is journaled; then nobody would know.
    const exhausted = resident.exhausted();
    await (exhausted === undefined ? letGo(reason) : fail(exhausted));
  }

  /** No process is left; the next touch starts one. */
  async function letGo(reason: string): Promise<void> {
    deps.host.retire();
    await resident.leave(reason);
  }

  /** Undefined: none to be had now; the loop looks at what changed. */
  async function takeWorker(onTaken?: () => void): Promise<Worker | undefined> {
    waitAbort = new AbortController();
    if (isHalted()) return undefined;
    try {
      return await resident.ensure(waitAbort.signal, onTaken);
    } catch (error) {
      if (isPrxError(error, 'CANCELLED')) return undefined;
      const { message, code } = toPrxError(error);
      deps.logger.warn('session.no_worker', { code, message });
      if (isPassing(error)) throw error;
      // A start that failed is tried again with the back-off the resident keeps, until it gives up.
      if (code === 'LIMIT_EXCEEDED') await fail(message);
      return undefined;
    }
  }

  /** The journal first: a session that only sleeps, on a full disk, would count anew. */
  async function fail(message: string): Promise<void> {
    if (isOpen()) await journal.append(toFailed(deps, message));
    await letGo('the session failed');
  }

  async function runTurn(open: OpenTurn): Promise<void> {
    gate.openTurn(open.turn, false);
    idleness.end();
    const blame = resident.findPoison(open.turn);
    if (blame !== undefined) {
      closing ??= toQuarantine(open, blame);
      return endTurn(open);
    }
    time.open(open.turn, (passed) => stop.onLimit(open.turn, passed));
    const worker = await takeWorker();
    const isStill = journal.record().open_turn?.turn === open.turn;
    if (worker === undefined || !isOpen() || isHalted() || !isStill || mustEnd(open)) return;
    // Its tombstone is on its way. Looking again at once would never end: nothing else could run.
    if (journal.isStopped()) return journal.nextLanding();
    const result = await runOnWorker(worker, open);
    if (result === undefined || isHalted()) return;
    if ('parked' in result) return letGo(result.parked);
    closing ??= toResultEnd(open.turn, result);
    await endTurn(open);
  }

  /** The worker's answer, or what ended the wait for it; undefined: it died or was taken away. But
   *  for an answer the turn stays open. */
  async function runOnWorker(worker: Worker, open: OpenTurn): Promise<RunEnd | undefined> {
    const { running } = await start.tell(worker, open);
    const ended = new Promise<RunEnd>((resolve) => {
      executing = { turn: open.turn, end: resolve };
    });
    syncClock();
    resident.setTurn(open.turn);
    parking.look();
    try {
      return await Promise.race([running, ended]);
    } catch (error) {
      if (isHalted()) return undefined;
      // The pipe of a dying worker closes before its exit is known.
      if (worker.isAlive() && !isPrxError(error, 'PEER_CLOSED')) return failedResult(error, open);
      await resident.died();
      return undefined;
    } finally {
      resident.setTurn(undefined);
      executing = undefined;
      parking.stop();
      syncClock();
    }
  }

  async function endTurn(open: OpenTurn): Promise<void> {
    const { turn } = open;
    gate.openTurn(turn, false);
    gate.cancelTurn();
    await gate.settle();
    const record = journal.record().open_turn;
    // Who stopped it goes before what the worker made of that.
    const own = closing?.turn === turn ? closing : undefined;
    const unseen = journal.state() === 'stopping' ? CLOSED : INTERRUPTED;
    const ending = stop.endingOf(turn) ?? record?.ending ?? own ?? unseen;
    const { quarantines = 0 } = journal.record();
    const broken = findParkReason(ending, quarantines);
    const parked = broken === undefined || !isOpen() ? [] : [toFailed(deps, broken)];
    await journal.append(...toTurnEnd(ending, record ?? open, quarantines), ...parked);
    time.close();
    closing = undefined;
    if (ending.outcome === 'completed') await resident.relieve();
    else {
      // What a worker remembers of a turn that did not simply complete may differ from the journal.
      resident.recycle();
      await resident.settled();
    }
    // Also where inputs wait: whoever is fed faster than it works would keep its slot for ever.
    if (idleness.mustYield()) await giveBack(CONTENDED);
  }

  /** Tells all that runs of this turn to stop; a worker that does not answer is not waited for. */
  function cancel(turn: number): void {
    gate.cancelTurn();
    lookAgain();
    resident.worker()?.interrupt(turn);
    clock.setTimer(STOP_GRACE_MS, () => {
      if (executing?.turn !== turn) return;
      executing.end({ outcome: 'interrupted', steps: journal.record().open_turn?.steps ?? 0 });
    });
  }

  /** The turn's time runs only while a worker runs it and nobody is waited for. */
  function syncClock(): void {
    if (executing !== undefined && journal.record().state === 'running') time.run();
    else time.pause();
  }

  return {
    ...{ done: loop(), wake: idleness.wake, stopTurn: stop.stop, stopNext: start.stopNext },
    idleSinceMs: () =>
      resident.isHolding() ? (idleness.sinceMs() ?? parking.sinceMs()) : undefined,
    onState() {
      syncClock();
      if (!isOpen()) start.giveUp();
      parking.look();
      idleness.wake();
    },
    stepBack() {
      background(
        resident.leave('suspended').finally(() => idleness.wake()),
        'session.step_back',
        deps.logger,
      );
    },
    onWaiting() {
      parking.look();
      idleness.wake();
    },
    hibernate(reason) {
      if (!parking.park(reason)) idleness.hibernate(reason);
    },
    halt() {
      halting.abort();
      time.close();
      start.giveUp();
    },
  };
}

/** Trouble that passes costs the worker, not the turn. */
function failedResult(error: unknown, open: OpenTurn): TurnResult {
  if (isPassing(error)) throw error;
  const { code, message } = toPrxError(error);
  return { outcome: 'failed', error: { code, message }, steps: open.steps };
}

function toFailed({ session, journal }: DriverDeps, message: string): Draft {
  const reason = `${message}; 'prx-supervisor restart ${session}' brings it back`;
  return draft('session.state', { from: journal.state(), to: 'failed', reason });
}
