/** The effect gate of one session: everything its worker asks for passes here, and nothing else
 *  reaches the world. Effects have deterministic ids: asked again they are joined while they run
 *  and looked up when they ended, so a restarted worker replays its turn without repeating
 *  anything. Effects belong to the session, not to the worker that asked. */
import type { z } from 'zod';
import { PrxError } from '../../base/errors.ts';
import type { CompactionRecord, ModelOutcome, ToolOutcome } from '../../protocol/content.ts';
import { acceptedInputSchema } from '../../protocol/content.ts';
import type { EventEnvelope } from '../../protocol/events.ts';
import {
  type EffectId,
  type InputId,
  toModelEffectId,
  toToolEffectId,
} from '../../protocol/ids.ts';
import type { askRequests } from '../../protocol/worker-methods.ts';
import { draft } from '../sessions/journal.ts';
import type { Approvals } from './approvals.ts';
import { type GenerateAsk, runModelCall, settleModelCall } from './model-call.ts';
import type { GateDeps } from './ports.ts';
import { runToolCall, type ToolAsk } from './tool-call.ts';

type StepAnswer = z.infer<(typeof askRequests)['turn/step']['result']>;

export interface Gate {
  nextStep(turn: number, step: number): Promise<StepAnswer>;
  generate(ask: GenerateAsk): Promise<ModelOutcome>;
  callTool(ask: ToolAsk): Promise<ToolOutcome>;
  compact(turn: number, record: CompactionRecord): Promise<void>;
  /** A turn opens. `fresh`: nothing of it can be in the journal yet. */
  openTurn(turn: number, fresh: boolean): void;
  /** The open turn's effects are cancelled; each still gets its end in the journal. */
  cancelTurn(): void;
  /** Waits until no effect of the open turn runs; adopts those an earlier supervisor reserved. */
  settle(): Promise<void>;
  /** Effects under way. */
  running(): readonly EffectId[];
}

interface Turn {
  readonly turn: number;
  /** Effects the journal may know of; undefined: any. */
  readonly known: Set<EffectId> | undefined;
  readonly abort: AbortController;
}

export function createGate(deps: GateDeps, approvals: Approvals): Gate {
  const inFlight = new Map<EffectId, Promise<unknown>>();
  let current: Turn | undefined;

  function requireTurn(turn: number): Turn {
    if (current?.turn === turn) return current;
    const message = `turn ${turn} is not open; the open one is ${current?.turn ?? 'none'}`;
    throw new PrxError('STALE_GENERATION', message);
  }

  async function readPast(turn: Turn, effect: EffectId): Promise<readonly EventEnvelope[]> {
    if (turn.known !== undefined && !turn.known.has(effect)) {
      turn.known.add(effect);
      return [];
    }
    return deps.store.readEffect(deps.session, effect);
  }

  /** Runs `work` once per effect at a time: later askers get the same promise. */
  function join<T>(effect: EffectId, work: () => Promise<T>): Promise<T> {
    const running = inFlight.get(effect);
    // One effect id is always asked through the same method, so the promise has this type.
    if (running !== undefined) return running as Promise<T>;
    const started = work().finally(() => inFlight.delete(effect));
    inFlight.set(effect, started);
    return started;
  }

  return {
    openTurn(turn, fresh) {
      if (current?.turn === turn) return;
      current = { turn, known: fresh ? new Set() : undefined, abort: new AbortController() };
    },
    cancelTurn: () => current?.abort.abort(),
    running: () => [...inFlight.keys()],
    async settle() {
      const turn = current;
      const unfinished = deps.journal.record().open_turn?.unfinished ?? [];
      if (turn !== undefined) {
        for (const effect of unfinished) void settleEffect(turn, effect).catch(() => undefined);
      }
      while (inFlight.size > 0) await Promise.allSettled([...inFlight.values()]);
    },
    async nextStep(turn, step) {
      requireTurn(turn);
      const open = deps.journal.record().open_turn;
      if ((await deps.permission()) === 'stop' || open === undefined) {
        return { steer: [], interrupted: true };
      }
      const given = open.steered.filter((each) => each.step === step).map((each) => each.input_id);
      const fresh = given.length > 0 ? [] : await assignSteering(step, turn);
      const inputs = [...given, ...fresh];
      return { steer: await Promise.all(inputs.map(readInput)), interrupted: false };
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
      return join(effect, async () =>
        runToolCall(deps, approvals, ask, await readPast(turn, effect), turn.abort.signal),
      );
    },
    async compact(turnNumber, record) {
      const turn = requireTurn(turnNumber);
      const effect = toModelEffectId(record.turn, record.step);
      const past =
        turn.known === undefined ? await deps.store.readEffect(deps.session, effect) : [];
      if (past.some((event) => event.type === 'context.compacted')) return;
      const { turn: at, ...data } = record;
      await deps.journal.append(draft('context.compacted', data, { turn: at, effect }));
    },
  };

  /** Queued inputs with on_busy `steer` go to the step that asks first; durably, so that a
   *  restarted worker gets the same ones at the same step. */
  async function assignSteering(step: number, turn: number): Promise<readonly InputId[]> {
    const { queued } = deps.journal.record();
    const steering = queued.filter((each) => each.on_busy === 'steer').map((each) => each.input_id);
    if (steering.length === 0) return [];
    await deps.journal.append(
      ...steering.map((input_id) => draft('input.steered', { input_id, step }, { turn })),
    );
    return steering;
  }

  async function readInput(input: InputId): Promise<z.infer<typeof acceptedInputSchema>> {
    const event = await deps.store.readInput(deps.session, input);
    return acceptedInputSchema.parse(event.data);
  }

  /** Brings a reserved effect of a cancelled turn to its end without a worker: what its spool
   *  says, or that it was cancelled. */
  async function settleEffect(turn: Turn, effect: EffectId): Promise<unknown> {
    const past = await deps.store.readEffect(deps.session, effect);
    const [, step = 0, call] = effect.split('.').map(Number);
    if (call === undefined) {
      const address = { turn: turn.turn, step };
      return join(effect, () => settleModelCall(deps, address, past, turn.abort.signal));
    }
    const requested = past.find((event) => event.type === 'tool.requested')?.data;
    const name = (requested as { tool?: string } | undefined)?.tool ?? '';
    const ask: ToolAsk = { turn: turn.turn, step, call, name, arguments: '{}' };
    return join(effect, () => runToolCall(deps, approvals, ask, past, turn.abort.signal));
  }
}
