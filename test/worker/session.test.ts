import { describe, expect, test } from '@jest/globals';
import {
  call,
  input,
  NO_DEADLINE,
  noHistory,
  requestsOf,
  result,
  say,
  script,
  startGate,
  stepRecord,
} from './harness.ts';

describe('a worker', () => {
  test('says that it is ready, as its first message', async () => {
    const gate = startGate();
    await gate.initialize();
    expect(gate.ready).toEqual([{ pid: 42, confinement: ['net-namespace'] }]);
    gate.worker.close();
  });

  test('is initialized once', async () => {
    const gate = startGate();
    await gate.initialize();
    await expect(gate.initialize()).rejects.toMatchObject({ code: 'STATE_INVALID' });
    gate.worker.close();
  });

  test('runs no turn before it is initialized', async () => {
    const gate = startGate();
    await expect(gate.run()).rejects.toMatchObject({ code: 'STATE_INVALID' });
    gate.worker.close();
  });

  test('runs one turn at a time', async () => {
    let second: Promise<unknown> = Promise.resolve();
    const gate = startGate({
      answer: async ({ method }) => {
        if (method !== 'turn/step') return undefined;
        second = gate.run(2);
        await expect(second).rejects.toMatchObject({
          code: 'STATE_INVALID',
          message: 'turn 2 cannot run: turn 1 is running in this worker',
        });
        return undefined;
      },
    });
    await gate.initialize();
    expect(await gate.run(1)).toMatchObject({ outcome: 'completed' });
    gate.worker.close();
  });

  test.each([
    ['it ran itself', noHistory, 3],
    ['of its history', { turns: [{ turn: 3, input: input('x'), steps: [stepRecord(1, 'y')] }] }, 0],
  ])('does not run a closed turn again: one %s', async (_, history, runFirst) => {
    const gate = startGate();
    await gate.initialize(history);
    if (runFirst > 0) await gate.run(runFirst);
    for (const turn of [1, 3]) {
      await expect(gate.run(turn)).rejects.toMatchObject({
        code: 'STATE_INVALID',
        message: `turn ${turn} cannot run: turn 3 is closed already`,
      });
    }
    expect(await gate.run(4)).toMatchObject({ outcome: 'completed' });
    gate.worker.close();
  });

  test('refuses malformed params by name', async () => {
    const gate = startGate();
    const answer = gate.worker.request('turn/run', { turn: 'x' } as never, NO_DEADLINE);
    await expect(answer).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    gate.worker.close();
  });

  test('answers pings, as a spare and during a turn', async () => {
    const pings: unknown[] = [];
    const model = script([say('', [call('a')])]);
    const gate = startGate({
      answer: async (ask, index, context) => {
        if (ask.method !== 'tool/call') return model(ask, index, context);
        pings.push(await gate.worker.request('worker/ping', {}, NO_DEADLINE));
        return result('ok');
      },
    });
    pings.push(await gate.worker.request('worker/ping', {}, NO_DEADLINE));
    await gate.initialize();
    await gate.run();
    gate.worker.close();
    expect(pings).toEqual([
      { loopLagMs: 0, rssBytes: 1_000 },
      { loopLagMs: expect.any(Number), rssBytes: 1_000 },
    ]);
  });

  test('a request for a turn that is cancelled interrupts the turn', async () => {
    const abort = new AbortController();
    let release: (outcome: unknown) => void = () => undefined;
    const gate = startGate({
      answer: ({ method, params }) => {
        if (method !== 'model/generate' || params.turn === 2) return undefined;
        abort.abort();
        return new Promise((resolve) => {
          release = resolve;
        });
      },
    });
    await gate.initialize();
    const params = { turn: 1, input: input('hello') };
    const run = gate.worker.request('turn/run', params, { ...NO_DEADLINE, signal: abort.signal });
    await expect(run).rejects.toMatchObject({ code: 'CANCELLED' });
    // Still stopping: the answer to its running ask belongs to the history.
    await expect(gate.run(2)).rejects.toMatchObject({ code: 'STATE_INVALID' });
    release({ kind: 'cancelled' });
    await gate.worker.request('worker/ping', {}, NO_DEADLINE);
    expect(await gate.run(2)).toMatchObject({ outcome: 'completed' });
    expect(JSON.stringify(requestsOf(gate.asks)[1])).toContain('was stopped from outside');
    gate.worker.close();
  });
});
