/** Drives one session's turns: one loop, one owner. It takes the next input when the session is
 *  open and idle, has a worker run the turn, resumes the same turn on another worker when that one
 *  dies, and closes the turn in the journal. Commands only change the journal and wake the loop. */
import type { Clock } from '../../base/clock.ts';
import { isPrxError, toPrxError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { acceptedInputSchema, type TurnOutcome } from '../../protocol/content.ts';
import type { SessionId } from '../../protocol/ids.ts';
import type { OpenTurn, QueuedInput, Store } from '../../store/contract.ts';
import type { TurnResult, Worker } from '../children/workers.ts';
import type { Gate } from '../effects/gate.ts';
import { draft, type SessionJournal } from './journal.ts';
import type { Resident } from './resident.ts';
import { createTurnClock, type TurnClock } from './turn-clock.ts';

export interface DriverDeps {
  readonly session: SessionId;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly store: Store;
  readonly journal: SessionJournal;
  readonly gate: Gate;
  readonly resident: Resident;
  readonly turnTimeoutMs: () => number;
  readonly idleHibernateMs: () => number;
  /** Somebody waits for a slot. */
  readonly isContended: () => boolean;
  /** The tools' processes go when the worker goes. */
  readonly releaseHost: () => void;
}

export interface Driver {
  /** Runs until `halt`; never rejects. */
  readonly done: Promise<void>;
  /** Something changed: look again. */
  wake(): void;
  /** The tombstone of the open turn is set: cancel its effects and end it with `outcome`. */
  stopTurn(outcome: TurnOutcome, reason: string): void;
  /** The session no longer runs (suspended): give the worker back, keep the turn. */
  stepBack(): void;
  /** Idle and resident: may be asked to hibernate. */
  isIdle(): boolean;
  idleSinceMs(): number;
  hibernate(reason: string): void;
  turnClock(): TurnClock | undefined;
  /** Ends the loop without touching turn or effects (the supervisor stops). */
  halt(): void;
}

/** A worker that was told to stop its turn has this long to answer, ms. */
const STOP_GRACE_MS = 1000;

interface Ending {
  readonly outcome: TurnOutcome;
  readonly reason: string;
}

export function startDriver(deps: DriverDeps): Driver {
  const { clock, journal, gate, resident, store, session } = deps;
  let halted = false;
  let idle = false;
  let idleSinceMs = clock.nowMs();
  let hibernateReason: string | undefined;
  let wakeUp: () => void = () => undefined;
  let waitAbort = new AbortController();
  let ending: Ending | undefined;
  let forceEnd: () => void = () => undefined;
  let turnClock: TurnClock | undefined;

  const isOpen = (): boolean => ['running', 'awaiting'].includes(journal.record().state);
  const isWorkable = (): boolean => isOpen() && !halted;

  function wake(): void {
    wakeUp();
  }

  async function loop(): Promise<void> {
    while (!halted) {
      const { open_turn: open, queued, state } = journal.record();
      if (open !== undefined && (isOpen() || open.interrupted)) await runTurn(open);
      else if (isOpen() && queued.length > 0) await openTurn(pickNext(queued));
      else if (state === 'starting') await toRunning();
      else await rest();
    }
  }

  async function toRunning(): Promise<void> {
    await journal.append(
      draft('session.state', { from: 'starting', to: 'running', reason: 'open for work' }),
    );
  }

  /** Nothing to do: wait, and hibernate when that lasts (or when others need the slot). */
  async function rest(): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      wakeUp = resolve;
    });
    idle = isOpen();
    idleSinceMs = clock.nowMs();
    const isResident = resident.worker() !== undefined;
    if (isResident && deps.isContended()) hibernateReason = 'another session waits for the slot';
    if (hibernateReason === undefined) {
      const timer = new AbortController();
      const limitMs = isResident ? deps.idleHibernateMs() : Number.POSITIVE_INFINITY;
      const slept = clock.sleep(limitMs, timer.signal).then(() => {
        if (!timer.signal.aborted) hibernateReason = 'idle_hibernate_secs passed';
      });
      await Promise.race([woken, slept]);
      timer.abort();
    }
    idle = false;
    const { open_turn: open, queued } = journal.record();
    const hasWork = isOpen() && (open !== undefined || queued.length > 0);
    if (hibernateReason !== undefined && !hasWork && !halted) {
      deps.releaseHost();
      await resident.leave(hibernateReason);
    } else if (isOpen() && isResident && resident.worker() === undefined && !hasWork) {
      await keepResident();
    }
    hibernateReason = undefined;
  }

  /** An idle worker died: by policy another one takes its place at once. */
  async function keepResident(): Promise<void> {
    try {
      await resident.ensure(waitAbort.signal);
    } catch (error) {
      await giveUp(error);
    }
  }

  async function openTurn(input: QueuedInput): Promise<void> {
    const turn = journal.record().turn + 1;
    if ((await takeWorker()) === undefined) return;
    if (!isWorkable()) return;
    gate.openTurn(turn, true);
    const { input_id } = input;
    await journal.append(draft('turn.started', { turn, input_id, attempt: 1 }, { turn }));
  }

  async function takeWorker(): Promise<Worker | undefined> {
    waitAbort = new AbortController();
    try {
      return await resident.ensure(waitAbort.signal);
    } catch (error) {
      await giveUp(error);
      return undefined;
    }
  }

  /** No worker to be had. CANCELLED: the loop looks at what changed. Restarts used up: failed.
   *  Anything else is retried with the back-off the resident keeps. */
  async function giveUp(error: unknown): Promise<void> {
    if (isPrxError(error, 'CANCELLED')) return;
    const { message, code } = toPrxError(error);
    deps.logger.warn('session.no_worker', { session, code, message });
    if (code !== 'LIMIT_EXCEEDED') return;
    const { state } = journal.record();
    if (!isOpen()) return;
    deps.releaseHost();
    await resident.leave('restarts are used up');
    const reason = `${message}; 'prx-supervisor restart ${session}' brings it back`;
    await journal.append(draft('session.state', { from: state, to: 'failed', reason }));
  }

  async function runTurn(open: OpenTurn): Promise<void> {
    gate.openTurn(open.turn, false);
    if (open.interrupted) {
      gate.cancelTurn();
      await closeTurn(open, ending ?? { outcome: 'interrupted', reason: 'interrupt' });
      return;
    }
    const worker = await takeWorker();
    if (worker === undefined || !isWorkable()) return;
    if (journal.record().open_turn?.interrupted) return;
    turnClock ??= createTurnClock(clock, deps.turnTimeoutMs(), () => wakeTimeout());
    if (journal.record().state === 'running') turnClock.run();
    const result = await runOnWorker(worker, open);
    turnClock?.pause();
    if (result === undefined) return;
    await closeTurn(
      open,
      ending ?? { outcome: result.outcome, reason: result.reason ?? '' },
      result,
    );
  }

  /** The worker's answer; undefined: it died or was taken away, the turn stays open. */
  async function runOnWorker(worker: Worker, open: OpenTurn): Promise<TurnResult | undefined> {
    const event = await store.readInput(session, open.input_id);
    const input = acceptedInputSchema.parse(event.data);
    const forced = new Promise<'forced'>((resolve) => {
      forceEnd = () => resolve('forced');
    });
    try {
      const result = await Promise.race([worker.runTurn(open.turn, input), forced]);
      if (result !== 'forced') return result;
      resident.recycle();
      return { outcome: 'interrupted', steps: open.steps };
    } catch (error) {
      if (!isPrxError(error, 'PEER_CLOSED')) return failedResult(error, open);
      // The pipe closes a moment before the exit is known.
      await worker.exited;
      await resident.settled();
      return undefined;
    } finally {
      forceEnd = () => undefined;
    }
  }

  function failedResult(error: unknown, open: OpenTurn): TurnResult {
    const { code, message } = toPrxError(error);
    return { outcome: 'failed', error: { code, message }, steps: open.steps };
  }

  async function closeTurn(open: OpenTurn, end: Ending, result?: TurnResult): Promise<void> {
    await gate.settle();
    const record = journal.record().open_turn;
    const { turn, input_id } = open;
    await journal.append(
      draft(
        'turn.completed',
        {
          turn,
          input_id,
          outcome: end.outcome,
          ...(end.reason === '' ? {} : { reason: end.reason }),
          ...(result?.error === undefined ? {} : { error: result.error }),
          usage: record?.usage ?? { input_tokens: 0, output_tokens: 0 },
          cost_usd: record?.cost_usd ?? 0,
          steps: record?.steps ?? open.steps,
        },
        { turn },
      ),
    );
    turnClock = undefined;
    ending = undefined;
    // What a worker remembers of a turn that did not simply complete may differ from the journal.
    if (end.outcome !== 'completed') resident.recycle();
    await (end.outcome === 'completed' ? undefined : resident.settled());
  }

  function stopTurn(outcome: TurnOutcome, reason: string): void {
    ending ??= { outcome, reason };
    gate.cancelTurn();
    waitAbort.abort();
    const open = journal.record().open_turn;
    if (open !== undefined) resident.worker()?.interrupt(open.turn);
    const force = forceEnd;
    clock.setTimer(STOP_GRACE_MS, () => force());
    wake();
  }

  function wakeTimeout(): void {
    const open = journal.record().open_turn;
    if (open === undefined || open.interrupted) return;
    const max = deps.turnTimeoutMs();
    const exceeded = { limit: 'session_timeout_secs', value: max / 1000, max: max / 1000 };
    journal
      .append(
        draft('limit.exceeded', exceeded, { turn: open.turn }),
        draft('interrupt.accepted', { source: 'timeout' }, { turn: open.turn }),
      )
      .then(() => stopTurn('timeout', `the turn ran longer than ${max / 1000} s`))
      .catch((error: unknown) => deps.logger.error('turn.timeout_failed', { session, error }));
  }

  const done = loop().catch((error: unknown) => {
    if (!halted) deps.logger.error('session.driver_failed', { session, error });
  });

  return {
    done,
    wake,
    stopTurn,
    isIdle: () => idle && resident.worker() !== undefined,
    idleSinceMs: () => idleSinceMs,
    turnClock: () => turnClock,
    stepBack() {
      waitAbort.abort();
      turnClock?.pause();
      hibernateReason = 'suspended';
      void resident.leave('suspended').then(wake, wake);
    },
    hibernate(reason) {
      hibernateReason = reason;
      wake();
    },
    halt() {
      halted = true;
      waitAbort.abort();
      turnClock?.pause();
      wake();
    },
  };
}

/** An input that interrupts goes before those that wait; among equals the oldest. */
export function pickNext(queued: readonly QueuedInput[]): QueuedInput {
  const [first] = queued;
  const urgent = queued.findLast((each) => each.on_busy === 'interrupt') ?? first;
  if (urgent === undefined) throw new RangeError('an empty queue has no next input');
  return urgent;
}
