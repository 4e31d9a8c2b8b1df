/** Traces of a real supervisor: sent to a real receiver, over its own death, at nobody's cost. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EventEnvelope } from '../../protocol/events.ts';
import { type Receiver, roots, startReceiver } from '../supervisor/telemetry/receiver.ts';
import { type Bench, createBench, type Running } from './harness.ts';
import { type ScriptedProvider, startScriptedProvider } from './scripted-provider.ts';

/** Several real processes, on a machine that is busy. */

let provider: ScriptedProvider;
let receiver: Receiver;
let bench: Bench;
let supervisor: Running;

beforeEach(async () => {
  provider = await startScriptedProvider();
  receiver = await startReceiver();
  bench = createBench(`
    [agent]
    model = "scripted"
    [provider]
    base_url = "${provider.url}"
    [telemetry]
    otlp_endpoint = "${receiver.url}"
    [log]
    level = "warn"
  `);
  supervisor = await bench.start({ OTEL_EXPORTER_OTLP_HEADERS: 'x-team=blue' });
});

afterEach(async () => {
  await bench.close();
  await receiver.close();
  await provider.close();
});

async function prompt(script: readonly unknown[]): Promise<string> {
  const { view } = await bench.client.createSession({ workspace: bench.workspace });
  await bench.client.sendInput(view.id, { text: JSON.stringify(script) });
  return view.id;
}

const isEnd = (event: EventEnvelope): boolean => event.type === 'turn.completed';
const exported = async (): Promise<string | undefined> =>
  (await bench.client.getMetrics()).match(/prx_traces_total\{outcome="exported"\} (\d+)/)?.[1];

describe('a supervisor that is killed in mid-turn', () => {
  test('has its turn told once and whole by the next one [promise:supervisor-dies]', async () => {
    const session = await prompt([
      { tool: 'shell', arguments: { command: 'echo first' } },
      { say: 'one two three', holdAfter: 2 },
    ]);
    await provider.held(2);
    supervisor.kill('SIGKILL');
    await supervisor.exited;
    expect(receiver.requests).toEqual([]);
    provider.release();
    supervisor = await bench.start();
    const events = await bench.follow(session, isEnd);
    await receiver.turnEnded();
    const [root] = roots(receiver.spans);
    const { spans } = receiver;
    expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
    expect(spans.every(({ traceId }) => traceId === root?.traceId)).toBe(true);
    const begun = events.filter(({ type }) => /^(model|tool)\.started$/.test(type));
    expect(spans.length).toBe(begun.length + 1);
    const nanos = (event: EventEnvelope | undefined): string =>
      `${Date.parse(event?.time ?? '')}000000`;
    expect(root).toMatchObject({
      startTimeUnixNano: nanos(events.find(({ type }) => type === 'turn.started')),
      endTimeUnixNano: nanos(events.find(isEnd)),
      attributes: { 'prx.outcome': 'completed' },
    });
  });
});

describe('what is sent', () => {
  test('bears the headers of the environment, and nothing that was said', async () => {
    const said = 'walrus';
    const session = await prompt([
      { tool: 'shell', arguments: { command: `echo ${said}` } },
      { say: `the ${said} said` },
    ]);
    await bench.follow(session, isEnd);
    await receiver.turnEnded();
    expect(receiver.requests[0]?.headers).toMatchObject({ 'x-team': 'blue' });
    expect(receiver.bodies.join('')).toContain(session);
    expect(receiver.bodies.join('')).not.toContain(said);
  });
});

describe('a receiver that hangs', () => {
  test('keeps a supervisor neither from its turns nor from its end', async () => {
    receiver.status = 0;
    const session = await prompt([{ say: 'one' }]);
    await bench.follow(session, isEnd);
    await receiver.asked(1);
    await bench.client.sendInput(session, { text: JSON.stringify([{ say: 'two' }]) });
    await bench.follow(session, (event) => isEnd(event) && event.turn === 2);
    expect(await exported()).toBe('0');
    supervisor.kill('SIGTERM');
    expect(await supervisor.exited).toBe(0);
    expect(supervisor.stderr()).toContain('"telemetry.dropped"');
  });
});

describe('the exporter', () => {
  test('is a file of its own, which a start does not read', () => {
    const folder = join(bench.dir, 'dist');
    const holders = readdirSync(folder)
      .filter((name) => name.endsWith('.js'))
      .filter((name) => readFileSync(join(folder, name), 'utf8').includes('OTLPTraceExporter'));
    expect(holders).toEqual([expect.stringMatching(/^chunk-supervisor-otlp-/)]);
  });
});
