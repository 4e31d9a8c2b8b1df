/** Decides whether, where and how the transcript is compacted. Pure. The boundary lies between
 *  steps, so no call is split from its result; the newest step that said something and the input
 *  of the turn at the boundary always stay; the system prompt is no part of any of this.
 *  Loop breaker: a summary is asked for only when the turn got on since the last one and when it
 *  frees enough; else older steps are dropped; and where that does not help either, nothing is
 *  compacted and the request is shortened (shorten.ts). Each verdict but `none` moves the
 *  boundary forward, so the decision cannot repeat itself for ever. */
import { assert } from '../base/assert.ts';
import type {
  CompactionRecord,
  ProviderMessage,
  SessionHistory,
  TurnRecord,
} from '../protocol/content.ts';
import type { AgentManifest } from '../protocol/worker-methods.ts';
import { type Boundary, buildTranscript, keptTurns } from './context.ts';
import { cutMiddle, shortenTranscript } from './shorten.ts';
import { BYTES_PER_TOKEN, estimateRequest } from './tokens.ts';

export type CompactionVerdict =
  | { readonly kind: 'none' }
  | CompactionPlan<'truncate'>
  | (CompactionPlan<'summarize'> & { readonly messages: readonly ProviderMessage[] });

interface CompactionPlan<K> {
  readonly kind: K;
  readonly from: Boundary;
  readonly beforeTokens: number;
}

/** Share of the threshold that stays: little where a summary stands for the rest. */
const KEEP_SHARE = { summarize: 1 / 4, truncate: 1 / 2 } as const;
/** A summary must free at least this share of the threshold to be worth a model call. */
const FREED_SHARE_MIN = 1 / 8;
/** A summary takes at most this share of the threshold; the middle of a longer one is cut. */
const SUMMARY_SHARE_MAX = 1 / 4;

const SUMMARY_REQUEST = `The conversation above is about to be removed from your context to save space. Write the summary that will stand in its place. Keep what is needed to go on without it:
- what the user wants, with every constraint and preference they stated, in their words where these matter;
- what was done and found, with exact file paths, names, commands, values and error messages;
- decisions and their reasons, and what was tried and did not work;
- what is still open, and the very next step.
If an earlier summary is part of the conversation, carry over what is still true. Do not call a tool. Answer with the summary only.`;

/** @param history  closed turns, then the open one.
 *  @param maySummarize  false when the turn has not got on since the last summary was tried. */
export function decideCompaction(
  manifest: AgentManifest,
  history: SessionHistory,
  maySummarize: boolean,
): CompactionVerdict {
  const threshold = manifest.compactionThresholdTokens;
  const transcript = buildTranscript(manifest, history);
  const beforeTokens = estimateRequest(transcript, manifest.tools);
  if (beforeTokens <= threshold) return { kind: 'none' };

  if (manifest.compactionStrategy === 'summarize' && maySummarize) {
    const from = chooseBoundary(manifest, history, threshold * KEEP_SHARE.summarize);
    const freed = from === undefined ? 0 : beforeTokens - tokensFrom(manifest, history, from);
    if (from !== undefined && freed >= threshold * FREED_SHARE_MIN) {
      const messages = summaryRequest(manifest, history, from);
      return { kind: 'summarize', from, beforeTokens, messages };
    }
  }
  const from = chooseBoundary(manifest, history, threshold * KEEP_SHARE.truncate);
  if (from === undefined) return { kind: 'none' };
  const freed = beforeTokens - tokensFrom(manifest, history, from);
  const fitsShortened =
    estimateRequest(fitTranscript(manifest, history), manifest.tools) <= threshold;
  const isWorthIt = freed >= threshold * FREED_SHARE_MIN || (freed > 0 && !fitsShortened);
  return isWorthIt ? { kind: 'truncate', from, beforeTokens } : { kind: 'none' };
}

/** The transcript as it is sent: whole where it fits under the threshold, else shortened. */
export function fitTranscript(
  manifest: AgentManifest,
  history: SessionHistory,
): readonly ProviderMessage[] {
  const transcript = buildTranscript(manifest, history);
  return shortenTranscript(transcript, manifest.tools, manifest.compactionThresholdTokens);
}

export interface DoneCompaction {
  readonly plan: CompactionPlan<'summarize' | 'truncate'>;
  readonly turn: number;
  readonly step: number;
  /** The model's text, for summarize. */
  readonly summary: string;
}

