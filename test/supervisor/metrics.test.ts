/** /metrics as Prometheus reads it: with a parser that is not ours. */
import { afterEach, describe, expect, test } from '@jest/globals';
// @ts-expect-error: it has no declarations; Family says what it gives.
import parsePrometheus from 'parse-prometheus-text-format';
import type { EventEnvelope } from '../../protocol/events.ts';
import { createMeasures } from '../../supervisor/measures.ts';
import { toHostMemory } from '../../supervisor/metrics.ts';
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
const event = (type: string, data: unknown, session = 's_0123456789abcdef'): EventEnvelope => {
  const envelope = { session, seq: 1, epoch: 1, time: STAMP, type, data };
  return envelope as unknown as EventEnvelope;
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

  test('are those that docs/observability.md lists, no more and no fewer', async () => {
    const house = await createHouse();
    const names = parse(await house.supervisor.metrics()).map(({ name }) => name);
    const written = findRows(readText('docs/observability.md'))
      .map(([name = '']) => findCode(name))
      .filter((name) => name?.startsWith('prx_'));
    expect(written.toSorted()).toEqual(names.toSorted());
  });
});

test('hosts are one figure for each kind, also where there is none of it', () => {
  const of = (kind: 'sandbox' | 'worker' | 'mcp', rss_bytes?: number) =>
    ({
      kind,
      pid: 1,
      started_at: STAMP,
      ...(rss_bytes === undefined ? {} : { rss_bytes }),
    }) as const;
  const found = toHostMemory([of('sandbox', 5), of('worker', 7), of('sandbox', 6), of('mcp')]);
  expect(found).toEqual([
    { kind: 'gateway', rssBytes: 0 },
    { kind: 'sandbox', rssBytes: 11 },
    { kind: 'mcp', rssBytes: 0 },
  ]);
});

describe('a worker that is killed', () => {
  test('is a restart with its cause', async () => {
    const house = await createHouse({
      toml: '[agent.worker]\nwarm_pool = 0',
      script: { gateway: answers({ '1.1': () => new Promise(() => undefined) }) },
    });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'model.started');
    house.machine.live('worker')[0]?.die();
    await house.until(id, 'worker.restarting');
    const restarts = find(await house.supervisor.metrics(), 'prx_worker_restarts_total');
    expect(restarts?.metrics).toContainEqual({ value: '1', labels: { cause: 'crashed' } });
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

  test('count restarts by what the worker before died of, each cause from 0 on', () => {
    const measures = createMeasures({ wallMs: () => 0 });
    const die = (session: string, cause: string): void =>
      measures.observe(event('worker.exited', { cause }, session));
    const restart = (session: string): void =>
      measures.observe(event('worker.restarting', {}, session));
    die('s_1', 'memory');
    die('s_2', 'crashed');
    restart('s_2');
    restart('s_1');
    // Asked for: not why another one is started.
    die('s_1', 'stopped');
    restart('s_1');
    expect(Object.fromEntries(measures.read().workerRestarts)).toEqual({
      '{cause="crashed"}': 1,
      '{cause="memory"}': 1,
      '{cause="timeout"}': 0,
      '{cause="unresponsive"}': 0,
      '{cause="protocol"}': 0,
      '{cause="completed"}': 0,
      '{cause="start"}': 1,
    });
  });

  test('forget the oldest of more than 1000 sessions that died and were not restarted', () => {
    const measures = createMeasures({ wallMs: () => 0 });
    for (let at = 0; at <= 1000; at += 1) {
      measures.observe(event('worker.exited', { cause: 'memory' }, `s_${at}`));
    }
    for (const session of ['s_0', 's_1']) {
      measures.observe(event('worker.restarting', {}, session));
    }
    const counts = Object.fromEntries(measures.read().workerRestarts);
    expect(counts).toMatchObject({ '{cause="start"}': 1, '{cause="memory"}': 1 });
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
