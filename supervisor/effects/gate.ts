/** The effect gate of one session: everything its worker asks for passes here, and nothing else
 *  reaches the world. Effects have deterministic ids: asked again they are joined while they run
 *  and looked up when they ended, so a restarted worker replays its turn without repeating
 *  anything. Effects belong to the session, not to the worker that asked. */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import type { CompactionRecord, ModelOutcome, ToolOutcome } from '../../protocol/content.ts';
import { acceptedInputSchema } from '../../protocol/content.ts';
import type { EventData, EventEnvelope } from '../../protocol/events.ts';
import {
  type EffectId,
  type InputId,
  parseEffectId,
  toModelEffectId,
  toToolEffectId,
} from '../../protocol/ids.ts';
import type { StepStart } from '../../protocol/worker-methods.ts';
import { draft, type SessionJournal } from '../sessions/journal.ts';
import type { Approvals } from './approvals.ts';
import { effectOf } from './foreign-tools.ts';
import { type GenerateAsk, runModelCall, settleModelCall } from './model-call.ts';
import { type CallOrder, createCallOrder } from './order.ts';
import type { GateDeps } from './ports.ts';
import { mayGoOn, reserve } from './reserve.ts';
import { altered, runToolCall, type ToolAsk } from './tool-call.ts';

export interface Gate {
  /** What the first step of a turn begins with, where nothing of the turn was asked yet, nobody
   *  steers it and nothing stops it: its worker then need not ask, which is a quarter of the way
   *  from a prompt to its model request. Undefined: it asks.
   *  @param input  the turn's own, which stands in the queue until the turn's start is durable. */
  firstStep(turn: number, input: InputId): StepStart | undefined;
  nextStep(turn: number, step: number): Promise<StepStart>;
  generate(ask: GenerateAsk): Promise<ModelOutcome>;
  callTool(ask: ToolAsk): Promise<ToolOutcome>;
  compact(turn: number, record: CompactionRecord): Promise<void>;
  /** A turn opens. `fresh`: nothing of it can be in the journal yet.
   *  @param durable  its start is in the journal: nothing is asked for it before. */
  openTurn(turn: number, fresh: boolean, durable?: Promise<unknown>): void;
  /** The open turn's effects are cancelled; each still gets its end in the journal. */
  cancelTurn(): void;
  /** The turn ends: nothing more may be asked in it. Waits until none of its effects runs, and
   *  brings those to their end that an earlier supervisor, or an approval, left open. */
  settle(): Promise<void>;
  /** The supervisor stops: running effects are left to their hosts, and what becomes of them here
   *  (their pipes close) is no longer journaled. */
  seal(): void;
  /** Effects under way. */
  running(): readonly EffectId[];
  /** Nothing of the open turn can go on before a person answers. */
  isWaiting(): boolean;
}

interface Turn {
  readonly turn: number;
  readonly durable: Promise<unknown> | undefined;
  /** Effects the journal may know of; undefined: any. */
  readonly known: Set<EffectId> | undefined;
  readonly abort: AbortController;
  /** Of its tool calls. */
  readonly order: CallOrder;
  /** Calls that wait for the ones before them. */
  readonly held: Set<EffectId>;
  /** Steps whose compaction was asked for since the turn was opened here. */
  readonly compacted: Set<number>;
  /** Digests of the tool calls that were asked for since: who asks again must ask for the same. */
  readonly asked: Map<EffectId, string>;
  /** Its end is being written. */
  closing: boolean;
}

