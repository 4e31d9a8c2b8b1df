import { describe, expect, test } from '@jest/globals';
import { PrxError } from '../../base/errors.ts';
import type { ModelOutcome } from '../../protocol/content.ts';
import {
  type Answer,
  call,
  input,
  names,
  requestsOf,
  result,
  runOnce,
  say,
  script,
  startGate,
} from './harness.ts';
import { findMalformed } from './transcript.ts';

const failed: ModelOutcome = { kind: 'failed', code: 'PROVIDER_TIMEOUT', message: 'too slow' };

describe('a turn ends', () => {
  test.each<[string, ModelOutcome, object]>([
    ['when the model is done', say('hi'), { outcome: 'completed' }],
    ['when it says nothing at all', say(''), { outcome: 'completed' }],
    ['when it wants tools and names none', say('', [], 'tool_calls'), { outcome: 'completed' }],
    ['at the length limit', say('hi', [], 'length'), { outcome: 'completed', reason: 'length' }],
    [
      'at the length limit, running no call that may be cut',
      say('', [call('a', '{"comm')], 'length'),
      { outcome: 'completed', reason: 'length' },
    ],
    [
      'when the provider filters',
      say('', [call('a')], 'content_filter'),
      { outcome: 'refused', reason: 'content_filter' },
    ],
    [
      'when the model call failed',
      failed,
      { outcome: 'failed', error: { code: 'PROVIDER_TIMEOUT', message: 'too slow' } },
    ],
    ['when it was cancelled', { kind: 'cancelled' }, { outcome: 'interrupted' }],
    [
      'when it was cancelled with something said',
      say('par', [call('a')], 'cancelled'),
      { outcome: 'interrupted' },
    ],
    [
      'when the budget is used up',
      { kind: 'budget', message: 'no money left' },
      { outcome: 'budget', reason: 'no money left' },
    ],
  ])('%s', async (_, outcome, expected) => {
    const { end, asks } = await runOnce({ answer: script([outcome]) });
    expect(end).toEqual({ steps: 1, ...expected });
    expect(names(asks)).toEqual(['turn/step 1.1', 'model/generate 1.1']);
  });

  test('[config:agent.max_turns] at the limit of steps, its last calls answered', async () => {
    const answer = script([say('', [call('a')]), say('', [call('b')]), say('never')]);
    const { end, asks } = await runOnce({ answer, manifest: { maxTurns: 2 } });
    expect(end).toEqual({
      outcome: 'max_turns',
      reason: 'the limit of 2 steps is reached',
      steps: 2,
    });
    expect(names(asks).slice(-2)).toEqual(['model/generate 1.2', 'tool/call 1.2.1']);
  });

  test('not at the limit of steps when the last one is an answer', async () => {
    const answer = script([say('', [call('a')]), say('done')]);
    const { end } = await runOnce({ answer, manifest: { maxTurns: 2 } });
    expect(end).toEqual({ outcome: 'completed', steps: 2 });
  });

  test('not at all when an ask is refused: the turn may be run again', async () => {
    let refusals = 1;
    const gate = startGate({
      answer: ({ method }) => {
        if (method === 'tool/call' && refusals-- > 0) {
          throw new PrxError('STORE_DEGRADED', 'disk full');
        }
        return method === 'model/generate' && refusals >= 0 ? say('', [call('a')]) : undefined;
      },
    });
    await gate.initialize();
    await expect(gate.run()).rejects.toMatchObject({ code: 'STORE_DEGRADED' });
    expect(await gate.run()).toMatchObject({ outcome: 'completed' });
    gate.worker.close();
  });
});

