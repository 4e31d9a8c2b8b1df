/** One turn, from its input to its stop reason: a deterministic function of the manifest, the
 *  history and the answers. The loop asks and never acts; asked again with the same history and
 *  the same answers it makes the same requests in the same order, which is how a restarted worker
 *  catches up. What the supervisor does with inputs that arrive meanwhile shows here only as
 *  `steer` at the next step; those that come during the last answer become inputs of their own. */
import type {
  AcceptedInput,
  AssistantMessage,
  ModelOutcome,
  SessionHistory,
  StepRecord,
  TurnOutcome,
  TurnRecord,
} from '../protocol/content.ts';
import type { AgentManifest, StepStart } from '../protocol/worker-methods.ts';
import type { Ask } from './ask.ts';
import {
  applyCompaction,
  type CompactionVerdict,
  decideCompaction,
  fitTranscript,
} from './compaction.ts';
import { runToolCalls } from './tool-calls.ts';

export interface TurnSpec {
  readonly manifest: AgentManifest;
  /** Closed turns only. */
  readonly history: SessionHistory;
  readonly turn: number;
  readonly input: AcceptedInput;
  /** What the first step begins with; undefined: it is asked for, as for every other step. */
  readonly first?: StepStart | undefined;
  readonly ask: Ask;
  readonly isInterrupted: () => boolean;
}