export function createGate(given: GateDeps, approvals: Approvals): Gate {
  const inFlight = new Map<EffectId, Promise<unknown>>();
  /** Asks that only write the journal: a worker that asks again joins them as well. */
  const writing = new Map<string, Promise<unknown>>();
  let sealed = false;
  let current: Turn | undefined;
  const deps: GateDeps = { ...given, journal: sealable(given.journal, () => sealed) };

  function requireTurn(turn: number): Turn {
    if (current?.turn === turn && !current.closing) return current;
    const message = `turn ${turn} is not open; the open one is ${current?.turn ?? 'none'}`;
    throw new PrxError('STALE_GENERATION', message);
  }

  async function readPast(turn: Turn, effect: EffectId): Promise<readonly EventEnvelope[]> {
    await turn.durable;
    if (turn.known !== undefined && !turn.known.has(effect)) {
      turn.known.add(effect);
      return [];
    }
    return deps.store.readEffect(deps.session, effect);
  }

  /** Runs `work` once per effect at a time: later askers get the same promise. */
  const join = <T>(effect: EffectId, work: () => Promise<T>): Promise<T> =>
    once(inFlight, effect, work);

  return {
    firstStep(turn, input) {
      const { state, queued, open_turn: open } = deps.journal.record();
      const isFresh = current?.turn === turn && !current.closing && current.known?.size === 0;
      const isGoing = state === 'running' && deps.journal.state() === state;
      // Given to the turn already, perhaps for a worker that died since; or on its way to it.
      const isGiven = (open?.steered.length ?? 0) > 0 || writing.size > 0;
      const others = queued.filter((each) => each.input_id !== input);
      const isSteered = isGiven || others.some((each) => each.on_busy === 'steer');
      if (!isFresh || !isGoing || isSteered || deps.journal.isStopped()) return undefined;
      return { steer: [], interrupted: false };
    },
    openTurn(turn, fresh, durable) {
      // A start that could not be written is tried again under the same number.
      if (current?.turn === turn && !fresh) {
        current.closing = false;
        return;
      }
      const known = fresh ? new Set<EffectId>() : undefined;
      const abort = new AbortController();
      const order = createCallOrder();
      const seen = { compacted: new Set<number>(), asked: new Map<EffectId, string>() };
      current = { turn, durable, known, abort, order, held: new Set(), ...seen, closing: false };
    },
    cancelTurn: () => current?.abort.abort(),
    running: () => [...inFlight.keys()],
    isWaiting() {
      const { state, open_turn: open, approvals: pending } = deps.journal.record();
      // Also an answer on its way counts.
      if (state !== 'awaiting' || deps.journal.state() !== 'awaiting') return false;
      const waiting = new Set(pending.map((each) => each.call_id));
      // A call behind another one has not begun: it goes on when that one has its answer.
      const isHeld = (effect: EffectId): boolean => current?.held.has(effect) === true;
      const isOnly = [...inFlight.keys()].every((each) => waiting.has(each) || isHeld(each));
      return waiting.size > 0 && isOnly && writing.size === 0 && open?.unfinished.length === 0;
    },
    seal() {
      sealed = true;
    },
    async settle() {
      const turn = current;
      if (turn !== undefined) {
        turn.closing = true;
        const ended = listOpen(turn).map((effect) => settleEffect(turn, effect));
        for (const result of await Promise.allSettled(ended)) {
          if (result.status === 'rejected') throw result.reason;
        }
      }
      while (inFlight.size > 0) await Promise.allSettled([...inFlight.values()]);
      if (turn !== undefined) deps.spools.removeTurn?.(deps.stateDir, deps.session, turn.turn);
    },
    async nextStep(turn, step) {
      const open = requireTurn(turn);
      return once(writing, `step ${turn}.${step}`, () => decideStep(open, step));
    },
    async generate(ask) {
      const turn = requireTurn(ask.turn);
      const effect = toModelEffectId(ask.turn, ask.step);
      return join(effect, async () =>
        runModelCall(deps, ask, await readPast(turn, effect), turn.abort.signal),
      );
    },
    async callTool(ask) {
      const turn = requireTurn(ask.turn);
      const effect = toToolEffectId(ask.turn, ask.step, ask.call);
      const digest = createHash('sha256').update(`${ask.name} ${ask.arguments}`).digest('hex');
      const earlier = turn.asked.get(effect) ?? digest;
      if (earlier !== digest) throw altered(effect);
      turn.asked.set(effect, digest);
      return join(effect, () => callInOrder(turn, ask, effect));
    },
    async compact(turnNumber, record) {
      const turn = requireTurn(turnNumber);
      const effect = toModelEffectId(record.turn, record.step);
      await once(writing, `compaction ${effect}`, async () => {
        await turn.durable;
        if (await isCompacted(turn, record)) return;
        const { turn: at, ...data } = record;
        await deps.journal.append(draft('context.compacted', data, { turn: at, effect }));
      });
    },
  };

  async function callInOrder(turn: Turn, ask: ToolAsk, effect: EffectId): Promise<ToolOutcome> {
    // Before anything is awaited: calls enter in the order in which they were asked for.
    const place = turn.order.enter(ask.step, effectOf(deps, ask.name));
    const prepare = async (tool: string): Promise<void> => {
      turn.held.add(effect);
      await place.ready;
      turn.held.delete(effect);
      await deps.host.prepare(tool);
    };
    const inPlace = { ...deps, host: { ...deps.host, prepare } };
    try {
      const past = await readPast(turn, effect);
      return await runToolCall(inPlace, approvals, ask, past, turn.abort.signal);
    } finally {
      place.leave();
    }
  }

  /** Compactions are no effects: they are found among their own kind. */
  async function isCompacted(turn: Turn, { step }: CompactionRecord): Promise<boolean> {
    const isFirst = turn.known !== undefined && !turn.compacted.has(step);
    turn.compacted.add(step);
    if (isFirst) return false;
    const { last_seq: until } = deps.journal.record();
    for (let since = 0; ; ) {
      const range = { turn: turn.turn, since, until, limit: 1000, types: ['context.compacted'] };
      // The turn, not the session: retention may have removed the first events of that.
      const events = await deps.store.readTurn(deps.session, range);
      if (events.some((event) => stepOf(event) === step)) return true;
      const last = events.at(-1);
      if (last === undefined) return false;
      since = last.seq;
    }
  }

  async function decideStep(opened: Turn, step: number): Promise<StepStart> {
    const { turn, known: asked } = opened;
    await opened.durable;
    const effect = toModelEffectId(turn, step);
    // A step that is asked again after a death keeps the request it had, also one that failed:
    // what came later waits.
    const hasBegun =
      asked?.has(effect) ?? (await deps.store.readEffect(deps.session, effect)).length > 0;
    const goesOn = await mayGoOn({ deps, signal: opened.abort.signal });
    const open = deps.journal.record().open_turn;
    if (!goesOn || open === undefined) return { steer: [], interrupted: true };
    const known = open.steered.filter((each) => each.step === step).map((each) => each.input_id);
    const fresh = known.length > 0 || hasBegun ? [] : await assignSteering(step, opened);
    if (fresh === undefined) return { steer: [], interrupted: true };
    const inputs = [...known, ...fresh];
    return { steer: await Promise.all(inputs.map(readInput)), interrupted: false };
  }

  /** Effects of a turn without an end: reserved ones, and calls that wait for a person. */
  function listOpen(turn: Turn): readonly EffectId[] {
    const { open_turn: open, approvals: pending } = deps.journal.record();
    const waiting = pending.map((each) => each.call_id);
    const own = waiting.filter((effect) => effect.startsWith(`${turn.turn}.`));
    return [...new Set([...(open?.unfinished ?? []), ...own])];
  }

  /** Queued inputs with on_busy `steer` go to the step that asks first; durably, so that a
   *  restarted worker gets the same ones at the same step. Undefined: the turn was stopped. */
  async function assignSteering(
    step: number,
    { turn, abort: { signal } }: Turn,
  ): Promise<readonly InputId[] | undefined> {
    const listQueued = (): readonly InputId[] => {
      const { queued } = deps.journal.record();
      return queued.filter((each) => each.on_busy === 'steer').map((each) => each.input_id);
    };
    if (listQueued().length === 0) return [];
    let steering: readonly InputId[] = [];
    const isGiven = await reserve({ deps, signal }, () => {
      steering = listQueued();
      return steering.map((input_id) => draft('input.steered', { input_id, step }, { turn }));
    });
    return isGiven ? steering : undefined;
  }

  async function readInput(input: InputId): Promise<z.infer<typeof acceptedInputSchema>> {
    const event = await deps.store.readInput(deps.session, input);
    return acceptedInputSchema.parse(event.data);
  }

  /** Brings a reserved effect of a cancelled turn to its end without a worker: what its spool
   *  says, or that it was cancelled. */
  function settleEffect(turn: Turn, effect: EffectId): Promise<unknown> {
    const { step, call } = parseEffectId(effect);
    // Read within the join: an effect that ends meanwhile must not end twice.
    return join<unknown>(effect, async () => {
      const past = await deps.store.readEffect(deps.session, effect);
      const { signal } = turn.abort;
      if (call === undefined) return settleModelCall(deps, { turn: turn.turn, step }, past, signal);
      const requested = past.find((event) => event.type === 'tool.requested')?.data;
      // Its schema was applied when it was journaled; none: nobody asked for the call yet.
      const { tool: name = '', arguments: value = {} } = (requested ?? {}) as Requested;
      const ask: ToolAsk = { turn: turn.turn, step, call, name, arguments: JSON.stringify(value) };
      return runToolCall(deps, approvals, ask, past, signal);
    });
  }
}

type Requested = Partial<EventData<'tool.requested'>>;

function stepOf({ data }: EventEnvelope): number {
  // The schema of context.compacted was applied when it was journaled.
  return (data as Pick<CompactionRecord, 'step'>).step;
}

/** Joins the work of this key that is under way, or starts it. */
function once<K, T>(running: Map<K, Promise<unknown>>, key: K, work: () => Promise<T>): Promise<T> {
  const joined = running.get(key);
  // One key is always asked through the same method, so the promise has this type.
  if (joined !== undefined) return joined as Promise<T>;
  const started = work().finally(() => running.delete(key));
  running.set(key, started);
  return started;
}

/** The gate's pen, which can be taken away. */
function sealable(journal: SessionJournal, isSealed: () => boolean): SessionJournal {
  return {
    ...journal,
    append(...drafts) {
      if (!isSealed()) return journal.append(...drafts);
      const message = 'the supervisor stops; the next one goes on from the journal';
      return Promise.reject(new PrxError('SHUTTING_DOWN', message));
    },
  };
}
