import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { ModelOutcome, SessionHistory } from '../../protocol/content.ts';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import { applyCompaction, decideCompaction, fitTranscript } from '../../worker/compaction.ts';
import { buildTranscript } from '../../worker/context.ts';
import { estimateRequest } from '../../worker/tokens.ts';
import { anyHistory } from './arbitraries.ts';
import {
  type Answer,
  type AskRecord,
  call,
  input,
  manifest,
  names,
  requestsOf,
  result,
  runOnce,
  say,
  stepRecord,
} from './harness.ts';
import { findMalformed } from './transcript.ts';

const THRESHOLD = 2_000;
const small: AgentManifest = { ...manifest, compactionThresholdTokens: THRESHOLD };

/** Closed turns of about `tokens` each, then an open one. */
function talk(turns: number, tokens: number): SessionHistory {
  const closed = Array.from({ length: turns }, (_, index) => ({
    turn: index + 1,
    input: input(`question ${index + 1}`),
    steps: [stepRecord(1, 'word '.repeat((tokens * 4) / 5))],
    outcome: 'completed' as const,
  }));
  return { turns: [...closed, { turn: turns + 1, input: input('now'), steps: [] }] };
}

describe('[config:agent.loop.compaction_threshold_tokens] compaction is decided', () => {
  test.each([-1, 0, 1])('by the estimate, %d beyond the threshold', (beyond) => {
    const history = talk(4, 400);
    const tokens = estimateRequest(buildTranscript(manifest, history), manifest.tools);
    const tight = { ...manifest, compactionThresholdTokens: tokens - beyond };
    expect(decideCompaction(tight, history, true).kind).toBe(beyond > 0 ? 'summarize' : 'none');
  });

  test('with the newest quarter kept for a summary, half of it for a truncation', () => {
    const history = talk(8, 400);
    expect(decideCompaction(small, history, true)).toMatchObject({
      kind: 'summarize',
      from: { turn: 8, step: 1 },
    });
    const truncate = { ...small, compactionStrategy: 'truncate' as const };
    expect(decideCompaction(truncate, history, true)).toMatchObject({
      kind: 'truncate',
      from: { turn: 7, step: 1 },
    });
  });

  test('with a summary of the head alone: its transcript as it was, then the request', () => {
    const history = talk(8, 400);
    const verdict = decideCompaction(small, history, true);
    if (verdict.kind !== 'summarize') throw new Error('a summary is asked for');
    const whole = buildTranscript(small, history);
    const { messages } = verdict;
    expect(messages.slice(0, -1)).toEqual(whole.slice(0, messages.length - 1));
    expect(JSON.stringify(messages.at(-2))).toContain('word');
    expect(JSON.stringify(messages)).not.toContain('question 8');
    expect(JSON.stringify(messages.at(-1))).toContain('Answer with the summary only');
  });

  test('never between a step and its results; the newest step and the input stay', () => {
    const calls = [call('a'), call('b')];
    const steps = [1, 2, 3].map((step) => ({
      ...stepRecord(step, '', calls),
      results: calls.map(() => result('x'.repeat(6_000))),
    }));
    const history = { turns: [{ turn: 1, input: input('the task'), steps }] };
    const verdict = decideCompaction(small, history, true);
    expect(verdict).toMatchObject({ kind: 'summarize', from: { turn: 1, step: 3 } });
    if (verdict.kind !== 'summarize') return;
    const done = { plan: verdict, turn: 1, step: 4, summary: 'short' };
    const after = buildTranscript(small, applyCompaction(small, history, done).history);
    expect(findMalformed(after)).toEqual([]);
    expect(after.map(({ role }) => role)).toEqual([
      'system',
      'user',
      'user',
      'assistant',
      'tool',
      'tool',
    ]);
    expect(JSON.stringify(after[2])).toContain('the task');
  });

  test('once for any history: applied, it always gets on and ends', () => {
    fc.assert(
      fc.property(
        anyHistory,
        fc.integer({ min: 50, max: 3_000 }),
        fc.boolean(),
        (first, at, ask) => {
          const agent: AgentManifest = {
            ...manifest,
            compactionThresholdTokens: at,
            compactionStrategy: ask ? 'summarize' : 'truncate',
          };
          let history = first;
          let rounds = 0;
          for (;;) {
            const verdict = decideCompaction(agent, history, rounds === 0);
            if (verdict.kind === 'none') break;
            if (verdict.kind === 'summarize') expect(findMalformed(verdict.messages)).toEqual([]);
            const summary = 'long summary '.repeat(300);
            const done = { plan: verdict, turn: 9, step: rounds + 1, summary };
            const { compaction, history: next } = applyCompaction(agent, history, done);
            expect(compaction.summary.length).toBeLessThan(at + 100);
            expect(findMalformed(buildTranscript(agent, next))).toEqual([]);
            expect(isBehind(next, history)).toBe(true);
            history = next;
            rounds += 1;
          }
          expect(rounds).toBeLessThanOrEqual(40);
          expect(findMalformed(fitTranscript(agent, history))).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
  });
});

function isBehind(next: SessionHistory, before: SessionHistory): boolean {
  const place = ({ compaction }: SessionHistory): number =>
    (compaction?.from_turn ?? 0) * 1_000 + (compaction?.from_step ?? 0);
  return place(next) > place(before);
}

const BIG = 'x'.repeat(3_000);

/** A model that calls a tool with a big output in each of its first `steps` steps. */
function hungry(steps: number, summary: ModelOutcome): Answer {
  let done = 0;
  return ({ method, params }) => {
    if (method === 'tool/call') return result(BIG);
    if (method !== 'model/generate') return undefined;
    if (params.purpose === 'compaction') return summary;
    done += 1;
    return done > steps ? say('done') : say(`step ${done}`, [call(`c${done}`)]);
  };
}

function compactions(asks: readonly AskRecord[]) {
  return asks.flatMap(({ method, params }) => (method === 'context/compact' ? [params] : []));
}

const tight = { compactionThresholdTokens: THRESHOLD, maxTurns: 6 };

describe('[config:agent.loop.compaction_strategy] within a turn', () => {
  test('a summary is a step of its own, journaled, and not counted as a step', async () => {
    const { end, asks } = await runOnce({
      answer: hungry(5, say('what happened so far')),
      manifest: tight,
    });
    expect(end.outcome).toBe('completed');
    const purposes = requestsOf(asks).map(({ purpose }) => purpose);
    expect(purposes.filter((purpose) => purpose === 'step')).toHaveLength(6);
    const [first] = compactions(asks);
    expect(first).toEqual({
      turn: 1,
      step: 4,
      strategy: 'summarize',
      summary: 'what happened so far',
      from_turn: 1,
      from_step: 3,
      before_tokens: expect.any(Number),
      after_tokens: expect.any(Number),
    });
    expect(first?.after_tokens).toBeLessThan(first?.before_tokens ?? 0);
    expect(names(asks).slice(9, 14)).toEqual([
      'turn/step 1.4',
      'model/generate 1.4 compaction',
      'context/compact 1.4',
      'turn/step 1.5',
      'model/generate 1.5',
    ]);
    const next = requestsOf(asks).find(({ step }) => step === 5);
    expect(JSON.stringify(next?.messages[1])).toContain('what happened so far');
    expect(JSON.stringify(next?.messages[2])).toContain('hello');
  });

  test('truncation asks no model', async () => {
    const { asks } = await runOnce({
      answer: hungry(5, say('never')),
      manifest: { ...tight, compactionStrategy: 'truncate' },
    });
    expect(requestsOf(asks).every(({ purpose }) => purpose === 'step')).toBe(true);
    expect(compactions(asks).length).toBeGreaterThan(0);
    for (const { strategy, summary } of compactions(asks)) {
      expect({ strategy, summary }).toEqual({ strategy: 'truncate', summary: '' });
    }
  });

  test.each<[string, ModelOutcome]>([
    ['fails', { kind: 'failed', code: 'PROVIDER_TIMEOUT', message: '' }],
    ['says nothing', say(' ')],
    ['wants a tool instead', say('', [call('z')])],
    ['is filtered', say('...', [], 'content_filter')],
  ])('a summary that %s gives way to truncation', async (_, summary) => {
    const { end, asks } = await runOnce({ answer: hungry(5, summary), manifest: tight });
    expect(end.outcome).toBe('completed');
    const strategies = compactions(asks).map(({ strategy }) => strategy);
    expect(new Set(strategies)).toEqual(new Set(['truncate']));
    expect(names(asks)).not.toContain('tool/call 1.4.1');
  });

  test.each<[string, ModelOutcome, string]>([
    ['is cancelled', { kind: 'cancelled' }, 'interrupted'],
    ['is cut by an interrupt', say('par', [], 'cancelled'), 'interrupted'],
    ['finds the budget used up', { kind: 'budget', message: 'none left' }, 'budget'],
  ])('a summary that %s ends the turn', async (_, summary, outcome) => {
    const { end, asks } = await runOnce({ answer: hungry(5, summary), manifest: tight });
    expect(end.outcome).toBe(outcome);
    expect(compactions(asks)).toEqual([]);
  });

  test('a later truncation keeps the summary', async () => {
    let summaries = 0;
    const model = hungry(6, say('unused'));
    const answer: Answer = (ask, index, context) => {
      if (ask.method !== 'model/generate' || ask.params.purpose === 'step') {
        return model(ask, index, context);
      }
      summaries += 1;
      return summaries === 1 ? say('the gist') : say('');
    };
    const { asks } = await runOnce({ answer, manifest: { ...tight, maxTurns: 9 } });
    const kept = compactions(asks).map(({ strategy, summary }) => [strategy, summary]);
    expect(kept.slice(0, 2)).toEqual([
      ['summarize', 'the gist'],
      ['truncate', 'the gist'],
    ]);
  });

  test('what no compaction can mend is shortened, and the turn goes on', async () => {
    const huge: Answer = ({ method, params }) => {
      if (method === 'tool/call') return result(`${'a'.repeat(30_000)}END`);
      if (method !== 'model/generate') return undefined;
      if (params.purpose === 'compaction') return say('short');
      return params.step === 1 ? say('', [call('a')]) : say('done');
    };
    const { end, asks } = await runOnce({ answer: huge, manifest: tight });
    expect(end).toEqual({ outcome: 'completed', steps: 2 });
    expect(compactions(asks)).toEqual([]);
    const { messages, tools } = requestsOf(asks)[1] ?? { messages: [], tools: [] };
    expect(estimateRequest(messages, tools)).toBeLessThanOrEqual(THRESHOLD);
    const last = messages.at(-1);
    expect(last?.role === 'tool' && last.text).toMatch(
      /^a+\n\[… \d+ characters left out …]\na+END$/,
    );
  });

  test('an input beyond the threshold asks for no compaction, step after step', async () => {
    const answer = hungry(3, say('never'));
    const gate = { compactionThresholdTokens: 1_000 };
    const instructions = 'rule '.repeat(2_000);
    const { end, asks } = await runOnce({ answer, manifest: { ...gate, instructions } });
    expect(end.outcome).toBe('completed');
    const summaries = requestsOf(asks).filter(({ purpose }) => purpose === 'compaction');
    expect(summaries.length).toBeLessThanOrEqual(3);
  });

  test('a turn is bounded even if each step wants a compaction', async () => {
    const endless: Answer = ({ method, params }) => {
      if (method === 'tool/call') return result(BIG);
      if (method !== 'model/generate') return undefined;
      if (params.purpose === 'compaction') return say('s'.repeat(20_000));
      return say('on', [call(`c${params.step}`)]);
    };
    const { end } = await runOnce({ answer: endless, manifest: { ...tight, maxTurns: 20 } });
    expect(end).toMatchObject({ outcome: 'max_turns' });
    expect(end.steps).toBeLessThanOrEqual(40);
  });
});
