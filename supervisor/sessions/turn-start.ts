/** How a turn starts: its start goes to the journal, and its worker is told meanwhile. What the
 *  worker thinks before the start is durable is seen by nobody, and the gate answers it nothing. */
import type { z } from 'zod';
import { acceptedInputSchema } from '../../protocol/content.ts';
import type { InputId } from '../../protocol/ids.ts';
import type { OpenTurn } from '../../store/contract.ts';
import type { TurnResult, Worker } from '../children/workers.ts';
import type { Gate } from '../effects/gate.ts';
import { type InputReader, pickNext } from './input-reader.ts';
import { type Draft, draft, type SessionJournal } from './journal.ts';
import type { Resident } from './resident.ts';

export interface TurnStartDeps {
  readonly journal: SessionJournal;
  readonly inputs: InputReader;
  readonly gate: Gate;
  readonly resident: Resident;
  readonly isOpen: () => boolean;
  readonly isHalted: () => boolean;
  /** Undefined: none is to be had now.
   *  @param onTaken  a new one is told its session: what else is to be done is done meanwhile. */
  readonly takeWorker: (onTaken: () => void) => Promise<Worker | undefined>;
  /** Nobody waits for a worker, or for work, any more. */
  readonly lookAgain: () => void;
}

/** A turn whose start is on its way to the disk. */
interface Begun {
  readonly turn: number;
  readonly input: InputId;
  readonly durable: Promise<unknown>;
}

export interface TurnStart {
  /** Begins the next input's turn and tells its worker. Resolves when the start is durable, or
   *  there is no worker, or nothing to begin any more. */
  open(): Promise<void>;
  /** The turn that begins next has its tombstone from the beginning, and takes no worker.
   *  @returns that it is written; false: that turn was beginning already, or none begins now.
   *  Rejects as the store does. */
  stopNext(tombstone: (turn: number) => Draft): Promise<boolean>;
  /** No turn begins now, and no worker is waited for. */
  giveUp(): void;
  /** Tells the worker, if it was not told. Rejects as the store does, before it is told.
   *  @returns how its turn ends. */
  tell(worker: Worker, open: OpenTurn): Promise<{ readonly running: Promise<TurnResult> }>;
}

type AcceptedInput = z.infer<typeof acceptedInputSchema>;

interface Next {
  readonly tombstone: (turn: number) => Draft;
  readonly written: PromiseWithResolvers<boolean>;
}

interface Told {
  readonly worker: Worker;
  readonly turn: number;
  readonly accepted: Promise<AcceptedInput>;
  readonly running: Promise<TurnResult>;
}

export function createTurnStart(deps: TurnStartDeps): TurnStart {
  const { journal, inputs, gate, resident } = deps;
  let early: Told | undefined;
  let beginning: Promise<unknown> | undefined;
  let next: Next | undefined;

  function tellNow(worker: Worker, turn: number, input: InputId): Told {
    const accepted = inputs.take(input).then(({ data }) => acceptedInputSchema.parse(data));
    const running = accepted.then((its) => worker.runTurn(turn, its, gate.firstStep(turn, input)));
    running.catch(() => undefined); // Heard of by who waits for the turn.
    return { worker, turn, accepted, running };
  }

  /** Undefined: there is nothing to begin any more. */
  function begin(): Begun | undefined {
    const { queued, turn: latest } = journal.record();
    if (!deps.isOpen() || deps.isHalted() || queued.length === 0) return undefined;
    const { input_id: input } = pickNext(queued);
    const turn = latest + 1;
    inputs.start(input);
    const started = { turn, input_id: input, attempt: 1, spent_ms: 0 };
    const tombstones = next === undefined ? [] : [next.tombstone(turn)];
    const durable = journal.append(draft('turn.started', started, { turn }), ...tombstones);
    beginning = durable.catch(() => undefined); // Heard of by who waits for it.
    next?.written.resolve(durable.then(() => true));
    next = undefined;
    gate.openTurn(turn, true, durable);
    return { turn, input, durable };
  }

  return {
    async open() {
      if (next !== undefined) return void (await begin()?.durable);
      let meanwhile: Begun | undefined;
      const worker = await deps.takeWorker(() => {
        meanwhile = begin();
      });
      const begun = meanwhile ?? (worker === undefined ? undefined : begin());
      if (worker !== undefined && begun !== undefined) {
        resident.setTurn(begun.turn);
        early = tellNow(worker, begun.turn, begun.input);
      }
      await begun?.durable;
    },
    async stopNext(tombstone) {
      const { turn } = journal.record();
      for (let seen: typeof beginning | null = null; seen !== beginning; ) {
        seen = beginning;
        await seen;
      }
      const { turn: latest, queued } = journal.record();
      const isOver = latest !== turn || queued.length === 0;
      if (isOver || !deps.isOpen() || deps.isHalted()) return false;
      next = { tombstone, written: Promise.withResolvers() };
      deps.lookAgain();
      return next.written.promise;
    },
    giveUp() {
      next?.written.resolve(false);
      next = undefined;
      deps.lookAgain();
    },
    async tell(worker, { turn, input_id: input }) {
      const isTold = early?.worker === worker && early.turn === turn;
      const told = isTold && early !== undefined ? early : tellNow(worker, turn, input);
      early = undefined;
      await told.accepted;
      return told;
    },
  };
}
