/** A worker may die between any two asks. Its successor asks the same things again, is given what
 *  was committed, and goes on as if nothing had happened. */
import { describe, expect, test } from '@jest/globals';
import type { AgentManifest } from '../../protocol/worker-methods.ts';
import {
  type AskRecord,
  call,
  input,
  names,
  requestsOf,
  result,
  say,
  startGate,
  stepRecord,
} from './harness.ts';
import { findMalformed } from './transcript.ts';

const history = {
  turns: [
    { turn: 1, input: input('before'), steps: [stepRecord(1, 'x'.repeat(900))] },
    {
      turn: 2,
      input: input('and then'),
      steps: [stepRecord(1, 'looking', [call('old')])],
      outcome: 'interrupted' as const,
    },
  ],
};

const TURN = 3;
const STEPS = 6;

/** What the world answers in the given life of the worker: each life finds another world. */
function answerLive({ method, params }: AskRecord, life: number): unknown {
  if (method === 'turn/step') {
    const steer = params.step === 3 ? [input(`steer in life ${life}`, 'in_2')] : [];
    return { steer, interrupted: false };
  }
  if (method === 'tool/call') return result(`${'out '.repeat(200)} ${life}.${params.call}`);
  if (method === 'context/compact') return {};
  if (params.purpose === 'compaction') return say(`summary of life ${life}`);
  if (params.step > STEPS) return say(`done in life ${life}`);
  const calls = ['a', 'b', 'c'].map((name) => call(`${name}${params.step}`, `{"life":${life}}`));
  return say(`step ${params.step}`, calls);
}

interface Life {
  readonly asks: AskRecord[];
  readonly outcome: string;
}

/** Runs the turn against a journal of committed answers, and dies when ask `killAt` comes. */
async function live(
  journal: Map<string, unknown>,
  manifest: Partial<AgentManifest>,
  { life, killAt }: { life: number; killAt: number },
): Promise<Life> {
  const gate = startGate({
    manifest,
    answer: (ask, index) => {
      if (index === killAt) {
        gate.worker.close();
        return new Promise(() => undefined);
      }
      const key = names([ask]).join();
      const known = journal.get(key);
      if (known !== undefined) return known;
      const answer = answerLive(ask, life);
      journal.set(key, answer);
      return answer;
    },
  });
  await gate.initialize(history);
  const outcome = await gate.run(TURN).then(
    ({ outcome: end }) => end,
    () => 'killed',
  );
  gate.worker.close();
  return { asks: gate.asks, outcome };
}

const variants: readonly [string, Partial<AgentManifest>][] = [
  ['parallel tools', {}],
  ['sequential tools', { parallelToolCalls: false }],
  ['surplus calls', { maxToolCallsPerTurn: 2 }],
  ['summaries', { compactionThresholdTokens: 1_500 }],
  ['truncation', { compactionThresholdTokens: 1_500, compactionStrategy: 'truncate' }],
  ['a limit of steps', { maxTurns: 3 }],
];

describe.each(variants)('[promise:worker-dies] a turn with %s', (name, manifest) => {
  test('is the same turn for every worker that runs it', async () => {
    const journal = new Map<string, unknown>();
    const first = await live(journal, manifest, { life: 1, killAt: -1 });
    expect(first.outcome).toBe(name === 'a limit of steps' ? 'max_turns' : 'completed');
    if (name === 'summaries') expect(names(first.asks).join()).toContain('compaction');
    if (name === 'truncation') expect(names(first.asks).join()).toContain('context/compact');
    expect(await live(journal, manifest, { life: 2, killAt: -1 })).toEqual(first);
  });

  test('goes on after a death at any ask', async () => {
    const { asks } = await live(new Map(), manifest, { life: 1, killAt: -1 });
    for (let killAt = 0; killAt < asks.length; killAt += 1) {
      const journal = new Map<string, unknown>();
      const first = await live(journal, manifest, { life: 1, killAt });
      expect(first.outcome).toBe('killed');
      const second = await live(journal, manifest, { life: 2, killAt: -1 });
      expect(second.outcome).not.toBe('killed');
      const common = first.asks.slice(0, killAt + 1);
      expect(second.asks.slice(0, common.length)).toEqual(common);
      expect(names(second.asks)).toEqual(names(asks));
      for (const { messages } of requestsOf(second.asks)) {
        expect(findMalformed(messages)).toEqual([]);
      }
    }
  });
});
