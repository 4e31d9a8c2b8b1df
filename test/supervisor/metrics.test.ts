/** /metrics as Prometheus reads it: with a parser that is not ours. */
import { afterEach, describe, expect, test } from '@jest/globals';
// @ts-expect-error: it has no declarations; Family says what it gives.
import parsePrometheus from 'parse-prometheus-text-format';
import type { EventEnvelope } from '../../protocol/events.ts';
import { createMeasures } from '../../supervisor/measures.ts';
import { findCode, findRows, readText } from '../docs/markdown.ts';
import { createHouse, demolish } from './house.ts';
import { answers, call, say } from './script.ts';

afterEach(demolish);

interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly metrics: readonly Record<string, unknown>[];
}

const parse = (text: string): readonly Family[] => parsePrometheus(text) as Family[];
const find = (text: string, name: string): Family | undefined =>
  parse(text).find((family) => family.name === name);

const STAMP = '1970-01-01T00:00:00.000Z';
const event = (type: string, data: unknown): EventEnvelope => {
  const envelope = { session: 's_0123456789abcdef', seq: 1, epoch: 1, time: STAMP, type, data };
  return envelope as EventEnvelope;
};

describe('the metrics of a supervisor', () => {
  test('after a turn with a tool call: effects, turns, tokens, lag, as one text', async () => {
    const script = { '1.1': say('', [call('a', 'ls')]), '1.2': say('done') };
    const house = await createHouse({ script: { gateway: answers(script) } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id, 1);
    const text = await house.supervisor.metrics();
    const families = parse(text);
    expect(families.every(({ help, type }) => help !== '' && type !== 'UNTYPED')).toBe(true);
    const names = families.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(find(text, 'prx_turns_total')?.metrics).toEqual([
      { value: '1', labels: { outcome: 'completed' } },
    ]);
    expect(find(text, 'prx_model_call_seconds')).toMatchObject({
      type: 'HISTOGRAM',
      metrics: [{ count: '2' }],
    });
    expect(find(text, 'prx_tool_call_seconds')).toMatchObject({
      type: 'HISTOGRAM',
      metrics: [{ buckets: { '+Inf': '1' } }],
    });
    expect(text).toContain('prx_tool_call_seconds_count{status="ok"} 1\n');
    expect(find(text, 'prx_journal_lag_seconds')?.metrics).toHaveLength(1);
  });

  test('are those that docs/metrics.md lists, no more and no fewer', async () => {
    const house = await createHouse();
    const names = parse(await house.supervisor.metrics()).map(({ name }) => name);
    const written = findRows(readText('docs/metrics.md')).map(([name = '']) => findCode(name));
    expect(written.toSorted()).toEqual(names.toSorted());
  });
});

describe('measures', () => {
  test('count ends of workers by cause, and failures by code', () => {
    const measures = createMeasures({ wallMs: () => 0 });
    for (const cause of ['memory', 'crashed', 'memory']) {
      measures.observe(event('worker.exited', { cause }));
    }
    measures.observe(event('model.failed', { error: { code: 'PROVIDER_TIMEOUT' } }));
    expect(measures.read()).toMatchObject({
      workerExits: [
        ['{cause="memory"}', 2],
        ['{cause="crashed"}', 1],
      ],
      modelFailures: [['{code="PROVIDER_TIMEOUT"}', 1]],
    });
  });

  test.each([
    [9, 0],
    [10, 0],
    [11, 1],
    [1_800_000, 12],
    [1_800_001, 13],
  ])('a call of %d ms falls into bucket %d', (latency, bucket) => {
    const measures = createMeasures({ wallMs: () => 0 });
    measures.observe(event('model.completed', { latency_ms: latency }));
    const [histogram] = measures.read().modelCalls;
    expect(histogram?.counts.indexOf(1)).toBe(bucket);
    expect(histogram?.sum).toBe(latency / 1000);
  });

  test('the lag is from the stamp to now; a clock that went back makes none', () => {
    for (const [wallMs, sum] of [
      [250, 0.25],
      [-5, 0],
    ] as const) {
      const measures = createMeasures({ wallMs: () => wallMs });
      measures.observe(event('turn.started', {}));
      measures.observe(event('model.delta', {}));
      expect(measures.read().journalLag).toMatchObject({ sum });
    }
  });
});
