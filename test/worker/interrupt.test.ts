import { describe, expect, test } from '@jest/globals';
import { type Clock, realClock } from '../../base/clock.ts';
import { PrxError } from '../../base/errors.ts';
import { INTERRUPT_GRACE_MS } from '../../worker/interrupt.ts';
import {
  type Answer,
  type AskRecord,
  call,
  names,
  requestsOf,
  result,
  runOnce,
  say,
  script,
  startGate,
} from './harness.ts';
import { findMalformed } from './transcript.ts';

/** A turn of two steps with tools, and an answer. */
const longTurn = (): Answer =>
  script([say('', [call('a'), call('b')]), say('and', [call('c')]), say('done')]);

const cancelled: Readonly<Record<AskRecord['method'], unknown>> = {
  'turn/step': { steer: [], interrupted: true },
  'model/generate': { kind: 'cancelled' },
  'tool/call': result('', { status: 'cancelled' }),
  'context/compact': {},
};

/** Resolves once `setImmediate` has come round a few times: what was said has been heard. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A clock whose timers all fire at `fire()`. */
function createManualClock(): Clock & { fire(): void; readonly delays: number[] } {
  const timers = new Set<() => void>();
  const delays: number[] = [];
  return {
    ...realClock,
    delays,
    setTimer(delayMs, fire) {
      if (delayMs !== INTERRUPT_GRACE_MS) return { cancel: () => undefined };
      delays.push(delayMs);
      timers.add(fire);
      return { cancel: () => void timers.delete(fire) };
    },
    fire: () => {
      for (const fire of timers) fire();
    },
  };
}

const total = (await runOnce({ answer: longTurn() })).asks.length;
const points = Array.from({ length: total }, (_, index) => index);

describe.each([true, false])('an interrupt, tools in parallel: %s', (parallelToolCalls) => {
  test.each(points)('while ask %d is open, which the gate then answers cancelled', async (at) => {
    const model = longTurn();
    const gate = startGate({
      manifest: { parallelToolCalls },
      answer: async (ask, index, context) => {
        const given = model(ask, index, context);
        if (index !== at) return given;
        await gate.worker.notify('turn/interrupt', { turn: 1 });
        await settle();
        return cancelled[ask.method];
      },
    });
    await gate.initialize();
    expect(await gate.run()).toMatchObject({ outcome: 'interrupted' });
    // Nothing is asked afterwards, but what was on its way already: parallel calls.
    const late = gate.asks.slice(at + 1).filter(({ method }) => method !== 'tool/call');
    expect(late).toEqual([]);
    await expectGoodNextTurn(gate);
  });

  test.each(points)('while ask %d is open, which the gate never answers', async (at) => {
    const clock = createManualClock();
    const model = longTurn();
    const gate = startGate({
      clock,
      manifest: { parallelToolCalls },
      answer: async (ask, index, context) => {
        const given = model(ask, index, context);
        if (index !== at) return given;
        await gate.worker.notify('turn/interrupt', { turn: 1 });
        await settle();
        expect(clock.delays).toEqual([INTERRUPT_GRACE_MS]);
        clock.fire();
        return new Promise(() => undefined);
      },
    });
    await gate.initialize();
    expect(await gate.run()).toMatchObject({ outcome: 'interrupted' });
    await expectGoodNextTurn(gate);
  });

  async function expectGoodNextTurn(gate: ReturnType<typeof startGate>): Promise<void> {
    const before = requestsOf(gate.asks).length;
    expect(await gate.run(2, 'go on')).toMatchObject({ outcome: 'completed' });
    for (const { messages } of requestsOf(gate.asks).slice(before)) {
      expect(findMalformed(messages)).toEqual([]);
      expect(JSON.stringify(messages)).toContain('was stopped from outside');
    }
    gate.worker.close();
  }
});

describe('an interrupted turn', () => {
  test('is one whose step says so', async () => {
    const answer: Answer = ({ method, params }) =>
      method === 'turn/step' && params.step === 2
        ? { steer: [], interrupted: true }
        : script([say('', [call('a')])])({ method, params } as AskRecord, 0, {} as never);
    const { end, asks } = await runOnce({ answer });
    expect(end).toEqual({ outcome: 'interrupted', steps: 1 });
    expect(names(asks).at(-1)).toBe('turn/step 1.2');
  });

  test('keeps what the model had said', async () => {
    const gate = startGate({ answer: script([say('half an ans', [], 'cancelled')]) });
    await gate.initialize();
    await gate.run();
    await gate.run(2);
    expect(JSON.stringify(requestsOf(gate.asks)[1]?.messages)).toContain('half an ans');
    gate.worker.close();
  });

  test('is completed when its answer was whole before the interrupt came', async () => {
    const gate = startGate({
      answer: async ({ method }) => {
        if (method !== 'model/generate') return undefined;
        await gate.worker.notify('turn/interrupt', { turn: 1 });
        await settle();
        return say('whole');
      },
    });
    await gate.initialize();
    expect(await gate.run()).toEqual({ outcome: 'completed', steps: 1 });
    gate.worker.close();
  });

  test('may be told by a refusal with CANCELLED', async () => {
    const gate = startGate({
      answer: async ({ method }) => {
        if (method !== 'model/generate') return undefined;
        await gate.worker.notify('turn/interrupt', { turn: 1 });
        await settle();
        throw new PrxError('CANCELLED', 'stopped');
      },
    });
    await gate.initialize();
    expect(await gate.run()).toEqual({ outcome: 'interrupted', steps: 1 });
    gate.worker.close();
  });

  test('an interrupt of another turn is too late, and stops nothing', async () => {
    const gate = startGate({
      answer: async ({ method }) => {
        if (method === 'turn/step') await gate.worker.notify('turn/interrupt', { turn: 1 });
        return undefined;
      },
    });
    await gate.initialize();
    await gate.worker.notify('turn/interrupt', { turn: 2 });
    expect(await gate.run(2)).toEqual({ outcome: 'completed', steps: 1 });
    gate.worker.close();
  });
});