export interface TurnEnd {
  readonly outcome: TurnOutcome;
  readonly reason?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface TurnRun extends TurnEnd {
  /** Model calls asked for, compactions included. */
  readonly steps: number;
  /** With this turn as its last, closed one. */
  readonly history: SessionHistory;
}

/** What changes while a turn runs. */
interface Progress {
  history: SessionHistory;
  modelCalls: number;
  /** Steps that count against maxTurns: model calls that are no compaction. */
  stepsSpent: number;
  /** False from a summary (or its failure) until the next step of the model. */
  maySummarize: boolean;
}

const INTERRUPTED: TurnEnd = { outcome: 'interrupted' };
const NO_MESSAGE: AssistantMessage = { text: '', tool_calls: [] };

/** Rejects only when an ask does: then the turn has no outcome and may be run again. */
export async function runTurn(spec: TurnSpec): Promise<TurnRun> {
  const { turn, input, history } = spec;
  const open: TurnRecord = { turn, input, steps: [] };
  const progress: Progress = {
    history: { ...history, turns: [...history.turns, open] },
    modelCalls: 0,
    stepsSpent: 0,
    maySummarize: true,
  };
  let end: TurnEnd | undefined;
  // Bounded: at most maxTurns steps, and at most one compaction before each of them.
  for (let step = 1; end === undefined; step += 1) end = await runStep(spec, progress, step);
  return { ...end, steps: progress.modelCalls, history: closeTurn(progress.history, end.outcome) };
}

/** undefined: the turn goes on with the next step. */
async function runStep(
  spec: TurnSpec,
  progress: Progress,
  step: number,
): Promise<TurnEnd | undefined> {
  const told = step === 1 ? spec.first : undefined;
  const steering = told ?? (await spec.ask('turn/step', { turn: spec.turn, step }));
  if (steering === undefined) return INTERRUPTED;
  if (steering.steer.length > 0) {
    record(progress, { step, steer: steering.steer, message: NO_MESSAGE, results: [] });
  }
  if (steering.interrupted || spec.isInterrupted()) return INTERRUPTED;

  const verdict = decideCompaction(spec.manifest, progress.history, progress.maySummarize);
  if (verdict.kind === 'summarize') return summarize(spec, progress, { step, verdict });
  if (verdict.kind === 'truncate') {
    const done = await compact(spec, progress, { step, verdict, summary: '' });
    if (!done || spec.isInterrupted()) return INTERRUPTED;
  }
  return think(spec, progress, step);
}

/** A compaction is a step of its own: a model call, then the record of what it replaces. When it
 *  brings no summary the next step drops old steps instead. */
async function summarize(
  spec: TurnSpec,
  progress: Progress,
  { step, verdict }: { step: number; verdict: CompactionVerdict & { kind: 'summarize' } },
): Promise<TurnEnd | undefined> {
  progress.modelCalls += 1;
  progress.maySummarize = false;
  const outcome = await spec.ask('model/generate', {
    turn: spec.turn,
    step,
    purpose: 'compaction',
    messages: [...verdict.messages],
    tools: spec.manifest.tools,
  });
  if (outcome === undefined || outcome.kind === 'cancelled') return INTERRUPTED;
  if (outcome.kind === 'budget') return { outcome: 'budget', reason: outcome.message };
  if (outcome.kind === 'failed') return undefined;
  if (outcome.finish_reason === 'cancelled' || spec.isInterrupted()) return INTERRUPTED;
  const summary = outcome.message.text.trim();
  if (summary === '' || outcome.finish_reason === 'content_filter') return undefined;
  const done = await compact(spec, progress, { step, verdict, summary });
  return done ? undefined : INTERRUPTED;
}

interface Compaction {
  readonly step: number;
  readonly verdict: CompactionVerdict & { kind: 'summarize' | 'truncate' };
  readonly summary: string;
}

/** Journals the compaction, then applies it. False when the turn was interrupted. */
async function compact(
  spec: TurnSpec,
  progress: Progress,
  { step, verdict, summary }: Compaction,
): Promise<boolean> {
  const done = { plan: verdict, turn: spec.turn, step, summary };
  const { history, compaction } = applyCompaction(spec.manifest, progress.history, done);
  const answer = await spec.ask('context/compact', compaction);
  if (answer === undefined) return false;
  progress.history = history;
  return true;
}

/** One step of the model, and the tool calls it wants. */
async function think(
  spec: TurnSpec,
  progress: Progress,
  step: number,
): Promise<TurnEnd | undefined> {
  progress.modelCalls += 1;
  progress.stepsSpent += 1;
  progress.maySummarize = true;
  const { manifest, turn } = spec;
  const outcome = await spec.ask('model/generate', {
    turn,
    step,
    purpose: 'step',
    messages: [...fitTranscript(manifest, progress.history)],
    tools: manifest.tools,
  });
  const end = decideEnd(outcome);
  if (outcome?.kind !== 'completed') return end;
  const { message } = outcome;
  const steer = findStep(progress, step)?.steer ?? [];
  record(progress, { step, steer, message, results: [] });
  if (end !== undefined) return end;
  if (spec.isInterrupted()) return INTERRUPTED;

  const results = await runToolCalls({ ...spec, step, calls: message.tool_calls });
  record(progress, { step, steer, message, results: [...results] });
  if (spec.isInterrupted()) return INTERRUPTED;
  if (progress.stepsSpent < manifest.maxTurns) return undefined;
  return { outcome: 'max_turns', reason: `the limit of ${manifest.maxTurns} steps is reached` };
}

/** How a model's answer ends the turn; undefined when it asks for tools. An answer that is
 *  complete counts even if an interrupt came while it was on its way. */
function decideEnd(outcome: ModelOutcome | undefined): TurnEnd | undefined {
  switch (outcome?.kind) {
    case undefined:
    case 'cancelled':
      return INTERRUPTED;
    case 'failed':
      return { outcome: 'failed', error: { code: outcome.code, message: outcome.message } };
    case 'budget':
      return { outcome: 'budget', reason: outcome.message };
    case 'completed':
      break;
  }
  switch (outcome.finish_reason) {
    case 'cancelled':
      return INTERRUPTED;
    case 'content_filter':
      return { outcome: 'refused', reason: 'content_filter' };
    case 'length':
      // Calls that came with it may be cut in the middle: none of them is run.
      return { outcome: 'completed', reason: 'length' };
    case 'stop':
    case 'tool_calls':
      return outcome.message.tool_calls.length > 0 ? undefined : { outcome: 'completed' };
  }
}

function findStep(progress: Progress, step: number): StepRecord | undefined {
  return progress.history.turns.at(-1)?.steps.find((candidate) => candidate.step === step);
}

/** Writes the record of one step into the open turn, in place of an earlier one of that step. */
function record(progress: Progress, entry: StepRecord): void {
  const { turns } = progress.history;
  const open = turns.at(-1);
  if (open === undefined) return;
  const steps = [...open.steps.filter((candidate) => candidate.step !== entry.step), entry];
  progress.history = { ...progress.history, turns: [...turns.slice(0, -1), { ...open, steps }] };
}

function closeTurn(history: SessionHistory, outcome: TurnOutcome): SessionHistory {
  const open = history.turns.at(-1);
  if (open === undefined) return history;
  return { ...history, turns: [...history.turns.slice(0, -1), { ...open, outcome }] };
}
