/** Traces as a receiver of OTLP/HTTP gets them: one for each turn, whole, once, without content;
 *  and what becomes of them, and of the supervisor, when the receiver fails. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import * as conventions from '@opentelemetry/semantic-conventions/incubating';
import { silentLogger } from '../../../base/logger.ts';
import type { EventEnvelope } from '../../../protocol/events.ts';
import { toToolEffectId } from '../../../protocol/ids.ts';
import type { SessionRecord } from '../../../store/contract.ts';
import { createTelemetry, type SpanExporter } from '../../../supervisor/telemetry/telemetry.ts';
import { readText } from '../../docs/markdown.ts';
import { createHouse, demolish, type House, type HouseSpec } from '../house.ts';
import { answers, call, failed, result, runsEverything, say } from '../script.ts';
import { createSteppedClock } from '../stepped-clock.ts';
import { type Receiver, roots, startReceiver } from './receiver.ts';

let receiver: Receiver;

beforeEach(async () => {
  receiver = await startReceiver();
});

afterEach(async () => {
  await demolish();
  await receiver.close();
});

const openHouse = (spec: HouseSpec = {}): Promise<House> =>
  createHouse({
    ...spec,
    toml: `[telemetry]\notlp_endpoint = "${receiver.url}"\n${spec.toml ?? ''}`,
  });

const traceCounts = async (house: House): Promise<readonly string[]> =>
  (await house.supervisor.metrics()).split('\n').filter((line) => /^prx_traces_total/.test(line));

const bySpan = (spans: Receiver['spans'], name: string): Receiver['spans'][number] => {
  const [found, ...others] = spans.filter((span) => span.name === name);
  if (found === undefined || others.length > 0) throw new Error(`not one span ${name}`);
  return found;
};

describe('[config:telemetry.otlp_endpoint] the trace of a turn', () => {
  test('is the turn, its model calls and its tool calls, with the names of the GenAI conventions', async () => {
    const plan = {
      '1.1#1': failed('PROVIDER_TIMEOUT', 0),
      '1.1': say('', [call('a', 'ls')]),
      '1.2': say('done'),
    };
    const host = runsEverything({ '1.1.1': () => ({ ...result('out'), exit_code: 0 }) });
    const house = await openHouse({ script: { gateway: answers(plan), host } });
    const id = await house.create();
    await house.send(id, 'hello');
    await receiver.turnEnded();
    const [root] = roots(receiver.spans);
    expect(root).toMatchObject({
      name: 'invoke_agent default',
      attributes: {
        'gen_ai.operation.name': 'invoke_agent',
        'gen_ai.conversation.id': id,
        'gen_ai.agent.name': 'default',
        'gen_ai.provider.name': 'offline',
        'gen_ai.usage.input_tokens': 20,
        'gen_ai.usage.output_tokens': 10,
        'prx.turn': 1,
        'prx.outcome': 'completed',
        'prx.cost_usd': 0.5,
      },
      status: { code: 0 },
    });
    const children = receiver.spans.filter((span) => span.parentSpanId === root?.spanId);
    expect(children.map(({ name, status }) => [name.split(' ')[0], status.code])).toEqual([
      ['chat', 2],
      ['chat', 0],
      ['execute_tool', 0],
      ['chat', 0],
    ]);
    expect(children.every(({ traceId }) => traceId === root?.traceId)).toBe(true);
    expect(children[0]?.attributes).toMatchObject({ 'error.type': 'PROVIDER_TIMEOUT' });
    expect(children[1]).toMatchObject({
      kind: 3,
      attributes: {
        'gen_ai.operation.name': 'chat',
        'gen_ai.request.model': expect.any(String),
        'gen_ai.response.model': 'scripted',
        'gen_ai.response.finish_reasons': ['tool_calls'],
        'gen_ai.usage.input_tokens': 10,
        'gen_ai.usage.output_tokens': 5,
        'prx.attempt': 2,
      },
    });
    expect(bySpan(receiver.spans, 'execute_tool shell').attributes).toMatchObject({
      'gen_ai.tool.name': 'shell',
      'gen_ai.tool.call.id': '1.1.1',
      'prx.status': 'ok',
      'prx.sandbox.level': 'bubblewrap',
      'prx.exit_code': 0,
      'prx.policy.decision': 'allow',
    });
    expect(receiver.resources[0]).toMatchObject({ 'service.name': 'prx-supervisor' });
    expect(receiver.requests.map(({ path }) => path)).toEqual(['/v1/traces']);
  });

  test('has nothing of what was said, asked of a tool, or answered by it', async () => {
    const plan = { '1.1': say('word-of-model', [call('a', 'word-of-call')]), '1.2': say('end') };
    const host = runsEverything({ '1.1.1': () => result('word-of-tool', 'error') });
    const house = await openHouse({ script: { gateway: answers(plan), host } });
    const id = await house.create();
    await house.send(id, 'word-of-user');
    await receiver.turnEnded();
    expect(bySpan(receiver.spans, 'execute_tool shell')).toMatchObject({
      attributes: { 'error.type': 'error' },
      status: { code: 2 },
    });
    expect(receiver.bodies.join('')).not.toContain('word-of-');
  });

  test('shows how long a person was waited for, beside the execution', async () => {
    const plan = { '1.1': say('', [call('a', 'ls')]) };
    const toml = '[security.tool_policy]\ndefault = "supervised"\n';
    const house = await openHouse({ toml, script: { gateway: answers(plan) } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, 'approval.requested');
    await house.supervisor.resolveApproval(
      id,
      toToolEffectId(1, 1, 1),
      { decision: 'deny' },
      'token:ann',
    );
    await receiver.turnEnded();
    expect(bySpan(receiver.spans, 'await_approval shell').attributes).toMatchObject({
      'gen_ai.tool.call.id': '1.1.1',
      'prx.approval.decision': 'deny',
      'prx.by': 'token:ann',
    });
    expect(bySpan(receiver.spans, 'execute_tool shell').attributes).toMatchObject({
      'prx.status': 'denied',
    });
  });

  test('is whole and sent once when its supervisor dies in the middle of it', async () => {
    const never = (): Promise<never> => new Promise(() => undefined);
    const gateway = answers({ '1.1': say('', [call('a', 'ls')]), '1.2': never });
    let house = await openHouse({ script: { gateway } });
    const id = await house.create();
    await house.send(id, 'hello');
    await house.until(id, (event) => isStep(event, 'model.started', 2));
    expect(receiver.spans).toEqual([]);
    const before = await house.events(id);
    house = await house.again({ script: { gateway: answers({}) } });
    await house.turnDone(id);
    await receiver.turnEnded();
    await house.send(id, 'and another');
    await receiver.turnEnded(2);
    const [first, second] = roots(receiver.spans);
    const ofFirst = receiver.spans.filter(({ traceId }) => traceId === first?.traceId);
    expect(new Set(receiver.spans.map(({ spanId }) => spanId)).size).toBe(receiver.spans.length);
    expect(second?.traceId).not.toBe(first?.traceId);
    const step1 = ofFirst.find(({ attributes }) => attributes['prx.step'] === 1);
    const started = before.find((event) => isStep(event, 'model.started', 1));
    expect(step1?.startTimeUnixNano).toBe(`${Date.parse(started?.time ?? '')}000000`);
    expect(bySpan(ofFirst, 'execute_tool shell').attributes).toMatchObject({ 'prx.status': 'ok' });
    const step2 = ofFirst.filter(({ attributes }) => attributes['prx.step'] === 2);
    expect(step2.at(-1)).toMatchObject({ status: { code: 0 } });
  });
});

const isStep = ({ type, data }: EventEnvelope, wanted: string, step: number): boolean =>
  type === wanted && (data as { step?: number }).step === step;

describe('[config:telemetry.headers_env] the headers of a request', () => {
  test('are those of the variable, and stand nowhere else', async () => {
    const env = { COLLECTOR: 'authorization=Bearer%20top-secret, x-tenant=blue' };
    const house = await openHouse({ env, toml: 'headers_env = "COLLECTOR"' });
    const id = await house.create();
    await house.send(id, 'hello');
    await receiver.turnEnded();
    const [request] = receiver.requests;
    expect(request?.headers).toMatchObject({
      authorization: 'Bearer top-secret',
      'x-tenant': 'blue',
    });
    expect(receiver.bodies.join('')).not.toContain('top-secret');
  });
});

describe('a receiver that', () => {
  test('refuses is counted, and the next trace is sent all the same', async () => {
    receiver.status = 400;
    const house = await openHouse();
    const id = await house.create();
    await house.send(id, 'one');
    await receiver.asked(1);
    receiver.status = 200;
    await house.send(id, 'two');
    await receiver.turnEnded();
    await house.supervisor.requestStop(0, 'test');
    await house.stopped;
    expect(roots(receiver.spans).map(({ attributes }) => attributes['prx.turn'])).toEqual([2]);
  });

  test('hangs holds up no turn, no metrics and no stop', async () => {
    receiver.status = 0;
    const house = await openHouse();
    const id = await house.create();
    await house.send(id, 'one');
    await receiver.asked(1);
    await house.send(id, 'two');
    await house.turnDone(id, 2);
    expect(await traceCounts(house)).toEqual([
      'prx_traces_total{outcome="exported"} 0',
      'prx_traces_total{outcome="failed"} 0',
      'prx_traces_total{outcome="dropped"} 0',
    ]);
    await house.supervisor.requestStop(0, 'test');
    await house.stopped;
    expect(receiver.spans).toEqual([]);
  });
});

describe('traces that wait', () => {
  const ended = (turn: number): EventEnvelope => {
    const at = { session: 's_0123456789abcdef', seq: turn, epoch: 1, time: '', turn };
    return { ...at, type: 'turn.completed', data: {} } as unknown as EventEnvelope;
  };

  test('are at most 1000: what comes then is dropped and counted, as are those left at the stop', async () => {
    const house = await createHouse();
    const clock = createSteppedClock();
    const { promise: opening } = Promise.withResolvers<SpanExporter>();
    const telemetry = createTelemetry({
      ...{ store: house.store, clock, logger: silentLogger },
      provider: () => 'offline',
      openExporter: () => opening,
    });
    for (let turn = 1; turn <= 1000; turn += 1) telemetry.observe(ended(turn));
    expect(telemetry.counts()).toEqual({ exported: 0, failed: 0, dropped: 0 });
    telemetry.observe(ended(1001));
    expect(telemetry.counts()).toEqual({ exported: 0, failed: 0, dropped: 1 });
    const stopped = telemetry.stop();
    await clock.armed(2000);
    clock.advance(2000);
    await stopped;
    expect(telemetry.counts()).toEqual({ exported: 0, failed: 0, dropped: 1001 });
  });

  test('are sent at the stop when the receiver takes them', async () => {
    const house = await openHouse();
    const id = await house.create();
    await house.send(id, 'hello');
    await house.turnDone(id);
    await house.supervisor.requestStop(0, 'test');
    await house.stopped;
    expect(roots(receiver.spans)).toHaveLength(1);
  });
});

describe('a long turn', () => {
  const STEPS = 700;
  const step = (seq: number, type: string, data: unknown): EventEnvelope => {
    const at = { session: 's_0123456789abcdef', seq, epoch: 1, turn: 1 };
    return { ...at, time: '2026-01-31T12:00:00.000Z', type, data } as unknown as EventEnvelope;
  };
  const events = Array.from({ length: STEPS }, (_, at) => {
    const usage = { input_tokens: 1, output_tokens: 1 };
    const own = { step: at + 1, attempt: 1, model: 'm', usage };
    return [step(2 * at + 1, 'model.started', own), step(2 * at + 2, 'model.completed', own)];
  }).flat();
  const end = { outcome: 'completed', usage: { input_tokens: 1, output_tokens: 1 } };
  const all = [...events, step(2 * STEPS + 1, 'turn.completed', end)];

  test('is read in pages, and sent in requests of at most 512 spans, each span once', async () => {
    const requests: string[][] = [];
    const telemetry = createTelemetry({
      store: {
        readTurn: async (_, { since, until, limit }) =>
          all.filter(({ seq }) => seq > since && seq <= until).slice(0, limit),
        getSession: async () => ({ agent: 'default' }) as unknown as SessionRecord,
      },
      ...{ clock: createSteppedClock(), logger: silentLogger },
      provider: () => 'offline',
      openExporter: async () => ({
        async export(spans) {
          requests.push(spans.map(({ spanId }) => spanId));
        },
        close: async () => undefined,
      }),
    });
    const last = all.at(-1);
    if (last !== undefined) telemetry.observe(last);
    await telemetry.stop();
    expect(telemetry.counts()).toEqual({ exported: 1, failed: 0, dropped: 0 });
    expect(requests.map(({ length }) => length)).toEqual([512, STEPS + 1 - 512]);
    expect(new Set(requests.flat()).size).toBe(STEPS + 1);
  });
});

describe('the attributes of GenAI', () => {
  test('are names that OpenTelemetry publishes', () => {
    const published = new Set<unknown>(Object.values(conventions));
    const own = readText('supervisor/telemetry/spans.ts').match(/'gen_ai\.[\w.]+'/g) ?? [];
    const names = [...new Set(own.map((name) => name.slice(1, -1)))];
    expect(names.length).toBeGreaterThan(10);
    expect(names.filter((name) => !published.has(name))).toEqual([]);
  });
});