describe('tool calls', () => {
  const three = [call('a', '{"n":1}'), call('b', '{"n":2}'), call('c', 'no json')];

  /** Answers the calls in reverse order, when all have come or each by itself. */
  function slowest(most: { running: number; seen: number }): Answer {
    const model = script([say('', three)]);
    return async (ask, index, context) => {
      if (ask.method !== 'tool/call') return model(ask, index, context);
      most.running += 1;
      most.seen = Math.max(most.seen, most.running);
      for (let turn = 0; turn < 12 - 3 * ask.params.call; turn += 1) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      most.running -= 1;
      return result(`result ${ask.params.call}`);
    };
  }

  test.each([
    [true, 3],
    [false, 1],
  ])(
    '[config:agent.loop.parallel_tool_calls] %s: %d at once, results in call order',
    async (parallelToolCalls, atOnce) => {
      const most = { running: 0, seen: 0 };
      const { end, asks } = await runOnce({
        answer: slowest(most),
        manifest: { parallelToolCalls },
      });
      expect(end).toEqual({ outcome: 'completed', steps: 2 });
      expect(most.seen).toBe(atOnce);
      expect(
        asks.flatMap(({ method, params }) => (method === 'tool/call' ? [params] : [])),
      ).toEqual(
        three.map(({ name, arguments: args }, index) => ({
          turn: 1,
          step: 1,
          call: index + 1,
          name,
          arguments: args,
        })),
      );
      const [, second] = requestsOf(asks);
      expect(second?.messages.slice(-3)).toEqual(
        three.map(({ id, name }, index) => ({
          role: 'tool',
          call_id: id,
          name,
          text: `result ${index + 1}`,
        })),
      );
    },
  );

  test.each([2, 3, 4])(
    '[config:agent.max_tool_calls_per_turn] three calls with a limit of %d',
    async (limit) => {
      const answer = script([say('', three)]);
      const { asks } = await runOnce({ answer, manifest: { maxToolCallsPerTurn: limit } });
      expect(names(asks).filter((name) => name.startsWith('tool/call'))).toHaveLength(
        Math.min(3, limit),
      );
      const messages = requestsOf(asks)[1]?.messages ?? [];
      expect(findMalformed(messages)).toEqual([]);
      const last = messages.at(-1);
      if (last?.role !== 'tool') throw new Error('the last message is a result');
      if (limit >= 3) expect(last.text).toBe('ok');
      else expect(last.text).toContain('at most 2 tool calls');
    },
  );
});

describe('steering', () => {
  test('inputs given to a step stand before its answer, and stay there', async () => {
    const model = script([say('', [call('a')]), say('', [call('b')])]);
    const answer: Answer = (ask, index, context) =>
      ask.method === 'turn/step' && ask.params.step === 2
        ? { steer: [input('rather this', 'in_2')], interrupted: false }
        : model(ask, index, context);
    const { asks } = await runOnce({ answer });
    const [first, second, third] = requestsOf(asks);
    const steer = { role: 'user', content: [{ type: 'text', text: 'rather this' }] };
    expect(first?.messages).not.toContainEqual(steer);
    expect(second?.messages.at(-1)).toEqual(steer);
    expect(third?.messages.slice(0, second?.messages.length)).toEqual(second?.messages);
  });
});

describe('the history of a worker', () => {
  test('grows by the turns it runs', async () => {
    const gate = startGate({ answer: script([say('first'), failed, say('third')]) });
    await gate.initialize();
    for (const turn of [1, 2, 5]) await gate.run(turn, `input ${turn}`);
    const text = (message: object): unknown =>
      'content' in message ? message.content : 'message' in message ? message.message : undefined;
    expect(requestsOf(gate.asks)[2]?.messages.slice(1).map(text)).toEqual([
      [{ type: 'text', text: 'input 1' }],
      { text: 'first', tool_calls: [] },
      [{ type: 'text', text: 'input 2' }],
      [{ type: 'text', text: '[The turn above failed before it was finished.]' }],
      [{ type: 'text', text: 'input 5' }],
    ]);
    gate.worker.close();
  });

  test('the requests of one turn extend each other: a prompt cache serves them', async () => {
    const answer = script(Array.from({ length: 5 }, (_, n) => say(`${n}`, [call(`c${n}`)])));
    const { asks } = await runOnce({ answer });
    const requests = requestsOf(asks);
    for (const [index, { messages }] of requests.entries()) {
      const before = requests[index - 1]?.messages ?? [];
      expect(messages.slice(0, before.length)).toEqual(before);
    }
  });
});