/** The record of a compaction, and the history with its boundary in force. `truncate` carries an
 *  earlier summary forward. */
export function applyCompaction(
  manifest: AgentManifest,
  history: SessionHistory,
  { plan, turn, step, summary }: DoneCompaction,
): { readonly compaction: CompactionRecord; readonly history: SessionHistory } {
  const charsMax = manifest.compactionThresholdTokens * SUMMARY_SHARE_MAX * BYTES_PER_TOKEN;
  const text = plan.kind === 'summarize' ? summary : (history.compaction?.summary ?? '');
  const draft: CompactionRecord = {
    turn,
    step,
    strategy: plan.kind,
    summary: cutMiddle(text.trim(), Math.floor(charsMax)),
    from_turn: plan.from.turn,
    from_step: plan.from.step,
    before_tokens: plan.beforeTokens,
    after_tokens: 0,
  };
  const turns = [...keptTurns({ ...history, compaction: draft })];
  const compacted = buildTranscript(manifest, { turns, compaction: draft });
  const compaction = { ...draft, after_tokens: estimateRequest(compacted, manifest.tools) };
  return { compaction, history: { turns, compaction } };
}

/** The places where the transcript may be cut, oldest first: before each step, and before each
 *  turn. The first of all is where it begins now. */
function boundaries(history: SessionHistory): readonly (Boundary & { readonly says: boolean })[] {
  return keptTurns(history).flatMap((turn, index) => {
    const isCut = index === 0 && turn.turn === history.compaction?.from_turn;
    const startStep = isCut ? (history.compaction?.from_step ?? 1) : 1;
    const steps = turn.steps.map((record, position) => ({
      turn: turn.turn,
      step: position === 0 ? startStep : record.step,
      says: record.message.text !== '' || record.message.tool_calls.length > 0,
    }));
    return steps.length > 0 ? steps : [{ turn: turn.turn, step: startStep, says: false }];
  });
}

/** The oldest place behind which at most `keepTokens` stand; never behind the newest step that
 *  said something. undefined: there is nothing in front of that place. */
function chooseBoundary(
  manifest: AgentManifest,
  history: SessionHistory,
  keepTokens: number,
): Boundary | undefined {
  const places = boundaries(history);
  const newest = places.findLastIndex((place) => place.says);
  const fixed = tokensFrom(manifest, { ...history, turns: [] }, { turn: 0, step: 0 });
  let low = 1;
  let high = newest;
  // What stands behind a place shrinks from place to place, so halving finds the oldest that fits.
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const place = places[middle];
    assert(place !== undefined, 'the middle of a range of places is a place');
    if (tokensFrom(manifest, history, place) - fixed <= keepTokens) high = middle;
    else low = middle + 1;
  }
  const chosen = newest < 1 ? undefined : places[low];
  return chosen === undefined ? undefined : { turn: chosen.turn, step: chosen.step };
}

/** Tokens of a request that begins at `from`, with whatever summary there is now. */
function tokensFrom(manifest: AgentManifest, history: SessionHistory, from: Boundary): number {
  const compaction = {
    turn: from.turn,
    step: from.step,
    strategy: 'truncate' as const,
    summary: history.compaction?.summary ?? '',
    from_turn: from.turn,
    from_step: from.step,
    before_tokens: 0,
    after_tokens: 0,
  };
  const view = { turns: history.turns, compaction };
  return estimateRequest(buildTranscript(manifest, view), manifest.tools);
}

/** What is asked of the model: the transcript up to the boundary as it always was (so that the
 *  provider's prompt cache serves it), then the request. */
function summaryRequest(
  manifest: AgentManifest,
  history: SessionHistory,
  from: Boundary,
): readonly ProviderMessage[] {
  const turns = history.turns
    .filter((turn) => turn.turn < from.turn || (turn.turn === from.turn && from.step > 1))
    .map((turn) => (turn.turn === from.turn ? withoutStepsFrom(turn, from.step) : turn));
  const request: ProviderMessage = {
    role: 'user',
    content: [{ type: 'text', text: SUMMARY_REQUEST }],
  };
  const head = buildTranscript(manifest, { ...history, turns });
  return shortenTranscript([...head, request], manifest.tools, manifest.compactionThresholdTokens);
}

function withoutStepsFrom(turn: TurnRecord, step: number): TurnRecord {
  const { outcome: _, ...open } = turn;
  return { ...open, steps: turn.steps.filter((record) => record.step < step) };
}
